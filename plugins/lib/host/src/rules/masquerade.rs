//! Masquerade: packets that leave a container's network get the host's address as their source.
//!
//! A packet costs one lookup in a map by its source address, regardless of the number of
//! containers. The map leads to a chain that lists the inside networks. Containers with the same
//! inside share the chain:
//!
//! ```text
//! map masq4  { type ipv4_addr : verdict;
//!              elements = { 10.1.2.3 comment "moor/net/eth0/c1" : goto masq-0123456789abcdef } }
//! chain masq { type nat hook postrouting priority srcnat;
//!              ip saddr vmap @masq4; ip6 saddr vmap @masq6 }
//! chain masq-0123456789abcdef { ip daddr 224.0.0.0/4 return; ip daddr 10.1.2.0/24 return; …;
//!                               masquerade }
//! ```
//!
//! NAT does not process packets that belong to no connection (a late RST, an unsolicited SYN+ACK):
//! they would leave with the container's address. A second map drops them where they would be
//! masqueraded:
//!
//! ```text
//! map leave4 { type ipv4_addr : verdict;
//!              elements = { 10.1.2.3 comment "moor/net/eth0/c1" : goto leave-0123456789abcdef } }
//! chain leaving { type filter hook postrouting priority filter;
//!                 ct state ! invalid,untracked accept; iif != 0 ip saddr 127.0.0.0/8 drop;
//!                 ct state untracked accept; ip saddr vmap @leave4; … }
//! chain leave-0123456789abcdef { ip daddr 224.0.0.0/4 return; ip daddr 10.1.2.0/24 return; …;
//!                                drop }
//! ```
//!
//! A chain is named by a hash of its inside networks and is never changed. It is deleted with the
//! last element that leads to it; the maps and the table are deleted with the last such chain.
//! (Attachments of earlier versions have no element in the second map until their rules are made
//! again.)

use std::collections::HashSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nft::{
    Base, Batch, Chain, Compare, Ct, Data, Element, Field, Hook, IPV4, IPV6, Kind, Meta, Nft, Policy, Rule,
    STATE_INVALID, STATE_UNTRACKED, Set, Target, Type, Value, Verdict,
};
use sys::Result;

use super::alive::ensure_dead;
use super::published::{loopback, stand_in};
use super::{
    COMMENT, Filled, Group, Left, Restored, TABLE, ensure, is_owned, led_to, limit, restore, retire,
};
use crate::Drift;
use crate::owner::fnv1a;

/// Priority `srcnat` (NF_IP_PRI_NAT_SRC, linux/netfilter_ipv4.h).
const BASE: Base = Base { kind: Kind::Nat, hook: Hook::Postrouting, priority: 100, policy: Policy::Accept };
/// (In nft's language `masquerade` is a keyword, which cannot name a chain.)
const CHAIN: Chain<'static> = Chain { table: TABLE, name: "masq" };
const MASQ4: Set<'static> =
    Set { table: TABLE, name: "masq4", key: &[Type::Ipv4], data: Data::Verdict, interval: false };
const MASQ6: Set<'static> = Set { name: "masq6", key: &[Type::Ipv6], ..MASQ4 };
const LEAVE4: Set<'static> = Set { name: "leave4", ..MASQ4 };
const LEAVE6: Set<'static> = Set { name: "leave6", ..MASQ6 };
pub(super) const MAPS: [Set<'static>; 4] = [MASQ4, MASQ6, LEAVE4, LEAVE6];
const LEAVE: Chain<'static> = Chain { table: TABLE, name: "leaving" };
/// Where NAT and connection tracking see every packet anyway: the first chain of a hook costs more
/// than another one, and `forward` may have none.
const LEAVE_BASE: Base =
    Base { kind: Kind::Filter, hook: Hook::Postrouting, priority: 0, policy: Policy::Accept };
/// What it was in an earlier layout, in `forward`.
const LEAVE_EARLIER: Chain<'static> = Chain { table: TABLE, name: "leave" };
const MAP_COMMENT: &str = "containers whose packets to the outside get the host's address";
/// Prefixes of the names of chains with an inside: those that masquerade, and those that drop.
const INSIDE_PREFIXES: [&str; 2] = ["masq-", "leave-"];

/// The masquerade of one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masqueraded<'a> {
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// Destinations that see the container's own address: its network's subnets. Multicast is
    /// always one of them.
    pub inside: &'a [IpNetwork],
    /// The owner: see [`crate::Owner::label`].
    pub label: &'a str,
}

impl Masqueraded<'_> {
    /// Adds the elements. Takes over an address from another attachment, unless that is alive.
    ///
    /// # Errors
    /// [`crate::Conflict::AddressInUse`]; or the kernel refused.
    pub fn add(&self, nft: &Nft) -> Result<()> {
        let inside = self.inside();
        let [masquerade, drop] = inside.filled();
        // All of them are made together, so it is enough to check one of each kind.
        if base().is_there(nft)? && drop.is_there(nft)? {
            let mut batch = Batch::new();
            for (map, element) in self.elements(&inside) {
                batch.create_elements(&map, &[element]);
            }
            match nft.commit(batch) {
                // The address belonged to another attachment, or the chains were deleted just now.
                Err(error) if error.is_exists() || error.is_not_found() => {}
                done => return done,
            }
        }
        nft.transact(|nft, batch| {
            let maps = MAPS.map(|map| (map, MAP_COMMENT));
            if ensure(nft, batch, &TABLE, &maps, &[base(), leave()])? {
                delete_earlier(nft, batch)?;
                // A flushed table has lost these rules too.
                [&masquerade, &drop].iter().for_each(|chain| chain.write(batch));
            } else {
                ensure(nft, batch, &TABLE, &[], &[masquerade.clone(), drop.clone()])?;
            }
            for (map, element) in self.elements(&inside) {
                if let Some(stale) = nft.element(&map, &element)? {
                    ensure_dead(self.label, &map, &stale)?;
                    batch.del_elements(&map, &[stale]);
                }
                batch.create_elements(&map, &[element]);
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
        let insides: Vec<Inside> = all.iter().map(Self::inside).collect();
        let mut seen = HashSet::new();
        let distinct = insides.iter().filter(|inside| seen.insert(&inside.names));
        let mut chains: Vec<Filled<'_>> = distinct.flat_map(Inside::filled).collect();
        chains.extend([base(), leave()]);
        let elements = all.iter().zip(&insides).flat_map(|(one, inside)| one.elements(inside)).collect();
        let sets = MAPS.map(|map| (map, MAP_COMMENT));
        restore(nft, batch, Group { table: TABLE, sets: &sets, chains: &chains, elements }, restored)?;
        if batch.is_empty() { Ok(()) } else { delete_earlier(nft, batch) }
    }

    /// Differences between the expected and the actual state.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft) -> Result<Vec<Drift>> {
        let inside = self.inside();
        let [masquerade, drop] = inside.filled();
        let mut drifts = base().drifts(nft)?;
        drifts.append(&mut masquerade.drifts(nft)?);
        let mut drops = false;
        for (map, wanted) in self.elements(&inside) {
            let what = format!("element {} of {map}", wanted.show(&map));
            let text = |element: &Element| match (&element.target, &element.comment) {
                (Target::Verdict(verdict), Some(owner)) => format!("{verdict} for {owner}"),
                (Target::Verdict(verdict), None) => format!("{verdict} for nobody"),
                _ => String::new(),
            };
            match nft.element(&map, &wanted)? {
                Some(found) if found == wanted => drops |= is_of_drops(&map),
                // Earlier versions made none.
                None if is_of_drops(&map) => {}
                found => {
                    let actual = found.as_ref().map_or_else(|| "absent".to_owned(), text);
                    drifts.push(Drift::new(what, text(&wanted), actual));
                }
            }
        }
        if drops {
            drifts.append(&mut leave().drifts(nft)?);
            drifts.append(&mut drop.drifts(nft)?);
        }
        Ok(drifts)
    }

    /// Its elements, with their maps.
    fn elements(&self, inside: &Inside) -> Vec<(Set<'static>, Element)> {
        let elements = |address: &IpAddr| {
            let lead = |(map, name): (Set<'static>, &String)| {
                let target = Verdict::Goto(name.clone());
                (map, Element::new(Value::new().addr(*address)).to(target).comment(self.label))
            };
            maps_of(address).into_iter().zip(&inside.names).map(lead).collect::<Vec<_>>()
        };
        self.addresses.iter().flat_map(elements).collect()
    }

    fn inside(&self) -> Inside {
        let nets = self.nets();
        let text = nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let names = INSIDE_PREFIXES.map(|prefix| format!("{prefix}{:016x}", fnv1a(text.bytes())));
        // If the list is too long for a comment, only the rules show it.
        let comment = if text.len() < 200 { format!("inside: {text}") } else { COMMENT.to_owned() };
        Inside { names, comment, nets }
    }

    /// The inside networks, in an order that does not depend on the order of the addresses.
    fn nets(&self) -> Vec<IpNetwork> {
        let masked = |net: &IpNetwork| IpNetwork::new(net.network(), net.prefix()).unwrap_or(*net);
        let mut nets: Vec<IpNetwork> = self.inside.iter().map(masked).collect();
        nets.sort();
        nets.dedup();
        nets
    }
}

/// The chains that list the inside networks.
struct Inside {
    /// Names of the chain that masquerades, and of the chain that drops.
    names: [String; 2],
    comment: String,
    nets: Vec<IpNetwork>,
}

impl Inside {
    fn filled(&self) -> [Filled<'_>; 2] {
        let multicast = [("224.0.0.0/4"), ("ff00::/8")].into_iter().filter_map(|net| net.parse().ok());
        let stays: Vec<Rule> = multicast
            .chain(self.nets.iter().copied())
            .map(|net: IpNetwork| {
                let (family, field) =
                    if net.is_ipv4() { (IPV4, Field::IP_DADDR) } else { (IPV6, Field::IP6_DADDR) };
                Rule::new().nfproto(family).network(field, net, true).verdict(Verdict::Return)
            })
            .collect();
        let [masquerade, drop] = &self.names;
        let chain = |name, last| {
            let chain = Chain { table: TABLE, name };
            Filled { chain, base: None, comment: &self.comment, rules: [&stays[..], &[last]].concat() }
        };
        [chain(masquerade, Rule::new().masquerade(false)), chain(drop, Rule::new().verdict(Verdict::Drop))]
    }
}

/// Adds to `batch` the deletion of the elements with an owner that `is_ours` accepts, up to the
/// limit of one transaction. `addresses`, if known, save a search. Call it inside
/// [`Nft::transact`].
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn delete(
    nft: &Nft,
    batch: &mut Batch,
    addresses: &[IpAddr],
    is_ours: &dyn Fn(&str) -> Result<bool>,
) -> Result<Left> {
    let mut ours = owned(nft, addresses, is_ours)?;
    let left = limit(&mut ours);
    let mut chains: Vec<&str> = ours
        .iter()
        .filter_map(|(_, element)| match &element.target {
            Target::Verdict(verdict) => led_to(verdict),
            _ => None,
        })
        .collect();
    chains.sort_unstable();
    // Chains that nothing else leads to are deleted too.
    let mut going = Vec::new();
    for same in chains.chunk_by(|a, b| a == b) {
        let Some(name) = same.first() else { continue };
        let chain = Chain { table: TABLE, name };
        let uses = nft.chain(&chain)?.map(|info| info.uses);
        let rules = nft.rules(&chain)?.len();
        if uses.is_some_and(|uses| usize::try_from(uses).is_ok_and(|uses| uses == rules + same.len())) {
            going.push(chain);
        }
    }
    if !going.is_empty() {
        let is_staying = |name: &str| {
            INSIDE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
                && !going.iter().any(|chain| chain.name == name)
        };
        let there = nft.chains(&TABLE)?;
        if !there.iter().any(|chain| is_staying(&chain.name)) {
            let mut all = vec![CHAIN];
            let mut maps = vec![MASQ4, MASQ6];
            let is_there = |chain: &Chain<'_>| there.iter().any(|info| info.name == chain.name);
            let drops: Vec<_> = [LEAVE, LEAVE_EARLIER].into_iter().filter(is_there).collect();
            if !drops.is_empty() {
                all.extend(drops);
                maps.extend([LEAVE4, LEAVE6]);
                stand_in(nft, batch)?;
            }
            all.append(&mut going);
            retire(nft, batch, &TABLE, &all, &maps)?;
            return Ok(left);
        }
    }
    for (map, element) in &ours {
        batch.del_elements(map, std::slice::from_ref(element));
    }
    going.iter().for_each(|chain| batch.del_chain(chain));
    Ok(left)
}

/// The elements with an owner that `is_ours` accepts. If each address has both of its elements, the
/// list is complete: they are created together.
fn owned(
    nft: &Nft,
    addresses: &[IpAddr],
    is_ours: &dyn Fn(&str) -> Result<bool>,
) -> Result<Vec<(Set<'static>, Element)>> {
    let mut ours = Vec::new();
    for address in addresses {
        for map in maps_of(address) {
            if let Some(element) = nft.element(&map, &Element::new(Value::new().addr(*address)))?
                && is_owned(&element, is_ours)?
            {
                ours.push((map, element));
            }
        }
    }
    if !addresses.is_empty() && ours.len() == addresses.len() * 2 {
        return Ok(ours);
    }
    ours.clear();
    for map in MAPS {
        for element in nft.elements(&map)? {
            if is_owned(&element, is_ours)? {
                ours.push((map, element));
            }
        }
    }
    Ok(ours)
}

/// The map of masqueraded addresses, and the map that drops their packets without a connection.
fn maps_of(address: &IpAddr) -> [Set<'static>; 2] {
    if address.is_ipv4() { [MASQ4, LEAVE4] } else { [MASQ6, LEAVE6] }
}

fn is_of_drops(map: &Set<'_>) -> bool {
    map.name == LEAVE4.name || map.name == LEAVE6.name
}

/// Adds to `batch` the deletion of the chain of an earlier layout, if it exists.
fn delete_earlier(nft: &Nft, batch: &mut Batch) -> Result<()> {
    if nft.chain(&LEAVE_EARLIER)?.is_some() {
        batch.flush_chain(&LEAVE_EARLIER);
        batch.del_chain(&LEAVE_EARLIER);
    }
    Ok(())
}

/// Whether packets of no connection from 127.0.0.0/8 are dropped here.
///
/// # Errors
/// The kernel could not be asked.
pub(super) fn drops_loopback(nft: &Nft) -> Result<bool> {
    leave().is_there(nft)
}

fn leave() -> Filled<'static> {
    let state = Field::Ct(Ct::State);
    let rules = vec![
        // All other packets, which are nearly all, pass one comparison.
        Rule::new().bits(state, STATE_INVALID | STATE_UNTRACKED, Compare::Equal, 0).verdict(Verdict::Accept),
        // Where nothing else keeps it from being forwarded: see `published::wire`.
        // The host's own packets have no incoming link.
        Rule::new()
            .compare(Field::Meta(Meta::Iif), Compare::NotEqual, Value::new().mark(0))
            .nfproto(IPV4)
            .network(Field::IP_SADDR, loopback(), true)
            .verdict(Verdict::Drop),
        Rule::new().any_bit(state, STATE_UNTRACKED).verdict(Verdict::Accept),
        Rule::new().nfproto(IPV4).verdict_map(&[Field::IP_SADDR], &LEAVE4),
        Rule::new().nfproto(IPV6).verdict_map(&[Field::IP6_SADDR], &LEAVE6),
    ];
    let comment = "packets of no connection, which NAT does not see";
    Filled { chain: LEAVE, base: Some(LEAVE_BASE), comment, rules }
}

fn base() -> Filled<'static> {
    let rules = vec![
        Rule::new().nfproto(IPV4).verdict_map(&[Field::IP_SADDR], &MASQ4),
        Rule::new().nfproto(IPV6).verdict_map(&[Field::IP6_SADDR], &MASQ6),
    ];
    Filled { chain: CHAIN, base: Some(BASE), comment: "source addresses of containers that leave", rules }
}
