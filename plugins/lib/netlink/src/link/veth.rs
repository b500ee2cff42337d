//! A veth pair, made by one request.

use std::os::fd::{AsRawFd, BorrowedFd};

use sys::Result;

use super::{
    IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU,
    IFLA_NET_NS_FD, RTM_NEWLINK, header, quoted,
};
use crate::attr::Writer;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request};
use crate::{Mac, Netlink};

/// linux/veth.h: the far end, a `struct ifinfomsg` and attributes of its own.
const VETH_INFO_PEER: u16 = 1;

/// The near end of a pair, in the socket's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; none: the kernel draws one.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes; none: 1500.
    pub mtu: Option<u32>,
    /// Index of the bridge it becomes a port of.
    pub master: Option<u32>,
    /// Set up.
    pub up: bool,
    /// The far end.
    pub peer: VethPeer<'a>,
}

/// The far end of a pair. It cannot be born up: the kernel refuses (ENOTCONN) while there is no near end yet.
#[derive(Clone, Copy, Debug)]
pub struct VethPeer<'a> {
    /// Its final name.
    pub name: &'a str,
    /// Its Ethernet address; none: the kernel draws one.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes; none: 1500.
    pub mtu: Option<u32>,
    /// The namespace it is born in ([`sys::NetNs`] is `AsFd`); none: the socket's own.
    pub netns: Option<BorrowedFd<'a>>,
}

/// What both ends have.
fn end(attrs: &mut Writer, name: &str, mac: Option<Mac>, mtu: Option<u32>) {
    attrs.string(IFLA_IFNAME, name);
    if let Some(mac) = mac {
        attrs.bytes(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = mtu {
        attrs.u32(IFLA_MTU, mtu);
    }
}

fn request(veth: &Veth<'_>) -> Request {
    let flags = if veth.up { IFF_UP } else { 0 };
    let mut request = Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header(0, 0, flags, flags));
    end(&mut request.attrs, veth.name, veth.mac, veth.mtu);
    if let Some(master) = veth.master {
        request.attrs.u32(IFLA_MASTER, master);
    }
    request.attrs.nest(IFLA_LINKINFO, |attrs| {
        attrs.string(IFLA_INFO_KIND, "veth");
        attrs.nest(IFLA_INFO_DATA, |attrs| {
            attrs.nest(VETH_INFO_PEER, |attrs| {
                attrs.raw(&header(0, 0, 0, 0));
                end(attrs, veth.peer.name, veth.peer.mac, veth.peer.mtu);
                if let Some(netns) = veth.peer.netns {
                    attrs.i32(IFLA_NET_NS_FD, netns.as_raw_fd());
                }
            });
        });
    });
    request
}

impl Netlink {
    /// Makes the pair in one request: there is no instant at which one end is in the wrong place.
    ///
    /// # Errors
    /// `is_exists` when either name is taken in its namespace; whatever else the kernel said. Nothing was made.
    pub fn create_veth(&self, veth: &Veth<'_>) -> Result<()> {
        self.change("create veth", request(veth), || {
            format!("{} with peer {}", quoted(veth.name), quoted(veth.peer.name))
        })
    }
}
