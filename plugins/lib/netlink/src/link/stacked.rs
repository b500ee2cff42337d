//! A link that is stacked on another one, its parent: what macvlan and ipvlan have in common.

use libc::RTM_NEWLINK;
use rtnetlink::LinkMessageBuilder;
use rtnetlink::packet_route::link::LinkAttribute;
use sys::Result;

use super::quoted;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request, with};
use crate::{Mac, Netlink};

/// A link to make in the socket's namespace, on a parent that may be in another one.
///
/// The container's socket asks. Before Linux 6.15 the link is born in the parent's namespace all the same, and then put
/// into the socket's within the same request, so the name must be free in both.
#[derive(Clone, Copy, Debug)]
pub struct Stacked<'a> {
    /// Its final name.
    pub name: &'a str,
    /// Index of the parent, in its namespace.
    pub parent: u32,
    /// The number by which the socket's namespace knows the parent's ([`Netlink::make_netns_id`]); none: its own.
    pub parent_netns_id: Option<i32>,
    /// Its Ethernet address; none: the kernel's choice.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes; none: the parent's.
    pub mtu: Option<u32>,
    /// Its index; 0: the kernel's choice.
    pub index: u32,
    /// The group it is born in (IFLA_GROUP); 0 is everybody's.
    pub group: u32,
}

impl Stacked<'_> {
    /// The request; `link` is the builder with what only this kind has.
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
