//! The address filter of bridge ports: what arrives by a port has one of the container's addresses
//! as its source, in IP, ARP and neighbour advertisements. It is dropped before the bridge forwards
//! it. The MAC addresses of frames are checked by `macspoofchk`.
//!
//! ```text
//! set address-ports { type ifname; elements = { "veth01234567" comment "moor/net/eth0/c1" } }
//! set frame-macs    { type ifname . ether_addr }
//! set frame-ips4    { type ifname . ipv4_addr }
//! set frame-ips6    { type ifname . ipv6_addr }
//! chain addressspoofchk { type filter hook prerouting priority -299; … }
//! ```
//!
//! 0.0.0.0 and :: are sources of hosts that look for an address or probe it, and link-local ones of
//! IPv6 are not routed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink::Mac;
use nft::{
    Base, Batch, Chain, Compare, Data, Element, Field, Hook, Kind, Nft, Policy, Rule, Set, Type, Value,
    Verdict,
};
use sys::Result;

use super::spoof::TABLE;
use super::{
    Filled, Group, Left, Owned, Restored, delete_of_link, element_drifts, ensure, owned, restore, retire,
};
use crate::Drift;

const CHAIN: Chain<'static> = Chain { table: TABLE, name: "addressspoofchk" };
/// After the check of MAC addresses.
const BASE: Base =
    Base { kind: Kind::Filter, hook: Hook::Prerouting, priority: -299, policy: Policy::Accept };
const PORTS: Set<'static> =
    Set { table: TABLE, name: "address-ports", key: &[Type::Ifname], data: Data::None, interval: false };
const MACS: Set<'static> = Set { name: "frame-macs", key: &[Type::Ifname, Type::Ether], ..PORTS };
const IPS4: Set<'static> = Set { name: "frame-ips4", key: &[Type::Ifname, Type::Ipv4], ..PORTS };
const IPS6: Set<'static> = Set { name: "frame-ips6", key: &[Type::Ifname, Type::Ipv6], ..PORTS };
pub(super) const SETS: [Set<'static>; 4] = [PORTS, MACS, IPS4, IPS6];
const COMMENTED: [(Set<'static>, &str); 4] = [
    (PORTS, "ports with checked addresses"),
    (MACS, "what they may announce"),
    (IPS4, "what they may send"),
    (IPS6, "what they may send"),
];

/// linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
/// IPPROTO_ICMPV6.
const ICMPV6: u8 = 58;
/// RFC 4861, section 4.4.
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// A port, and the only addresses that it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed<'a> {
    /// Name of the port; it need not exist yet.
    pub port: &'a str,
    /// The container's MAC address.
    pub mac: Mac,
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// The owner: see [`crate::Owner::label`].
    pub label: &'a str,
}

impl Addressed<'_> {
    /// Adds the elements. Replaces those of an earlier port of this name, which left its filter
    /// behind.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, nft: &Nft) -> Result<()> {
        nft.transact(|nft, batch| {
            ensure(nft, batch, &TABLE, &COMMENTED, &[chain()])?;
            if nft.element(&PORTS, &Element::new(Value::new().ifname(self.port)))?.is_some() {
                delete_of_link(nft, batch, &SETS, self.port)?;
            }
            for (set, element) in self.elements() {
                batch.create_elements(&set, &[element]);
            }
            Ok(())
        })
    }

    /// Adds to `batch` what is missing of all of these. Call it inside [`Nft::transact`].
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn restore(all: &[Self], nft: &Nft, batch: &mut Batch, restored: &mut Restored) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        let elements = all.iter().flat_map(Self::elements).collect();
        let group = Group { table: TABLE, sets: &COMMENTED, chains: &[chain()], elements };
        restore(nft, batch, group, restored)
    }

    /// Differences between the expected and the actual state.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft) -> Result<Vec<Drift>> {
        let mut drifts = chain().drifts(nft)?;
        drifts.extend(element_drifts(nft, self.elements(), self.label)?);
        Ok(drifts)
    }

    fn elements(&self) -> Vec<(Set<'static>, Element)> {
        let port = Value::new().ifname(self.port);
        let mut keys = vec![(PORTS, port), (MACS, port.mac(self.mac))];
        for address in self.addresses {
            keys.push((if address.is_ipv4() { IPS4 } else { IPS6 }, port.addr(*address)));
        }
        keys.into_iter().map(|(set, key)| (set, Element::new(key).comment(self.label))).collect()
    }
}

/// Deletes the elements with an owner that `is_ours` accepts.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub(super) fn delete(nft: &Nft, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<()> {
    // Most hosts have none.
    if nft.set_is(&PORTS)?.is_none() {
        return Ok(());
    }
    while nft.transact(|nft, batch| delete_some(nft, batch, is_ours))? == Left::Some {}
    Ok(())
}

fn delete_some(nft: &Nft, batch: &mut Batch, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<Left> {
    let Some(Owned { elements, is_all, left }) = owned(nft, &SETS, is_ours)? else {
        return Ok(Left::Nothing);
    };
    if is_all {
        let chains: Vec<Chain<'_>> = nft.chain(&CHAIN)?.map(|_| CHAIN).into_iter().collect();
        retire(nft, batch, &TABLE, &chains, &SETS)?;
    } else {
        elements.iter().for_each(|(set, ours)| batch.del_elements(set, ours));
    }
    Ok(left)
}

fn chain() -> Filled<'static> {
    let of_ports = |kind: u16| {
        let kind = Value::new().raw(&kind.to_be_bytes());
        Rule::new().member(&[Field::IIFNAME], &PORTS).is(Field::PROTOCOL, kind)
    };
    let drop_unless =
        |rule: Rule, field, set| rule.not_member(&[Field::IIFNAME, field], set).verdict(Verdict::Drop);
    let unspecified4 = Value::new().addr(Ipv4Addr::UNSPECIFIED);
    let unspecified6 = Value::new().addr(Ipv6Addr::UNSPECIFIED);
    let link_local: Option<IpNetwork> = "fe80::/10".parse().ok();
    let beyond_link =
        |rule: Rule, field| link_local.into_iter().fold(rule, |rule, net| rule.network(field, net, false));
    let advertisement = of_ports(ETH_P_IPV6)
        .is(Field::L4PROTO, Value::new().proto(ICMPV6))
        .is(Field::ICMPV6_TYPE, Value::new().raw(&[NEIGHBOUR_ADVERTISEMENT]));
    let rules = vec![
        drop_unless(
            of_ports(ETH_P_IP).compare(Field::IP_SADDR, Compare::NotEqual, unspecified4),
            Field::IP_SADDR,
            &IPS4,
        ),
        drop_unless(of_ports(ETH_P_ARP), Field::ARP_SADDR_ETHER, &MACS),
        drop_unless(
            of_ports(ETH_P_ARP).compare(Field::ARP_SADDR, Compare::NotEqual, unspecified4),
            Field::ARP_SADDR,
            &IPS4,
        ),
        drop_unless(
            beyond_link(of_ports(ETH_P_IPV6), Field::IP6_SADDR).compare(
                Field::IP6_SADDR,
                Compare::NotEqual,
                unspecified6,
            ),
            Field::IP6_SADDR,
            &IPS6,
        ),
        drop_unless(beyond_link(advertisement, Field::ND_TARGET), Field::ND_TARGET, &IPS6),
    ];
    Filled { chain: CHAIN, base: Some(BASE), comment: "containers keep to their addresses", rules }
}
