//! Probes of kernel features, by requests that create nothing.
//!
//! rtnetlink does not know RTM_GETVLAN: this module writes that request itself.

use libc::RTM_NEWLINK;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};
use sys::{Error, Result};

use crate::Netlink;
use crate::message::{NLM_F_CREATE, NLM_F_EXCL, Request};

/// linux/rtnetlink.h: lists the VLANs of bridges, with a `struct br_vlan_msg` (linux/if_bridge.h).
const RTM_GETVLAN: u16 = 114;
/// linux/socket.h.
const AF_BRIDGE: u8 = 7;
/// An index that no link has.
const NO_LINK: i32 = i32::MAX;

impl Netlink {
    /// Whether the kernel has links of `kind`. Like creating one, this makes the kernel load the
    /// kind's module.
    ///
    /// The kernel checks the number of queues (rtnl_create_link) only after it has found the kind,
    /// and the name (register_netdevice) only after that. Both are invalid here, so nothing is
    /// created.
    ///
    /// # Errors
    /// The kernel did not answer the question.
    pub fn has_link_kind(&self, kind: &str) -> Result<bool> {
        let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Other(kind.to_owned()))
            .name("/")
            .append_extra_attribute(LinkAttribute::NumTxQueues(0));
        let request = Request::of(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &link.build()).named(kind);
        supported(self.change("probe for links of kind", request, || kind.to_owned()))
    }

    /// Whether bridges can filter by VLAN (CONFIG_BRIDGE_VLAN_FILTERING); the kernel must have
    /// bridges.
    ///
    /// # Errors
    /// The kernel did not answer the question.
    pub fn has_bridge_vlan_filtering(&self) -> Result<bool> {
        let mut message = vec![AF_BRIDGE, 0, 0, 0];
        message.extend(NO_LINK.to_ne_bytes());
        let listed = self.socket.dump(Request::new(RTM_GETVLAN, 0, &message), |_, _: &mut Vec<()>| Ok(()));
        supported(listed.map(drop).map_err(|refusal| refusal.on("probe for", "VLANs of bridges")))
    }
}

/// The kernel returns EOPNOTSUPP before it checks anything else in these requests.
fn supported(outcome: Result<()>) -> Result<bool> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.errno() == Some(libc::EOPNOTSUPP) => Ok(false),
        Err(Error::Kernel { source, .. }) if source.raw_os_error().is_some() => Ok(true),
        Err(error) => Err(error),
    }
}
