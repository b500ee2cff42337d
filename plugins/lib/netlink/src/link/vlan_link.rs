//! 802.1Q links: one VLAN of a parent link as a link of its own.

use rtnetlink::packet_route::link::InfoKind;
use rtnetlink::{LinkMessageBuilder, LinkVlan};
use sys::Result;

use super::Stacked;
use crate::Netlink;
use crate::attr::{Attrs, Malformed};

/// linux/if_link.h, attributes of a VLAN link.
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;

/// linux/if_ether.h: the tag of IEEE 802.1Q (802.1ad uses another).
const ETH_P_8021Q: u16 = 0x8100;

/// Attributes of a VLAN link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanInfo {
    /// 0 to 4095.
    pub id: u16,
    /// Whether the tag is that of IEEE 802.1Q.
    pub dot1q: bool,
}

impl VlanInfo {
    /// Reads the IFLA_INFO_DATA of a VLAN link; `None` without a VLAN id.
    pub(crate) fn read(attrs: Attrs<'_>) -> Result<Option<Self>, Malformed> {
        let (mut id, mut dot1q) = (None, true);
        for attr in attrs {
            let attr = attr?;
            match attr.kind {
                IFLA_VLAN_ID => id = attr.payload.first_chunk().copied().map(u16::from_ne_bytes),
                IFLA_VLAN_PROTOCOL => dot1q = attr.payload.starts_with(&ETH_P_8021Q.to_be_bytes()),
                _ => {}
            }
        }
        Ok(id.map(|id| Self { id, dot1q }))
    }
}

fn kind() -> LinkMessageBuilder<LinkVlan> {
    LinkMessageBuilder::new_with_info_kind(InfoKind::Vlan)
}

impl Netlink {
    /// Creates the link of 802.1Q VLAN `id` on `link.parent`, down.
    ///
    /// # Errors
    /// `is_exists` when the name is taken or the parent already has a link for that VLAN;
    /// `is_not_supported` without CONFIG_VLAN_8021Q, or when the parent does not support VLANs;
    /// ERANGE for an `id` above 4094.
    pub fn create_vlan(&self, link: &Stacked<'_>, id: u16) -> Result<()> {
        let request = link.request(kind().id(id));
        self.create_stacked("create VLAN link", link.name, request)
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_route::link::VlanProtocol;

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

    #[test]
    fn a_request_is_read_back() {
        let request = LINK.request(kind().id(10));
        let link = read::link(request.finish(1).unwrap().get(16..).unwrap()).unwrap();
        assert_eq!((link.kind.as_deref(), link.peer_index, link.group), (Some("vlan"), Some(7), 5));
        assert_eq!(link.vlan, Some(VlanInfo { id: 10, dot1q: true }));
    }

    #[test]
    fn an_802_1ad_link_is_not_an_802_1q_link() {
        let request = LINK.request(kind().id(10).protocol(VlanProtocol::Ieee8021Ad));
        let link = read::link(request.finish(1).unwrap().get(16..).unwrap()).unwrap();
        assert_eq!(link.vlan, Some(VlanInfo { id: 10, dot1q: false }));
    }
}
