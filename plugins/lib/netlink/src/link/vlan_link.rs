//! Links of one VLAN of a parent link.

use std::collections::BTreeMap;

use rtnetlink::packet_route::link::{
    InfoKind, InfoVlan, VlanFlags as WireFlags, VlanProtocol as WireProtocol, VlanQosMapping,
};
use rtnetlink::{LinkMessageBuilder, LinkVlan};
use sys::Result;

use super::Stacked;
use crate::Netlink;
use crate::attr::{Attr, Attrs, Malformed};
use crate::message::with;

/// linux/if_link.h, attributes of a VLAN link.
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_FLAGS: u16 = 2;
const IFLA_VLAN_EGRESS_QOS: u16 = 3;
const IFLA_VLAN_INGRESS_QOS: u16 = 4;
const IFLA_VLAN_PROTOCOL: u16 = 5;

/// The tag that carries the VLAN's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VlanProtocol {
    /// IEEE 802.1Q: a customer's tag.
    #[default]
    Dot1q,
    /// IEEE 802.1ad: a provider's tag, around a customer's.
    Dot1ad,
}

/// Flags of a VLAN link (linux/if_vlan.h, `VLAN_FLAG_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanFlags {
    /// Received frames have no tag in their header, as if they were untagged.
    pub reorder_header: bool,
    /// The VLAN is registered with switches by GVRP.
    pub gvrp: bool,
    /// The VLAN is registered with switches by MVRP.
    pub mvrp: bool,
    /// The link can be up while its parent is down.
    pub loose_binding: bool,
}

/// From a priority to another one.
pub type PriorityMap = BTreeMap<u32, u32>;

/// Attributes of a VLAN link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlan {
    /// 0 to 4095; the kernel creates no 4095.
    pub id: u16,
    /// Its tag.
    pub protocol: VlanProtocol,
    /// Its flags.
    pub flags: VlanFlags,
    /// From the priority in a received tag to the packet's. The kernel lists no mapping to 0, which
    /// is its default.
    pub ingress: PriorityMap,
    /// From a sent packet's priority to the one in its tag, likewise.
    pub egress: PriorityMap,
}

impl Default for VlanFlags {
    /// The kernel's.
    fn default() -> Self {
        Self { reorder_header: true, gvrp: false, mvrp: false, loose_binding: false }
    }
}

impl VlanProtocol {
    /// Every protocol, by its name.
    pub const ALL: [(&'static str, Self); 2] = [("802.1q", Self::Dot1q), ("802.1ad", Self::Dot1ad)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(_, protocol)| *protocol == self).map_or("", |(name, _)| name)
    }

    const fn wire(self) -> WireProtocol {
        match self {
            Self::Dot1q => WireProtocol::Ieee8021Q,
            Self::Dot1ad => WireProtocol::Ieee8021Ad,
        }
    }
}

impl VlanFlags {
    /// Each flag by the name that `ip link` uses, and its bit.
    fn each(self) -> [(&'static str, bool, WireFlags); 4] {
        [
            ("reorder_hdr", self.reorder_header, WireFlags::ReorderHdr),
            ("gvrp", self.gvrp, WireFlags::Gvrp),
            ("mvrp", self.mvrp, WireFlags::Mvrp),
            ("loose_binding", self.loose_binding, WireFlags::LooseBinding),
        ]
    }

    /// The flags that are set, by the names that `ip link` uses.
    pub fn names(self) -> Vec<&'static str> {
        self.each().into_iter().filter(|(_, set, _)| *set).map(|(name, ..)| name).collect()
    }

    /// The bits that are set, and all that are meant.
    fn wire(self) -> (WireFlags, WireFlags) {
        self.each().into_iter().fold((WireFlags::empty(), WireFlags::empty()), |(on, mask), (_, set, bit)| {
            (if set { on | bit } else { on }, mask | bit)
        })
    }

    fn read(bits: u32) -> Self {
        let has = |bit: WireFlags| bits & bit.bits() != 0;
        Self {
            reorder_header: has(WireFlags::ReorderHdr),
            gvrp: has(WireFlags::Gvrp),
            mvrp: has(WireFlags::Mvrp),
            loose_binding: has(WireFlags::LooseBinding),
        }
    }
}

impl Vlan {
    /// 802.1Q VLAN `id`, otherwise with the kernel's defaults.
    pub fn dot1q(id: u16) -> Self {
        Self { id, ..Self::default() }
    }

    /// What the kernel has by default is not sent.
    fn builder(&self) -> LinkMessageBuilder<LinkVlan> {
        let link = LinkMessageBuilder::<LinkVlan>::new_with_info_kind(InfoKind::Vlan).id(self.id);
        let unusual = Some(self.protocol).filter(|protocol| *protocol != VlanProtocol::Dot1q);
        let link = with(link, unusual, |link, protocol| link.protocol(protocol.wire()));
        let unusual = Some(self.flags).filter(|flags| *flags != VlanFlags::default());
        let link = with(link, unusual.map(VlanFlags::wire), |link, (on, mask)| link.flags(on, mask));
        let mappings = |map: &PriorityMap| {
            let mappings =
                map.iter().map(|(from, to)| VlanQosMapping::Mapping(*from, *to)).collect::<Vec<_>>();
            Some(mappings).filter(|mappings| !mappings.is_empty())
        };
        let ingress = mappings(&self.ingress).map(InfoVlan::IngressQos);
        let link = with(link, ingress, LinkMessageBuilder::<LinkVlan>::append_info_data);
        let egress = mappings(&self.egress).map(InfoVlan::EgressQos);
        with(link, egress, LinkMessageBuilder::<LinkVlan>::append_info_data)
    }

    /// Reads the IFLA_INFO_DATA of a VLAN link; `None` without a VLAN id, or when its protocol is
    /// unknown.
    pub(crate) fn read(attrs: Attrs<'_>) -> Result<Option<Self>, Malformed> {
        let (mut id, mut protocol) = (None, Some(VlanProtocol::Dot1q));
        let mut vlan = Self::default();
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_VLAN_ID => id = attr.payload.first_chunk().copied().map(u16::from_ne_bytes),
                IFLA_VLAN_PROTOCOL => {
                    let number = attr.payload.first_chunk().copied().map(u16::from_be_bytes);
                    let mut all = VlanProtocol::ALL.into_iter().map(|(_, protocol)| protocol);
                    protocol = all.find(|protocol| number == Some(protocol.wire().into()));
                }
                IFLA_VLAN_FLAGS => vlan.flags = VlanFlags::read(pair(&attr)?.0),
                IFLA_VLAN_INGRESS_QOS => vlan.ingress = priorities(&attr)?,
                IFLA_VLAN_EGRESS_QOS => vlan.egress = priorities(&attr)?,
                _ => {}
            }
        }
        Ok(id.zip(protocol).map(|(id, protocol)| Self { id, protocol, ..vlan }))
    }
}

/// Reads `struct ifla_vlan_flags` or `struct ifla_vlan_qos_mapping` (linux/if_link.h): two u32.
fn pair(attr: &Attr<'_>) -> Result<(u32, u32), Malformed> {
    let number =
        |at: usize| attr.payload.get(at..).and_then(<[u8]>::first_chunk).copied().map(u32::from_ne_bytes);
    number(0).zip(number(4)).ok_or(Malformed("an attribute of a VLAN is too short"))
}

fn priorities(attr: &Attr<'_>) -> Result<PriorityMap, Malformed> {
    attr.nested().map(|attr| pair(&attr?)).collect()
}

impl Netlink {
    /// Creates a VLAN link, down. It has its parent's Ethernet address unless it gets one.
    ///
    /// # Errors
    /// `is_exists` when the name is taken, or the parent already has a link of that VLAN and
    /// protocol, in any namespace; `is_not_supported` without CONFIG_VLAN_8021Q, or when the parent
    /// does not support VLANs; ERANGE for an `id` above 4094.
    pub fn create_vlan(&self, link: &Stacked<'_>, vlan: &Vlan) -> Result<()> {
        self.create_stacked("create VLAN link", link.name, link.request(vlan.builder()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;

    const LINK: Stacked<'_> = Stacked {
        name: "eth0.10",
        parent: 7,
        parent_netns_id: None,
        mac: None,
        mtu: None,
        index: 0,
        group: 5,
    };

    /// A request and the kernel's description have the same form.
    fn read_back(vlan: &Vlan) -> crate::Link {
        let request = LINK.request(vlan.builder());
        read::link(request.finish(1).unwrap().get(16..).unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_read_back() {
        let link = read_back(&Vlan::dot1q(10));
        assert_eq!((link.kind.as_deref(), link.peer_index, link.group), (Some("vlan"), Some(7), 5));
        assert_eq!(link.vlan, Some(Vlan::dot1q(10)));
    }

    #[test]
    fn every_attribute_is_read_back() {
        let flags = VlanFlags { reorder_header: false, gvrp: true, mvrp: true, loose_binding: true };
        let vlan = Vlan {
            id: 4094,
            protocol: VlanProtocol::Dot1ad,
            flags,
            ingress: [(1, 3), (7, 70_000)].into(),
            egress: [(2, 5)].into(),
        };
        assert_eq!(read_back(&vlan).vlan, Some(vlan));
        assert_eq!(flags.names(), ["gvrp", "mvrp", "loose_binding"]);
    }

    #[test]
    fn what_the_kernel_has_by_default_is_not_sent() {
        // nlmsghdr 16, ifinfomsg 16, name 12, link 8, group 8, info 4 + (kind 12 + data 4 + (id 8)).
        let request = LINK.request(Vlan::dot1q(10).builder());
        assert_eq!(request.finish(1).unwrap().len(), 16 + 16 + 12 + 8 + 8 + 4 + 12 + 4 + 8);
    }
}
