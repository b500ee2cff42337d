//! The source check: a packet that arrives by the host's end of a container's veth pair must have
//! one of the container's addresses as its source. It is dropped before it makes a connection.
//!
//! ```text
//! set source-links { type ifname; elements = { "veth01234567" comment "moor/net/eth0/c1" } }
//! set sources4     { type ifname . ipv4_addr;
//!                    elements = { "veth01234567" . 10.1.2.3 comment "moor/net/eth0/c1" } }
//! chain ipspoofchk { type filter hook prerouting priority raw;
//!                    meta nfproto ipv4 iifname @source-links iifname . ip saddr != @sources4 drop;
//!                    meta nfproto ipv6 iifname @source-links ip6 saddr != { fe80::/10, :: }
//!                                      iifname . ip6 saddr != @sources6 drop }
//! ```
//!
//! IPv6 finds and probes neighbours with link-local and unspecified sources, which are not routed.

use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nft::{
    Base, Batch, Chain, Compare, Data, Element, Field, Hook, IPV4, IPV6, Kind, Nft, Policy, Rule, Set, Type,
    Value, Verdict,
};
use sys::Result;

use super::{
    Filled, Group, Left, Owned, Restored, TABLE, delete_of_link, element_drifts, ensure, owned, restore,
    retire,
};
use crate::Drift;

const CHAIN: Chain<'static> = Chain { table: TABLE, name: "ipspoofchk" };
/// Priority `raw` (NF_IP_PRI_RAW, linux/netfilter_ipv4.h): before connection tracking.
const BASE: Base =
    Base { kind: Kind::Filter, hook: Hook::Prerouting, priority: -300, policy: Policy::Accept };
const LINKS: Set<'static> =
    Set { table: TABLE, name: "source-links", key: &[Type::Ifname], data: Data::None, interval: false };
const SOURCES4: Set<'static> = Set { name: "sources4", key: &[Type::Ifname, Type::Ipv4], ..LINKS };
const SOURCES6: Set<'static> = Set { name: "sources6", key: &[Type::Ifname, Type::Ipv6], ..LINKS };
pub(super) const SETS: [Set<'static>; 3] = [LINKS, SOURCES4, SOURCES6];
const COMMENTED: [(Set<'static>, &str); 3] =
    [(LINKS, "checked links"), (SOURCES4, "what they may send"), (SOURCES6, "what they may send")];

/// A link, and the only source addresses that it accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources<'a> {
    /// Name of the link; it need not exist yet.
    pub link: &'a str,
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// The owner: see [`crate::Owner::label`].
    pub label: &'a str,
}

impl Sources<'_> {
    /// Adds the elements. Replaces those of an earlier link of this name, which left them behind.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, nft: &Nft) -> Result<()> {
        nft.transact(|nft, batch| {
            ensure(nft, batch, &TABLE, &COMMENTED, &[chain()])?;
            delete_of_link(nft, batch, &SETS, self.link)?;
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
        let link = Value::new().ifname(self.link);
        let source =
            |address: &IpAddr| (if address.is_ipv4() { SOURCES4 } else { SOURCES6 }, link.addr(*address));
        let keys = [(LINKS, link)].into_iter().chain(self.addresses.iter().map(source));
        keys.map(|(set, key)| (set, Element::new(key).comment(self.label))).collect()
    }
}

/// Deletes the elements with an owner that `is_ours` accepts.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub(super) fn delete(nft: &Nft, is_ours: &dyn Fn(&str) -> Result<bool>) -> Result<()> {
    // Most hosts have none.
    if nft.set_is(&LINKS)?.is_none() {
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
    let of_links = |family| Rule::new().nfproto(family).member(&[Field::IIFNAME], &LINKS);
    let unspecified = Value::new().addr(Ipv6Addr::UNSPECIFIED);
    let link_local: Option<IpNetwork> = "fe80::/10".parse().ok();
    let of_links6 =
        link_local.into_iter().fold(of_links(IPV6), |rule, net| rule.network(Field::IP6_SADDR, net, false));
    let rules = vec![
        of_links(IPV4).not_member(&[Field::IIFNAME, Field::IP_SADDR], &SOURCES4).verdict(Verdict::Drop),
        of_links6
            .compare(Field::IP6_SADDR, Compare::NotEqual, unspecified)
            .not_member(&[Field::IIFNAME, Field::IP6_SADDR], &SOURCES6)
            .verdict(Verdict::Drop),
    ];
    Filled { chain: CHAIN, base: Some(BASE), comment: "containers keep to their addresses", rules }
}
