//! Links as the kernel describes them: `struct ifinfomsg` and its attributes.

use super::bridge::{BridgeInfo, BridgePort};
use super::{
    IFLA_ADDRESS, IFLA_AF_SPEC, IFLA_GROUP, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA, IFLA_INFO_SLAVE_KIND, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MASTER,
    IFLA_MTU, IFLA_OPERSTATE, IFLA_PERM_ADDRESS, IFLA_PROMISCUITY, IFLA_TXQLEN, Ipvlan, Link, MacvlanInfo,
    OperState, TunInfo, Vlan, VxlanInfo, vrf,
};
use crate::addr::AF_INET6;
use crate::attr::{Attr, Attrs, Malformed};

/// linux/if_link.h, in the IPv6 nest of IFLA_AF_SPEC, and one of its values.
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
/// Length of `struct ifinfomsg` (linux/rtnetlink.h): u8 family, u8 pad, u16 type, i32 index, u32
/// flags, u32 change.
pub(crate) const HEADER: usize = 16;

/// Reads the index in a `struct ifinfomsg`.
pub(crate) fn index(payload: &[u8]) -> Result<u32, Malformed> {
    field(payload, 4)
}

fn field(payload: &[u8], at: usize) -> Result<u32, Malformed> {
    let bytes = payload.get(at..).and_then(<[u8]>::first_chunk).ok_or(Malformed("a link is too short"))?;
    Ok(u32::from_ne_bytes(*bytes))
}

/// Reads the payload of an RTM_NEWLINK.
pub(crate) fn link(payload: &[u8]) -> Result<Link, Malformed> {
    let mut link = Link {
        index: index(payload)?,
        name: String::new(),
        mac: None,
        permanent_mac: None,
        mtu: 0,
        flags: field(payload, 8)?,
        promiscuity: 0,
        queue_length: 0,
        oper_state: OperState::Unknown,
        master: None,
        kind: None,
        peer_index: None,
        peer_netns_id: None,
        alias: None,
        group: 0,
        makes_link_local: false,
        port: None,
        bridge: None,
        macvlan: None,
        ipvlan: None,
        vlan: None,
        tun: None,
        vrf_table: None,
        vxlan: None,
    };
    for attr in Attrs::after(payload, HEADER)? {
        let attr = attr?;
        match attr.kind {
            IFLA_IFNAME => link.name = attr.string(),
            IFLA_ADDRESS => link.mac = attr.mac(),
            IFLA_PERM_ADDRESS => link.permanent_mac = attr.mac(),
            IFLA_MTU => link.mtu = attr.u32()?,
            IFLA_PROMISCUITY => link.promiscuity = attr.u32()?,
            IFLA_TXQLEN => link.queue_length = attr.u32()?,
            IFLA_OPERSTATE => link.oper_state = attr.u8()?.into(),
            IFLA_MASTER => link.master = Some(attr.u32()?),
            IFLA_LINK => link.peer_index = Some(attr.u32()?),
            IFLA_LINK_NETNSID => link.peer_netns_id = Some(attr.i32()?),
            IFLA_IFALIAS => link.alias = Some(attr.string()),
            IFLA_GROUP => link.group = attr.u32()?,
            IFLA_LINKINFO => link_info(&attr, &mut link)?,
            IFLA_AF_SPEC => link.makes_link_local = makes_link_local(&attr)?,
            _ => {}
        }
    }
    Ok(link)
}

/// Reads IFLA_AF_SPEC, with a nest for each family; without an IPv6 nest the link has no IPv6.
fn makes_link_local(attr: &Attr<'_>) -> Result<bool, Malformed> {
    for family in attr.nested() {
        let family = family?;
        if family.kind != u16::from(AF_INET6) {
            continue;
        }
        for attr in family.nested() {
            let attr = attr?;
            if attr.kind == IFLA_INET6_ADDR_GEN_MODE {
                return Ok(attr.u8()? != IN6_ADDR_GEN_MODE_NONE);
            }
        }
        return Ok(true);
    }
    Ok(false)
}

/// Reads IFLA_LINKINFO. The format of the data depends on the kinds, so the data are read last.
fn link_info(attr: &Attr<'_>, link: &mut Link) -> Result<(), Malformed> {
    let (mut data, mut port_kind, mut port_data) = (None, None, None);
    for attr in attr.nested() {
        let attr = attr?;
        match attr.kind {
            IFLA_INFO_KIND => link.kind = Some(attr.string()),
            IFLA_INFO_DATA => data = Some(attr),
            IFLA_INFO_SLAVE_KIND => port_kind = Some(attr.string()),
            IFLA_INFO_SLAVE_DATA => port_data = Some(attr),
            _ => {}
        }
    }
    match (link.kind.as_deref(), data) {
        (Some("bridge"), Some(data)) => link.bridge = Some(BridgeInfo::read(data.nested())?),
        (Some("macvlan"), Some(data)) => link.macvlan = Some(MacvlanInfo::read(data.nested())?),
        (Some("ipvlan"), Some(data)) => link.ipvlan = Ipvlan::read(data.nested())?,
        (Some("vlan"), Some(data)) => link.vlan = Vlan::read(data.nested())?,
        (Some("tun"), Some(data)) => link.tun = Some(TunInfo::read(data.nested())?),
        (Some("vrf"), Some(data)) => link.vrf_table = vrf::table(data.nested())?,
        (Some("vxlan"), Some(data)) => link.vxlan = Some(VxlanInfo::read(data.nested())?),
        _ => {}
    }
    if let (Some("bridge"), Some(data)) = (port_kind.as_deref(), port_data) {
        link.port = Some(BridgePort::read(data.nested())?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::attr::Writer;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..300)) {
            let _ = link(&bytes);
        }

        /// Attributes with known types and any payload, nested ones too.
        #[test]
        fn any_attributes_are_read_without_panic(
            kind in prop_oneof![Just("bridge"), Just("macvlan"), Just("ipvlan"), Just("vlan"), Just("tun"), Just("vxlan")],
            attrs in vec((0u16..64, vec(any::<u8>(), 0..24)), 0..12),
        ) {
            let mut writer = Writer::default();
            writer.raw(&[0; HEADER]);
            writer.nest(IFLA_LINKINFO, |w| {
                w.string(IFLA_INFO_KIND, kind);
                w.string(IFLA_INFO_SLAVE_KIND, "bridge");
                w.nest(IFLA_INFO_DATA, |w| attrs.iter().for_each(|(kind, bytes)| w.bytes(*kind, bytes)));
                w.nest(IFLA_INFO_SLAVE_DATA, |w| attrs.iter().for_each(|(kind, bytes)| w.bytes(*kind, bytes)));
            });
            attrs.iter().for_each(|(kind, bytes)| writer.bytes(*kind, bytes));
            let _ = link(&writer.finish().unwrap());
        }
    }

    #[test]
    fn an_empty_description_is_an_error() {
        assert!(link(&[]).is_err());
        assert!(link(&[0; HEADER - 1]).is_err());
    }
}
