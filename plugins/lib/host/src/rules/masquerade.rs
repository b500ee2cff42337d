//! Masquerade: what leaves a container's network gets the host's address as its source.
//!
//! A packet costs one look into a map from its source address, however many containers there are. The map leads to a
//! chain that knows what is inside, which is shared by all containers that have the same inside:
//!
//! ```text
//! map masq4  { type ipv4_addr : verdict; elements = { 10.1.2.3 comment "moor/net/eth0/c1" : goto masq-0123456789abcdef } }
//! chain masq { type nat hook postrouting priority srcnat; ip saddr vmap @masq4; ip6 saddr vmap @masq6 }
//! chain masq-0123456789abcdef { ip daddr 224.0.0.0/4 return; ip daddr 10.1.2.0/24 return; …; masquerade }
//! ```
//!
//! Such a chain is named by a hash of its rules and never changed. It goes with the last element that leads to it,
//! and the maps and the table with the last such chain.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::alive::Attachments;
use super::published::container;
use super::restore::owner;
use super::{
    COMMENT, Filled, Group, Left, Restored, TABLE, ensure, is_owned, led_to, limit, restore, retire,
};
use crate::nft::{
    Base, Batch, Chain, Data, Element, Field, Hook, IPV4, IPV6, Kind, Nft, Policy, Rule, Set, Target, Type,
    Value, Verdict,
};
use crate::owner::fnv1a;
use crate::piece::Drift;
use crate::{Error, Result};

/// Priority `srcnat` (NF_IP_PRI_NAT_SRC, linux/netfilter_ipv4.h).
const BASE: Base = Base { kind: Kind::Nat, hook: Hook::Postrouting, priority: 100, policy: Policy::Accept };
/// (`masquerade` is a word of nft's language, which no chain can be called by there.)
const CHAIN: Chain<'static> = Chain { table: TABLE, name: "masq" };
const MASQ4: Set<'static> =
    Set { table: TABLE, name: "masq4", key: &[Type::Ipv4], data: Data::Verdict, interval: false };
const MASQ6: Set<'static> = Set { name: "masq6", key: &[Type::Ipv6], ..MASQ4 };
const MAPS: [Set<'static>; 2] = [MASQ4, MASQ6];
const MAP_COMMENT: &str = "containers whose packets to the outside get the host's address";
/// What the names of the chains begin with that know an inside.
const INSIDE_PREFIX: &str = "masq-";

/// What of one attachment is masqueraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masqueraded<'a> {
    /// The container's addresses.
    pub addresses: &'a [IpAddr],
    /// Destinations to which it stays itself: its network's subnets. Multicast is always one of them.
    pub inside: &'a [IpNetwork],
    /// Whose it is.
    pub label: &'a str,
}

impl Masqueraded<'_> {
    /// Adds it. An address that was another's is now this one's, unless that one is alive.
    ///
    /// # Errors
    /// [`Error::AddressInUse`]; or the kernel refused.
    pub fn add(&self, nft: &Nft) -> Result<()> {
        let (name, comment) = self.inside_chain();
        let inside = self.inside(&name, &comment);
        if base().is_there(nft)? && inside.is_there(nft)? {
            let mut batch = Batch::new();
            for (map, element) in self.elements(&name) {
                batch.create_elements(&map, &[element]);
            }
            match nft.commit(batch) {
                // The address was another's, or the chains have gone just now.
                Err(error) if error.is_exists() || error.is_not_found() => {}
                done => return done,
            }
        }
        nft.transact(|nft, batch| {
            let maps = MAPS.map(|map| (map, MAP_COMMENT));
            if ensure(nft, batch, &TABLE, &maps, &[base()])? {
                // A table that somebody flushed has lost these rules too.
                inside.write(batch);
            } else {
                ensure(nft, batch, &TABLE, &[], std::slice::from_ref(&inside))?;
            }
            for (map, element) in self.elements(&name) {
                if let Some(stale) = nft.element(&map, &element)? {
                    self.ensure_dead(&map, &stale)?;
                    batch.del_elements(&map, &[stale]);
                }
                batch.create_elements(&map, &[element]);
            }
            Ok(())
        })
    }

    /// Another container's element may be replaced only if that is gone.
    fn ensure_dead(&self, map: &Set<'_>, element: &Element) -> Result<()> {
        match owner(element) {
            Some(owner)
                if container(owner) != container(self.label)
                    && Attachments::default().is_alive(owner)? == Some(true) =>
            {
                Err(Error::AddressInUse { address: element.key.show(map.key), owner: owner.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Has `batch` make what is missing of all of these. Only inside [`Nft::transact`].
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn restore(all: &[Self], nft: &Nft, batch: &mut Batch, restored: &mut Restored) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        let named: Vec<_> = all.iter().map(|one| (one, one.inside_chain())).collect();
        let mut seen = HashSet::new();
        let mut chains: Vec<Filled<'_>> = named
            .iter()
            .filter(|(_, (name, _))| seen.insert(name))
            .map(|(one, (name, comment))| one.inside(name, comment))
            .collect();
        chains.push(base());
        let elements = named.iter().flat_map(|(one, (name, _))| one.elements(name)).collect();
        let sets = MAPS.map(|map| (map, MAP_COMMENT));
        restore(nft, batch, Group { table: TABLE, sets: &sets, chains: &chains, elements }, restored)
    }

    /// What of it is not as it should be.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn drifts(&self, nft: &Nft) -> Result<Vec<Drift>> {
        let (name, comment) = self.inside_chain();
        let mut drifts = base().drifts(nft)?;
        drifts.append(&mut self.inside(&name, &comment).drifts(nft)?);
        for (map, wanted) in self.elements(&name) {
            let what = format!("element {} of {map}", wanted.show(&map));
            let text = |element: &Element| match (&element.target, &element.comment) {
                (Target::Verdict(verdict), Some(owner)) => format!("{verdict} for {owner}"),
                (Target::Verdict(verdict), None) => format!("{verdict} for nobody"),
                _ => String::new(),
            };
            match nft.element(&map, &wanted)? {
                Some(found) if found == wanted => {}
                found => {
                    let actual = found.as_ref().map_or_else(|| "absent".to_owned(), text);
                    drifts.push(Drift::new(what, text(&wanted), actual));
                }
            }
        }
        Ok(drifts)
    }

    /// Its elements, and the maps they are in.
    fn elements(&self, inside: &str) -> Vec<(Set<'static>, Element)> {
        let element = |address: &IpAddr| {
            let target = Verdict::Goto(inside.to_owned());
            (map_of(address), Element::new(Value::new().addr(*address)).to(target).comment(self.label))
        };
        self.addresses.iter().map(element).collect()
    }

    /// The name and the comment of the chain that knows what is inside.
    fn inside_chain(&self) -> (String, String) {
        let nets: Vec<String> = self.nets().iter().map(ToString::to_string).collect();
        let text = nets.join(" ");
        let name = format!("{INSIDE_PREFIX}{:016x}", fnv1a(text.bytes()));
        // Many subnets are too long for a comment; the rules tell them all.
        let comment = if text.len() < 200 { format!("inside: {text}") } else { COMMENT.to_owned() };
        (name, comment)
    }

    /// What is inside, in an order that does not depend on that of the addresses.
    fn nets(&self) -> Vec<IpNetwork> {
        let masked = |net: &IpNetwork| IpNetwork::new(net.network(), net.prefix()).unwrap_or(*net);
        let mut nets: Vec<IpNetwork> = self.inside.iter().map(masked).collect();
        nets.sort();
        nets.dedup();
        nets
    }

    fn inside<'a>(&self, name: &'a str, comment: &'a str) -> Filled<'a> {
        let multicast = [("224.0.0.0/4"), ("ff00::/8")].into_iter().filter_map(|net| net.parse().ok());
        let mut rules: Vec<Rule> = multicast
            .chain(self.nets())
            .map(|net: IpNetwork| {
                let (family, field) =
                    if net.is_ipv4() { (IPV4, Field::IP_DADDR) } else { (IPV6, Field::IP6_DADDR) };
                Rule::new().nfproto(family).network(field, net, true).verdict(Verdict::Return)
            })
            .collect();
        rules.push(Rule::new().masquerade(false));
        Filled { chain: Chain { table: TABLE, name }, base: None, comment, rules }
    }
}

/// Has `batch` delete what `is_ours` accepts the owner of, or as much of it as one transaction takes; `addresses`, where
/// they are known, save a look at all.
/// Only inside [`Nft::transact`].
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
    // Those that nothing else leads to go too.
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
        let is_staying =
            |name: &str| name.starts_with(INSIDE_PREFIX) && !going.iter().any(|c| c.name == name);
        if !nft.chains(&TABLE)?.iter().any(|chain| is_staying(&chain.name)) {
            let mut all = vec![CHAIN];
            all.append(&mut going);
            retire(nft, batch, &TABLE, &all, &MAPS)?;
            return Ok(left);
        }
    }
    for (map, element) in &ours {
        batch.del_elements(map, std::slice::from_ref(element));
    }
    going.iter().for_each(|chain| batch.del_chain(chain));
    Ok(left)
}

/// The elements whose owner `is_ours` accepts. When each of the addresses has one, these are all: they came together.
fn owned(
    nft: &Nft,
    addresses: &[IpAddr],
    is_ours: &dyn Fn(&str) -> Result<bool>,
) -> Result<Vec<(Set<'static>, Element)>> {
    let mut ours = Vec::new();
    for address in addresses {
        let map = map_of(address);
        if let Some(element) = nft.element(&map, &Element::new(Value::new().addr(*address)))?
            && is_owned(&element, is_ours)?
        {
            ours.push((map, element));
        }
    }
    if !addresses.is_empty() && ours.len() == addresses.len() {
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

fn map_of(address: &IpAddr) -> Set<'static> {
    if address.is_ipv4() { MASQ4 } else { MASQ6 }
}

fn base() -> Filled<'static> {
    let rules = vec![
        Rule::new().nfproto(IPV4).verdict_map(&[Field::IP_SADDR], &MASQ4),
        Rule::new().nfproto(IPV6).verdict_map(&[Field::IP6_SADDR], &MASQ6),
    ];
    Filled { chain: CHAIN, base: Some(BASE), comment: "source addresses of containers that leave", rules }
}
