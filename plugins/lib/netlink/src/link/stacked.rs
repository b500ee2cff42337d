//! A link stacked on another one, its parent: the common part of macvlan and ipvlan.

use libc::RTM_NEWLINK;
use rtnetlink::LinkMessageBuilder;
use rtnetlink::packet_route::link::LinkAttribute;
use sys::Result;

use super::quoted;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request, with};
use crate::{Mac, Netlink};

/// A link to create in the socket's namespace, on a parent that may be in another one.
///
/// The container's socket sends the request. Before Linux 6.15 the kernel still creates the link in
/// the parent's namespace and moves it within the same request, so the name must be free in both.
#[derive(Clone, Copy, Debug)]
pub struct Stacked<'a> {
    /// Its final name.
    pub name: &'a str,
    /// Index of the parent, in its namespace.
    pub parent: u32,
    /// The socket's namespace's id for the parent's ([`Netlink::make_netns_id`]); `None` is its
    /// own.
    pub parent_netns_id: Option<i32>,
    /// Its Ethernet address; `None` lets the kernel choose.
    pub mac: Option<Mac>,
    /// Its MTU, in bytes; `None` is the parent's.
    pub mtu: Option<u32>,
    /// Its index; 0 lets the kernel choose.
    pub index: u32,
    /// The group that it is created in (IFLA_GROUP); 0 is the default group.
    pub group: u32,
}

impl Stacked<'_> {
    /// The request; `link` is a builder with the attributes of this kind.
    pub(crate) fn request<T>(&self, link: LinkMessageBuilder<T>) -> Request {
        let link = link.name(self.name).index(self.index).link(self.parent);
        let link = with(
            link,
            self.parent_netns_id.map(LinkAttribute::LinkNetNsId),
            LinkMessageBuilder::append_extra_attribute,
        );
        let link = with(link, self.mac, |link, mac| link.address(mac.0.to_vec()));
        let link = with(link, self.mtu, LinkMessageBuilder::mtu);
        let link = with(link, Some(self.group).filter(|&group| group != 0), LinkMessageBuilder::link_group);
        Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link.build()).named(self.name)
    }
}

impl Netlink {
    pub(crate) fn create_stacked(&self, op: &'static str, name: &str, request: Request) -> Result<()> {
        self.change(op, request, || quoted(name))
    }
}
