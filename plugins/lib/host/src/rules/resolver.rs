//! Keeps a resolver on this host reachable: packets to port 53 of its own address arrive there,
//! whatever else redirects that port.
//!
//! A published port 53 leads to its container at every address of the host, including the
//! resolver's. Only the first translation of a connection has an effect, so each address is led to
//! itself (or to the resolver's actual port) before other rules apply:
//!
//! ```text
//! map resolvers4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;
//!                 elements = { 10.1.2.1 . udp . 53 comment "moor/net" : 10.1.2.1 . 53 } }
//! chain resolvers-prerouting { type nat hook prerouting priority -110;
//!                              dnat to ip daddr . meta l4proto . th dport map @resolvers4; … }
//! ```

mod inside;
mod permit;

use std::net::IpAddr;

use nft::{
    Base, Chain, Data, Element, Field, Hook, IPV4, IPV6, Kind, Nft, Policy, Protocol, Rule, Set, Type, Value,
};
use sys::Result;

use super::{Filled, TABLE, ensure, retire};
use crate::{Drift, Owner, iptables};

pub use inside::{Inside, remove_inside, taken_inside};
pub use permit::Permit;

const KEY4: &[Type] = &[Type::Ipv4, Type::Proto, Type::Port];
const KEY6: &[Type] = &[Type::Ipv6, Type::Proto, Type::Port];
const RESOLVERS4: Set<'static> = Set {
    table: TABLE,
    name: "resolvers4",
    key: KEY4,
    data: Data::Value(&[Type::Ipv4, Type::Port]),
    interval: false,
};
const RESOLVERS6: Set<'static> =
    Set { name: "resolvers6", key: KEY6, data: Data::Value(&[Type::Ipv6, Type::Port]), ..RESOLVERS4 };
pub(super) const MAPS: [Set<'static>; 2] = [RESOLVERS4, RESOLVERS6];
/// Before the NAT of services (-100, NF_IP_PRI_NAT_DST in linux/netfilter_ipv4.h), and before that
/// of published ports, which is later.
const BEFORE_DNAT: i32 = -110;
/// linux/in.h
const PROTOCOLS: [u8; 2] = [Protocol::UDP, Protocol::TCP];
/// The port of name servers (RFC 1035, section 4.2).
const PORT: u16 = 53;

/// The resolver of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver<'a> {
    /// The network's name.
    pub network: &'a str,
    /// Addresses of this host that its containers query.
    pub addresses: &'a [IpAddr],
    /// The resolver's port at these addresses.
    pub port: u16,
}

impl Resolver<'_> {
    /// Adds the elements. Commits nothing if they exist.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn add(&self, nft: &Nft) -> Result<()> {
        let added = nft.transact(|nft, batch| {
            ensure(nft, batch, &TABLE, &maps(), &chains())?;
            for (set, element) in self.elements() {
                match nft.element(&set, &element)? {
                    Some(there) if there.target == element.target => {}
                    there => {
                        batch.del_elements(&set, there.as_slice());
                        batch.create_elements(&set, &[element]);
                    }
                }
            }
            Ok(())
        });
        added.map_err(|error| error.within("failed to keep the way to the resolver".into()))
    }

    /// Differences between the expected and the actual state.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft) -> Result<Vec<Drift>> {
        let mut drifts = Vec::new();
        for chain in chains() {
            drifts.append(&mut chain.drifts(nft)?);
        }
        for (set, element) in self.elements() {
            let there = nft.element(&set, &element)?;
            if there.as_ref().is_none_or(|there| there.target != element.target) {
                let actual = if there.is_some() { "leads elsewhere" } else { "absent" };
                drifts.push(Drift::new(
                    format!("element {} of {set}", element.show(&set)),
                    "present",
                    actual,
                ));
            }
        }
        Ok(drifts)
    }

    fn elements(&self) -> Vec<(Set<'static>, Element)> {
        let label = Owner::network_label(self.network);
        let of = |(ip, proto): (IpAddr, u8)| {
            let set = if ip.is_ipv4() { RESOLVERS4 } else { RESOLVERS6 };
            let element = Element::new(Value::new().addr(ip).proto(proto).port(PORT));
            (set, element.to(Value::new().addr(ip).port(self.port)).comment(&label))
        };
        let each = |ip: &IpAddr| PROTOCOLS.map(|proto| (*ip, proto));
        self.addresses.iter().flat_map(each).map(of).collect()
    }
}

/// Deletes what [`Resolver::add`] and [`Permit::add`] made for a network that has no containers any
/// more, by its name and its addresses. Addresses in `of_others`, which containers of other
/// networks query too, stay.
///
/// # Errors
/// The kernel refused, or could not be asked.
pub fn remove(nft: &Nft, network: &str, addresses: &[IpAddr], of_others: &[IpAddr]) -> Result<()> {
    let label = Owner::network_label(network);
    nft.transact(|nft, batch| {
        permit::delete(nft, batch, &label)?;
        let mut stay = false;
        let mut ours = Vec::new();
        for set in MAPS {
            for element in nft.elements(&set)? {
                let at = element.key.first_addr(set.key);
                let is_in = |list: &[IpAddr]| at.is_some_and(|ip| list.contains(&ip));
                // The comment names the first network with this address.
                if (element.comment.as_deref() == Some(&label) || is_in(addresses)) && !is_in(of_others) {
                    ours.push((set, element));
                } else {
                    stay = true;
                }
            }
        }
        if ours.is_empty() {
            return Ok(());
        }
        if !stay {
            let chains = chains();
            let chains: Vec<Chain<'_>> = chains.iter().map(|filled| filled.chain).collect();
            return retire(nft, batch, &TABLE, &chains, &MAPS);
        }
        for (set, element) in &ours {
            batch.del_elements(set, std::slice::from_ref(element));
        }
        Ok(())
    })
}

/// Deletes what [`Permit::add`] made in legacy tables.
///
/// # Errors
/// A program could not be run, or refused.
pub fn remove_from_old_tables(network: &str) -> Result<()> {
    iptables::let_in_no_more(iptables::INPUT, &Owner::network_label(network))
}

fn maps() -> [(Set<'static>, &'static str); 2] {
    MAPS.map(|map| (map, "resolvers of containers, led to themselves"))
}

fn chains() -> [Filled<'static>; 2] {
    let chain = |name, hook, comment| Filled {
        chain: Chain { table: TABLE, name },
        base: Some(Base { kind: Kind::Nat, hook, priority: BEFORE_DNAT, policy: Policy::Accept }),
        comment,
        rules: vec![rule(IPV4, Field::IP_DADDR, &RESOLVERS4), rule(IPV6, Field::IP6_DADDR, &RESOLVERS6)],
    };
    [
        chain("resolvers-prerouting", Hook::Prerouting, "questions of containers reach their resolver"),
        chain("resolvers-output", Hook::Output, "questions of this host likewise"),
    ]
}

fn rule(family: u8, daddr: Field, map: &Set<'_>) -> Rule {
    Rule::new().nfproto(family).dnat_map(&[daddr, Field::L4PROTO, Field::DPORT], map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nft::Target;

    /// d.7: UDP and TCP of both families; each address leads to itself, at the actual port.
    #[test]
    fn each_address_is_led_to_itself() {
        let addresses = ["10.1.2.1".parse().unwrap(), "fd00::1".parse().unwrap()];
        let resolver = Resolver { network: "net", addresses: &addresses, port: 5353 };
        let shown: Vec<String> = resolver
            .elements()
            .iter()
            .map(|(set, element)| {
                let Data::Value(types) = set.data else { panic!("a map of addresses") };
                let Target::Value(to) = &element.target else { panic!("leads to an address") };
                let comment = element.comment.as_deref().unwrap();
                format!("{} {}: {} ({comment})", set.name, element.show(set), to.show(types))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "resolvers4 10.1.2.1 . udp . 53: 10.1.2.1 . 5353 (moor/net)",
                "resolvers4 10.1.2.1 . tcp . 53: 10.1.2.1 . 5353 (moor/net)",
                "resolvers6 fd00::1 . udp . 53: fd00::1 . 5353 (moor/net)",
                "resolvers6 fd00::1 . tcp . 53: fd00::1 . 5353 (moor/net)",
            ]
        );
    }
}
