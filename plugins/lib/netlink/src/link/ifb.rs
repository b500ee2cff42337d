//! Intermediate functional blocks: links that packets are led through, so that their queueing
//! discipline acts on arriving packets.

use libc::RTM_NEWLINK;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use sys::Result;

use super::quoted;
use crate::Netlink;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request};

fn request(name: &str, mtu: u32) -> Request {
    let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Ifb)
        .name(name.to_owned())
        .mtu(mtu)
        .append_extra_attribute(LinkAttribute::TxQueueLen(0));
    Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link.build()).named(name)
}

impl Netlink {
    /// Creates an IFB link of this MTU in bytes, down.
    ///
    /// # Errors
    /// `is_exists` when the name is taken; `is_not_supported` without CONFIG_IFB.
    pub fn create_ifb(&self, name: &str, mtu: u32) -> Result<()> {
        self.change("create ifb link", request(name, mtu), || quoted(name))
    }
}
