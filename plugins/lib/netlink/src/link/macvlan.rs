//! macvlan links.

use rtnetlink::packet_route::link::{InfoKind, InfoMacVlan, MacVlanMacAddressMode, MacVlanMode};
use rtnetlink::{LinkMacVlan, LinkMessageBuilder};
use sys::Result;

use super::Stacked;
use crate::attr::{Attrs, Malformed};
use crate::message::with;
use crate::{Mac, Netlink};

/// linux/if_link.h, attributes of a macvlan.
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_MACVLAN_MACADDR_DATA: u16 = 5;
const IFLA_MACVLAN_BC_QUEUE_LEN: u16 = 7;

/// net/loopback: the first link of every namespace (LOOPBACK_IFINDEX, net/flow.h).
const LOOPBACK_INDEX: u32 = 1;

/// Isolation of the links (linux/if_link.h, `MACVLAN_MODE_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Links on the same parent do not reach each other, not even through a reflecting switch.
    Private,
    /// All frames leave by the parent; a switch may send them back.
    Vepa,
    /// Links on the same parent reach each other directly.
    Bridge,
    /// The link has the parent to itself, and takes its address.
    Passthru,
    /// Only frames from listed addresses are accepted.
    Source,
}

/// Attributes of a macvlan link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacvlanInfo {
    /// Its mode; `None` for one of a newer kernel.
    pub mode: Option<MacvlanMode>,
    /// The queue length for broadcasts that the link requested (IFLA_MACVLAN_BC_QUEUE_LEN).
    pub bc_queue_len: u32,
    /// Mode source: the accepted source addresses.
    pub sources: Vec<Mac>,
}

/// The macvlan-specific part of a new link.
#[derive(Clone, Copy, Debug)]
pub struct Macvlan<'a> {
    /// Its mode.
    pub mode: MacvlanMode,
    /// The queue length for broadcasts; `None` is the kernel's default, 1000. The parent uses the
    /// maximum of its links.
    pub bc_queue_len: Option<u32>,
    /// Mode source: the accepted source addresses.
    pub sources: &'a [Mac],
}

impl MacvlanMode {
    /// Every mode, by the names that `ip link` uses.
    pub const ALL: [(&'static str, Self); 5] = [
        ("private", Self::Private),
        ("vepa", Self::Vepa),
        ("bridge", Self::Bridge),
        ("passthru", Self::Passthru),
        ("source", Self::Source),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }

    const fn wire(self) -> MacVlanMode {
        match self {
            Self::Private => MacVlanMode::Private,
            Self::Vepa => MacVlanMode::Vepa,
            Self::Bridge => MacVlanMode::Bridge,
            Self::Passthru => MacVlanMode::Passthrough,
            Self::Source => MacVlanMode::Source,
        }
    }
}

impl Macvlan<'_> {
    fn builder(&self) -> LinkMessageBuilder<LinkMacVlan> {
        let link = LinkMessageBuilder::<LinkMacVlan>::new_with_info_kind(InfoKind::MacVlan);
        let length = self.bc_queue_len.map(InfoMacVlan::BcQueueLen);
        let link =
            with(link.mode(self.mode.wire()), length, LinkMessageBuilder::<LinkMacVlan>::append_info_data);
        if self.sources.is_empty() {
            return link;
        }
        let sources = self.sources.iter().map(|mac| InfoMacVlan::MacAddr(mac.0)).collect();
        link.append_info_data(InfoMacVlan::MacAddrMode(MacVlanMacAddressMode::Set))
            .append_info_data(InfoMacVlan::MacAddrData(sources))
    }
}

impl MacvlanInfo {
    /// Reads the IFLA_INFO_DATA of a macvlan.
    pub(crate) fn read(attrs: Attrs<'_>) -> Result<Self, Malformed> {
        let mut info = Self { mode: None, bc_queue_len: 0, sources: Vec::new() };
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_MACVLAN_MODE => {
                    let number = attr.u32()?;
                    let mut modes = MacvlanMode::ALL.into_iter().map(|(_, mode)| mode);
                    info.mode = modes.find(|mode| u32::from(mode.wire()) == number);
                }
                IFLA_MACVLAN_BC_QUEUE_LEN => info.bc_queue_len = attr.u32()?,
                IFLA_MACVLAN_MACADDR_DATA => {
                    for attr in attr.nested() {
                        info.sources.extend(attr?.mac());
                    }
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

impl Netlink {
    /// Creates a macvlan, down.
    ///
    /// # Errors
    /// `is_exists` when the name is taken; EBUSY when the parent has ipvlan links or is a port
    /// itself; EINVAL when it is not an Ethernet link, has a passthru link, or has any link and
    /// passthru is requested, or when the MTU is above the parent's. Nothing was created.
    pub fn create_macvlan(&self, link: &Stacked<'_>, macvlan: &Macvlan<'_>) -> Result<()> {
        self.create_stacked("create macvlan", link.name, link.request(macvlan.builder()))
    }

    /// Whether something else takes the link's frames: macvlan or ipvlan links on it, in any
    /// namespace, or a bridge that it is a port of. No listing shows this, as the kernel hides
    /// other namespaces.
    ///
    /// So this requests a link that cannot be created: a passthru macvlan, which must have its
    /// parent alone, as a port of loopback, which has no ports. The refusal shows how far the
    /// kernel got, and nothing is left, even if the process is killed.
    ///
    /// # Errors
    /// The kernel did not answer the question. Without macvlan in the kernel (CONFIG_MACVLAN) the
    /// answer is yes.
    pub fn is_built_upon(&self, index: u32) -> Result<bool> {
        match self.refusal_of_a_link_on(index)? {
            // The link already has a macvlan, an ipvlan, or a bridge.
            Some(libc::EINVAL | libc::EBUSY) => Ok(true),
            // The kernel got as far as the port of loopback. A kernel without macvlan returns the
            // same errno, and also for a link on loopback, which macvlan refuses as a parent
            // (EINVAL).
            Some(libc::EOPNOTSUPP) => {
                Ok(self.refusal_of_a_link_on(LOOPBACK_INDEX)? == Some(libc::EOPNOTSUPP))
            }
            _ => Ok(true),
        }
    }

    fn refusal_of_a_link_on(&self, parent: u32) -> Result<Option<i32>> {
        const NAME: &str = "moor-question";
        let link =
            Stacked { name: NAME, parent, parent_netns_id: None, mac: None, mtu: None, index: 0, group: 0 };
        let passthru = Macvlan { mode: MacvlanMode::Passthru, bc_queue_len: None, sources: &[] };
        match self.socket.change(link.request(passthru.builder().controller(LOOPBACK_INDEX))) {
            Ok(()) => Ok(None),
            Err(refusal) => match refusal.source.raw_os_error() {
                // The refusal is about memory, not about links.
                None | Some(libc::ENOBUFS | libc::ENOMEM) => {
                    Err(refusal.on("ask for links on", format!("interface {parent}")))
                }
                errno => Ok(errno),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const LINK: Stacked<'_> = Stacked {
        name: "eth0",
        parent: 7,
        parent_netns_id: Some(3),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        mtu: Some(1400),
        index: 0,
        group: 0,
    };

    /// A request and the kernel's description have the same form, so our reader must be able to
    /// read the request.
    fn read_back(macvlan: &Macvlan<'_>) -> crate::Link {
        let request = LINK.request(macvlan.builder());
        read::link(request.finish(1).unwrap().get(16..).unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_read_back() {
        let sources = [Mac([2, 0, 0, 0, 0, 8]), Mac([2, 0, 0, 0, 0, 9])];
        for (name, mode) in MacvlanMode::ALL {
            let link = read_back(&Macvlan { mode, bc_queue_len: Some(2000), sources: &sources });
            assert_eq!((link.name.as_str(), link.mtu, link.mac), ("eth0", 1400, LINK.mac));
            assert_eq!((link.peer_index, link.peer_netns_id), (Some(7), Some(3)));
            assert_eq!(link.kind.as_deref(), Some("macvlan"));
            let info = MacvlanInfo { mode: Some(mode), bc_queue_len: 2000, sources: sources.to_vec() };
            assert_eq!(link.macvlan, Some(info), "{name}");
        }
    }

    #[test]
    fn unset_attributes_are_not_sent() {
        let macvlan = Macvlan { mode: MacvlanMode::Bridge, bc_queue_len: None, sources: &[] };
        let request =
            Stacked { parent_netns_id: None, mac: None, mtu: None, ..LINK }.request(macvlan.builder());
        // nlmsghdr 16, ifinfomsg 16, name 12, link 8, info 4 + (kind 12 + data 4 + (mode 8)).
        assert_eq!(request.finish(1).unwrap().len(), 16 + 16 + 12 + 8 + 4 + 12 + 4 + 8);
    }
}
