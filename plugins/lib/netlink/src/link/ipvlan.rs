//! ipvlan links.

use rtnetlink::packet_route::link::{InfoKind, IpVlanFlags, IpVlanMode};
use rtnetlink::{LinkIpVlan, LinkMessageBuilder};
use sys::Result;

use super::Stacked;
use crate::Netlink;
use crate::attr::{Attrs, Malformed};
use crate::message::Request;

/// linux/if_link.h, attributes of an ipvlan.
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;

/// The layer of demultiplexing (linux/if_link.h, `IPVLAN_MODE_*`). All links of a parent have the
/// same mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanMode {
    /// By frame, with ARP and neighbour discovery.
    L2,
    /// By packet, routed in the parent's namespace; no broadcast, no multicast.
    L3,
    /// As L3, and netfilter hooks of the parent's namespace see the packets.
    L3s,
}

/// Isolation of the links (linux/if_link.h, `IPVLAN_F_*`). All links of a parent have the same
/// flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// Links on the same parent reach each other directly.
    Bridge,
    /// Links on the same parent do not reach each other.
    Private,
    /// All frames leave by the parent; a switch may send them back.
    Vepa,
}

/// Attributes of an ipvlan link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipvlan {
    /// Its mode.
    pub mode: IpvlanMode,
    /// Its flag.
    pub flag: IpvlanFlag,
}

impl IpvlanMode {
    /// Every mode, by the names that `ip link` uses.
    pub const ALL: [(&'static str, Self); 3] = [("l2", Self::L2), ("l3", Self::L3), ("l3s", Self::L3s)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, mode)| *mode == self).map_or("", |(name, _)| name)
    }

    const fn wire(self) -> IpVlanMode {
        match self {
            Self::L2 => IpVlanMode::L2,
            Self::L3 => IpVlanMode::L3,
            Self::L3s => IpVlanMode::L3S,
        }
    }
}

impl IpvlanFlag {
    /// Every flag, by the names that `ip link` uses.
    pub const ALL: [(&'static str, Self); 3] =
        [("bridge", Self::Bridge), ("private", Self::Private), ("vepa", Self::Vepa)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, flag)| *flag == self).map_or("", |(name, _)| name)
    }

    const fn wire(self) -> IpVlanFlags {
        match self {
            Self::Bridge => IpVlanFlags::empty(),
            Self::Private => IpVlanFlags::Private,
            Self::Vepa => IpVlanFlags::Vepa,
        }
    }
}

impl Ipvlan {
    fn request(self, link: &Stacked<'_>) -> Request {
        let ipvlan = LinkMessageBuilder::<LinkIpVlan>::new_with_info_kind(InfoKind::IpVlan);
        link.request(ipvlan.mode(self.mode.wire()).flag(self.flag.wire()))
    }

    /// Reads the IFLA_INFO_DATA of an ipvlan; `None` when its mode is unknown.
    pub(crate) fn read(attrs: Attrs<'_>) -> Result<Option<Self>, Malformed> {
        let (mut mode, mut flag) = (None, Some(IpvlanFlag::Bridge));
        for attr in attrs {
            let attr = attr?;
            let number = || attr.payload.first_chunk().copied().map(u16::from_ne_bytes);
            match attr.kind {
                IFLA_IPVLAN_MODE => {
                    let mut modes = IpvlanMode::ALL.into_iter().map(|(_, mode)| mode);
                    mode = modes.find(|mode| number() == Some(mode.wire().into()));
                }
                IFLA_IPVLAN_FLAGS => {
                    let mut flags = IpvlanFlag::ALL.into_iter().map(|(_, flag)| flag);
                    flag = flags.find(|flag| number() == Some(flag.wire().bits()));
                }
                _ => {}
            }
        }
        Ok(mode.zip(flag).map(|(mode, flag)| Self { mode, flag }))
    }
}

impl Netlink {
    /// Creates an ipvlan, down. It always has its parent's Ethernet address.
    ///
    /// # Errors
    /// `is_exists` when the name is taken; `is_not_supported` without CONFIG_IPVLAN; EBUSY when the
    /// parent has macvlan links or is a port itself. Nothing was created.
    pub fn create_ipvlan(&self, link: &Stacked<'_>, ipvlan: Ipvlan) -> Result<()> {
        self.create_stacked("create ipvlan", link.name, ipvlan.request(link))
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const LINK: Stacked<'_> =
        Stacked { name: "eth0", parent: 7, parent_netns_id: None, mac: None, mtu: None, index: 0, group: 0 };

    #[test]
    fn a_request_is_read_back() {
        for (_, mode) in IpvlanMode::ALL {
            for (_, flag) in IpvlanFlag::ALL {
                let request = Ipvlan { mode, flag }.request(&LINK);
                let link = read::link(request.finish(1).unwrap().get(16..).unwrap()).unwrap();
                assert_eq!((link.kind.as_deref(), link.peer_index), (Some("ipvlan"), Some(7)));
                assert_eq!(link.ipvlan, Some(Ipvlan { mode, flag }));
            }
        }
    }

    /// IFLA_LINKINFO as iproute2 sends it for `type ipvlan mode l3s vepa`: two u16 attributes.
    #[test]
    fn mode_and_flag_are_sixteen_bits_each() {
        let request = Ipvlan { mode: IpvlanMode::L3s, flag: IpvlanFlag::Vepa }.request(&LINK);
        let bytes = request.finish(1).unwrap();
        let number = |value: u16| value.to_ne_bytes();
        let tail =
            [number(6), number(1), number(2), [0; 2], number(6), number(2), number(2), [0; 2]].concat();
        assert!(bytes.ends_with(&tail), "{bytes:?}");
    }
}
