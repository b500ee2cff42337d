//! A link that is stacked on another one, its parent: what macvlan and ipvlan have in common.

use sys::Result;

use super::{
    IFLA_ADDRESS, IFLA_GROUP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINK_NETNSID,
    IFLA_LINKINFO, IFLA_MTU, RTM_NEWLINK, header, quoted,
};
use crate::attr::Writer;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request};
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
    /// The request; `data` writes what only this kind has.
    pub(crate) fn request(&self, kind: &str, data: impl FnOnce(&mut Writer)) -> Request {
        let mut request = Request::new(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &header(0, self.index, 0, 0));
        let attrs = &mut request.attrs;
        attrs.string(IFLA_IFNAME, self.name);
        attrs.u32(IFLA_LINK, self.parent);
        if let Some(id) = self.parent_netns_id {
            attrs.i32(IFLA_LINK_NETNSID, id);
        }
        if let Some(mac) = self.mac {
            attrs.bytes(IFLA_ADDRESS, &mac.0);
        }
        if let Some(mtu) = self.mtu {
            attrs.u32(IFLA_MTU, mtu);
        }
        if self.group != 0 {
            attrs.u32(IFLA_GROUP, self.group);
        }
        attrs.nest(IFLA_LINKINFO, |attrs| {
            attrs.string(IFLA_INFO_KIND, kind);
            attrs.nest(IFLA_INFO_DATA, data);
        });
        request
    }
}

impl Netlink {
    pub(crate) fn create_stacked(&self, op: &'static str, name: &str, request: Request) -> Result<()> {
        self.change(op, request, || quoted(name))
    }
}
