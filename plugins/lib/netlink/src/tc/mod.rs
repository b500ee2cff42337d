//! Traffic control (linux/pkt_sched.h, linux/pkt_cls.h): queueing disciplines, their classes, and
//! filters.
//!
//! rtnetlink has the header. It has no token bucket, no class and no reader that skips unknown
//! disciplines, so their options are written and read here.

mod class;
mod discipline;
mod filter;
mod handle;
mod qdisc;
mod rate;

use rtnetlink::packet_route::tc::TcHeader;

use crate::attr::{Attr, Attrs, Malformed};
use crate::message::Request;

pub use class::RateClass;
pub use discipline::{Classes, Discipline, FairQueue, TokenBucket};
pub use filter::{Filter, Key, Rule};
pub use handle::Handle;
pub use qdisc::Qdisc;

/// linux/rtnetlink.h, attributes of each of these objects.
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
/// linux/netlink.h: the requester gets the answer that others get as an event. Without it the
/// kernel answers none of RTM_GETQDISC, RTM_GETTCLASS and RTM_GETTFILTER.
const NLM_F_ECHO: u16 = 0x08;

/// Length of `struct tcmsg` (linux/rtnetlink.h): u8 family, u8 and u16 padding, i32 index, u32
/// handle, u32 parent, u32 info.
const HEADER: usize = 20;

/// A description of any of these objects.
struct Description<'a> {
    index: u32,
    handle: Handle,
    parent: Handle,
    info: u32,
    kind: String,
    options: Option<Attr<'a>>,
}

impl<'a> Description<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let field = |at| word(payload, at).ok_or(Malformed("a traffic control message is too short"));
        let mut found = Self {
            index: field(4)?,
            handle: Handle(field(8)?),
            parent: Handle(field(12)?),
            info: field(16)?,
            kind: String::new(),
            options: None,
        };
        for attr in Attrs::after(payload, HEADER)? {
            let attr = attr?;
            match attr.kind {
                TCA_KIND => found.kind = attr.string(),
                TCA_OPTIONS => found.options = Some(attr),
                _ => {}
            }
        }
        Ok(found)
    }

    /// The attributes in its options.
    fn nested(&self) -> Attrs<'a> {
        self.options.map_or_else(|| Attrs::new(&[]), |options| options.nested())
    }
}

/// The number of four bytes at an offset, in host byte order.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A request about an object of a link.
fn request(kind: u16, flags: u16, index: u32, parent: Handle, handle: Handle, info: u32) -> Request {
    let header = TcHeader {
        index: index.cast_signed(),
        handle: handle.0.into(),
        parent: parent.0.into(),
        info,
        ..TcHeader::default()
    };
    Request::of(kind, flags, &header)
}

/// Reads a payload as each of these objects, for the fuzzer.
pub(crate) fn read_any(payload: &[u8]) {
    let _ = (qdisc::read(payload), class::read(payload), filter::read(payload));
}
