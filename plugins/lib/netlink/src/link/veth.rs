//! veth pairs, created by one request.

use std::os::fd::{AsRawFd, BorrowedFd};

use libc::RTM_NEWLINK;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use sys::Result;

use super::quoted;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request, with};
use crate::{Mac, Netlink};

/// The near end of a pair, in the socket's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its Ethernet address; `None` lets the kernel choose.
    pub mac: Option<Mac>,
    /// Its MTU, in bytes; `None` is 1500.
    pub mtu: Option<u32>,
    /// Index of the bridge it becomes a port of.
    pub master: Option<u32>,
    /// Set it up.
    pub up: bool,
    /// The far end.
    pub peer: VethPeer<'a>,
}

/// The far end of a pair. It cannot be created up: the kernel refuses (ENOTCONN) while the near end
/// does not exist.
#[derive(Clone, Copy, Debug)]
pub struct VethPeer<'a> {
    /// Its final name.
    pub name: &'a str,
    /// Its Ethernet address; `None` lets the kernel choose.
    pub mac: Option<Mac>,
    /// Its MTU, in bytes; `None` is 1500.
    pub mtu: Option<u32>,
    /// The namespace it is created in ([`sys::NetNs`] is `AsFd`); `None` is the socket's own.
    pub netns: Option<BorrowedFd<'a>>,
}

/// The common attributes of both ends.
fn end<T>(link: LinkMessageBuilder<T>, mac: Option<Mac>, mtu: Option<u32>) -> LinkMessageBuilder<T> {
    let link = with(link, mac, |link, mac| link.address(mac.0.to_vec()));
    with(link, mtu, LinkMessageBuilder::mtu)
}

fn request(veth: &Veth<'_>) -> Request {
    let peer = end(LinkUnspec::new_with_name(veth.peer.name), veth.peer.mac, veth.peer.mtu);
    let peer = with(peer, veth.peer.netns, |peer, netns| peer.setns_by_fd(netns.as_raw_fd()));
    let link = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(veth.name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())));
    let link = with(end(link, veth.mac, veth.mtu), veth.master, LinkMessageBuilder::controller);
    let link = if veth.up { link.up() } else { link };
    Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link.build()).named(veth.name).named(veth.peer.name)
}

impl Netlink {
    /// Creates the pair in one request: neither end is in the wrong namespace at any time.
    ///
    /// # Errors
    /// `is_exists` when either name is taken in its namespace; any other refusal. Nothing was
    /// created.
    pub fn create_veth(&self, veth: &Veth<'_>) -> Result<()> {
        self.change("create veth", request(veth), || {
            format!("{} with peer {}", quoted(veth.name), quoted(veth.peer.name))
        })
    }
}
