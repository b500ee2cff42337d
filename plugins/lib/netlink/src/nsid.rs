//! A namespace's ids for other namespaces (linux/net_namespace.h): a link's parent in another
//! namespace is identified by its index and such an id.
//!
//! The requests are rtnetlink messages; rtnetlink's own builder would need its asynchronous
//! connection.

use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{RTM_GETNSID, RTM_NEWNSID};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use sys::Result;

use crate::Netlink;
use crate::attr::{Attrs, Malformed};
use crate::message::{Refusal, Request};

/// linux/net_namespace.h, attributes.
const NETNSA_NSID: u16 = 1;

/// `struct rtgenmsg` (linux/rtnetlink.h), a u8 family, padded.
const HEADER: usize = 4;

/// NETNSA_NSID_NOT_ASSIGNED: in an answer, there is no id; in a request, any id.
const NONE: i32 = -1;

fn message(other: BorrowedFd<'_>) -> NsidMessage {
    let mut message = NsidMessage::default();
    message.attributes.push(NsidAttribute::Fd(other.as_raw_fd().cast_unsigned()));
    message
}

impl Netlink {
    /// Returns the id of the socket's namespace for `other`; `None` when there is none, or `other`
    /// is the socket's own.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn netns_id(&self, other: BorrowedFd<'_>) -> Result<Option<i32>> {
        let request = Request::of(RTM_GETNSID, 0, &message(other));
        let id = self.socket.get(request, |payload| Ok(read(payload)?));
        id.map(|id| (id != NONE).then_some(id)).map_err(|refusal| refusal.on("look up", "a namespace's id"))
    }

    /// Lists the ids of the namespaces that the socket's has a number for.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn netns_ids(&self) -> Result<Vec<i32>> {
        let request = Request::of(RTM_GETNSID, 0, &NsidMessage::default());
        let listed = self.socket.dump(request, |payload, ids| {
            ids.push(read(payload)?);
            Ok(())
        });
        listed.map_err(|refusal| refusal.on("list", "the ids of namespaces"))
    }

    /// As [`Netlink::netns_id`], but assigns an id if there is none; it stays as long as both
    /// namespaces live.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn make_netns_id(&self, other: BorrowedFd<'_>) -> Result<i32> {
        if let Some(id) = self.netns_id(other)? {
            return Ok(id);
        }
        let mut namespace = message(other);
        namespace.attributes.push(NsidAttribute::Id(NONE));
        let request = Request::of(RTM_NEWNSID, 0, &namespace);
        match self.socket.change(request) {
            // Another process has just assigned one.
            Err(refusal) if refusal.is(libc::EEXIST) => {}
            made => made.map_err(|refusal| refusal.on("number", "a namespace"))?,
        }
        let unknown = || Refusal { source: std::io::ErrorKind::NotFound.into(), message: None };
        self.netns_id(other)?.ok_or_else(|| unknown().on("look up", "the id that a namespace was assigned"))
    }
}

pub(crate) fn read(payload: &[u8]) -> Result<i32, Malformed> {
    for attr in Attrs::after(payload, HEADER)? {
        let attr = attr?;
        if attr.kind == NETNSA_NSID {
            return attr.i32();
        }
    }
    Ok(NONE)
}
