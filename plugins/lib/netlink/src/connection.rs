//! The rtnetlink socket.

use std::os::fd::AsFd;

use netlink_sys::protocols::NETLINK_ROUTE;
use sys::{Error, NetNs, Result};

use crate::message::Request;
use crate::socket::Socket;

/// An rtnetlink socket. It stays in the network namespace it was opened in, even if the thread
/// moves.
#[derive(Debug)]
pub struct Netlink {
    pub(crate) socket: Socket,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The socket cannot be created.
    pub fn open() -> Result<Self> {
        Socket::open(NETLINK_ROUTE)
            .map(|socket| Self { socket })
            .map_err(|error| Error::new("open", "a route netlink socket", error))
    }

    /// Opens a socket in `netns`, from any namespace.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the socket cannot be created.
    pub fn open_in(netns: &NetNs) -> Result<Self> {
        netns.enter(Self::open)?
    }

    /// The cookie of its namespace, which no other has until the next boot; `None` before Linux 5.14.
    pub fn netns_cookie(&self) -> Option<u64> {
        NetNs::cookie_of_socket(self.socket.as_fd())
    }

    /// Requests a change; `object` is only evaluated when the kernel refuses.
    pub(crate) fn change(
        &self,
        op: &'static str,
        request: Request,
        object: impl FnOnce() -> String,
    ) -> Result<()> {
        self.socket.change(request).map_err(|refusal| refusal.on(op, object()))
    }

    /// Describes a link in an error message: by its name, if it still has one.
    pub(crate) fn link_label(&self, index: u32) -> String {
        match self.link_by_index(index) {
            Ok(Some(link)) => format!("\"{}\"", link.name.escape_debug()),
            _ => format!("interface {index}"),
        }
    }
}
