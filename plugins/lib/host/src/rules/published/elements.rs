//! The elements of a publication: a pure function, and its inverse for elements from the kernel.

use std::net::IpAddr;

use nft::{Batch, Data, Element, Set, Target, Type, Value, Verdict};
use sys::IpFamily;

use super::guard;
use super::layout::{FamilySets, LOOPBACK, PUBLISHERS, V4, V6};
use crate::owner::fnv1a;
use crate::ports::{Container, Mapping, Masquerade, Publication, merged};

/// The minimum length of a run of ports with unchanged numbers that becomes a range. Ranges are for
/// few users: a lookup is a search and a change copies all of them, while single ports are hashed.
const RANGE_MIN: u16 = 16;
/// Marks a publisher with conditions, in the place of its comment for a chain of iptables.
const CONDITIONAL: &str = "conditional";

/// Elements, each with its set.
pub(super) type Found = Vec<(Set<'static>, Element)>;

pub(super) const fn sets_of(family: IpFamily) -> &'static FamilySets {
    match family {
        IpFamily::V4 => &V4,
        IpFamily::V6 => &V6,
    }
}

/// The elements of a publication with their sets; the publisher's own element is last.
pub(super) fn of(publication: &Publication) -> Found {
    let label = publication.owner.label();
    let mut elements = Vec::new();
    let by_elements = publication.containers.iter().filter(|_| publication.chain.is_none());
    for container in by_elements {
        let sets = sets_of(IpFamily::of(container.address));
        for mapping in container.merged() {
            ports(sets, container.address, &mapping, &mut elements);
        }
        let address = Value::new().addr(container.address);
        match (container.masquerade, &container.link) {
            (Masquerade::Nobody, _) | (Masquerade::Needed, None) => {}
            (Masquerade::Everybody, _) => elements.push((sets.everyone, Element::new(address))),
            (Masquerade::Needed, Some(link)) => {
                let key = Value::new().ifname(link).addr(container.address);
                elements.push((sets.hairpin, Element::new(key)));
                elements.push((sets.oneself, Element::new(address.addr(container.address))));
            }
        }
        if container.by_loopback() && container.masquerade == Masquerade::Needed {
            elements.push((LOOPBACK, Element::new(address)));
        }
    }
    for container in publication.containers.iter().filter(|_| publication.chain.is_some()) {
        elsewhere(container, &mut elements);
    }
    let count = elements.len();
    for container in &publication.containers {
        if let Some(guard) = guard::name_of(publication, container) {
            guarded(container, &guard, &mut elements);
        }
    }
    let is_conditional = elements.len() > count;
    for (_, element) in &mut elements {
        element.comment = Some(label.clone());
    }
    let publisher = publisher(publication, &label, count, is_conditional);
    elements.push((PUBLISHERS, publisher));
    elements
}

/// Adds the elements that lead a container's ports to its conditions first.
fn guarded(container: &Container, guard: &str, elements: &mut Found) {
    let sets = sets_of(IpFamily::of(container.address));
    for mapping in runs(container) {
        let set = if mapping.address.is_some() { sets.guarded_at } else { sets.guarded };
        let ports = run(&mapping, |port| key(&mapping, port));
        elements.push((set, ports.to(Verdict::Jump(guard.to_owned()))));
    }
}

/// Adds the ports that iptables leads to a container, for the ledger.
fn elsewhere(container: &Container, elements: &mut Found) {
    let sets = sets_of(IpFamily::of(container.address));
    let none = IpFamily::of(container.address).unspecified();
    for mapping in runs(container) {
        let key = |port| Value::new().addr(mapping.address.unwrap_or(none)).proto(mapping.proto).port(port);
        elements.push((sets.elsewhere, run(&mapping, key).to(Value::new().addr(container.address))));
    }
}

/// A container's ports, with adjacent ones merged regardless of their targets.
fn runs(container: &Container) -> Vec<Mapping> {
    let ports = container.mappings.iter().map(|mapping| Mapping { target: mapping.ports.0, ..*mapping });
    merged(&ports.collect::<Vec<_>>())
}

fn run(mapping: &Mapping, key: impl Fn(u16) -> Value) -> Element {
    match mapping.ports {
        (first, last) if first == last => Element::new(key(first)),
        (first, last) => Element::range(key(first), key(last)),
    }
}

fn key(mapping: &Mapping, port: u16) -> Value {
    let key = mapping.address.map_or(Value::new(), |address| Value::new().addr(address));
    key.proto(mapping.proto).port(port)
}

fn publisher(publication: &Publication, label: &str, count: usize, is_conditional: bool) -> Element {
    let of =
        |family| publication.containers.iter().find(|container| IpFamily::of(container.address) == family);
    let link = |container: Option<&Container>| container.and_then(|c| c.link.clone()).unwrap_or_default();
    let address = |family: IpFamily| of(family).map_or(family.unspecified(), |c| c.address);
    let value = Value::new()
        .ifname(&link(of(IpFamily::V4)))
        .addr(address(IpFamily::V4))
        .ifname(&link(of(IpFamily::V6)))
        .addr(address(IpFamily::V6));
    let comment = match &publication.chain {
        None if is_conditional => format!("{label} {count} {CONDITIONAL}"),
        None => format!("{label} {count}"),
        Some(chain) => format!("{label} {count} {chain}"),
    };
    Element::new(publisher_key(attachment(label))).to(value).comment(comment)
}

/// The key of an attachment among the publishers: a hash of the parts that do not change when the
/// network is renamed.
pub(super) fn publisher_key(attachment: &str) -> Value {
    let hash = fnv1a(attachment.bytes());
    let half = |bits: u64| u32::try_from(bits & 0xffff_ffff).unwrap_or_default();
    Value::new().mark(half(hash >> 32)).mark(half(hash))
}

/// The interface and the container in a label or a publisher's comment: `eth0/c1`.
pub(in crate::rules) fn attachment(label: &str) -> &str {
    let label = label.split_once(' ').map_or(label, |(label, _)| label);
    label.splitn(3, '/').nth(2).unwrap_or_default()
}

/// The container in a label or a publisher's comment.
pub(in crate::rules) fn container(label: &str) -> &str {
    attachment(label).split_once('/').map_or("", |(_, container)| container)
}

/// The number of elements in a publisher's comment: without those that lead to conditions, and
/// without the publisher's own.
pub(super) fn count(comment: &str) -> Option<usize> {
    comment.split(' ').nth(1)?.parse().ok()
}

/// The chain of iptables that a publisher's comment names.
pub(super) fn chain(comment: &str) -> Option<&str> {
    comment.split(' ').nth(2).filter(|word| *word != CONDITIONAL)
}

/// Whether a publisher's comment marks conditions.
pub(super) fn is_conditional(comment: &str) -> bool {
    comment.split(' ').nth(2) == Some(CONDITIONAL)
}

fn ports(sets: &FamilySets, to: IpAddr, mapping: &Mapping, elements: &mut Found) {
    let key = |port| key(mapping, port);
    let target = |port| Value::new().addr(to).port(port);
    let (first, last) = mapping.ports;
    if mapping.target != first || last.saturating_sub(first) < RANGE_MIN - 1 {
        let set = if mapping.address.is_some() { sets.ports_at } else { sets.ports };
        let single = |port: u16| (set, Element::new(key(port)).to(target(mapping.target + (port - first))));
        // The configuration is checked: the last target is a port.
        elements.extend((first..=last).map(single));
        return;
    }
    let set = if mapping.address.is_some() { sets.ranges_at } else { sets.ranges };
    elements.push((set, Element::range(key(first), key(last)).to(Value::new().addr(to))));
}

/// The ports of an element of one of the port maps, and the container that they lead to. The target
/// port is left out: no caller needs it.
pub(super) fn read(set: &Set<'_>, element: &Element) -> Option<(Mapping, IpAddr)> {
    // All zeros stand for any address.
    let address = element.key.first_addr(set.key).filter(|address| !address.is_unspecified());
    let end = element.end.unwrap_or(element.key);
    let (proto, first) = tail(element.key.bytes())?;
    let (_, last) = tail(end.bytes())?;
    let to = match (&element.target, set.data) {
        (Target::Value(to), Data::Value(types)) | (Target::Range(to, _), Data::Range(types)) => {
            to.first_addr(types)?
        }
        _ => return None,
    };
    Some((Mapping { proto, address, ports: (first, last), target: 0 }, to))
}

/// The port of a container's address and port in a map.
pub(super) fn target_port(value: &Value) -> Option<u16> {
    let &[high, low, _, _] = value.bytes().last_chunk::<4>()?;
    Some(u16::from_be_bytes([high, low]))
}

/// The protocol and the port at the end of a key: four bytes each, padded with zeros.
fn tail(key: &[u8]) -> Option<(u8, u16)> {
    let &[proto, _, _, _, high, low, _, _] = key.last_chunk::<8>()?;
    Some((proto, u16::from_be_bytes([high, low])))
}

/// Whether a set's elements hold a container's address, regardless of its ports.
pub(super) fn is_beside_ports(set: &Set<'_>) -> bool {
    let of = |sets: &FamilySets| [sets.hairpin, sets.oneself, sets.everyone];
    let beside = of(&V4).into_iter().chain(of(&V6)).chain([LOOPBACK]);
    beside.map(|other| other.name).any(|name| name == set.name)
}

/// Whether a set's elements lead to conditions.
pub(super) fn is_of_conditions(set: &Set<'_>) -> bool {
    [V4.guarded, V4.guarded_at, V6.guarded, V6.guarded_at].iter().any(|other| other.name == set.name)
}

/// Whether a set's elements hold ports.
pub(super) fn is_of_ports(set: &Set<'_>) -> bool {
    !is_beside_ports(set) && set.name != PUBLISHERS.name
}

/// The keys that a publisher's elements may have, except those of its ports.
pub(super) fn beside_ports(publisher: &Element) -> Found {
    let Target::Value(value) = publisher.target else { return Vec::new() };
    let bytes = value.bytes();
    let (Some(link4), Some(v4), Some(link6), Some(v6)) =
        (bytes.get(..16), bytes.get(16..20), bytes.get(20..36), bytes.get(36..52))
    else {
        return Vec::new();
    };
    let key = |parts: &[&[u8]]| Element::new(parts.iter().fold(Value::new(), |value, part| value.raw(part)));
    let mut keys = Vec::new();
    for (sets, link, address) in [(&V4, link4, v4), (&V6, link6, v6)] {
        if address.iter().any(|&byte| byte != 0) {
            keys.extend([
                (sets.hairpin, key(&[link, address])),
                (sets.oneself, key(&[address, address])),
                (sets.everyone, key(&[address])),
            ]);
            if sets.hairpin.key == [Type::Ifname, Type::Ipv4] {
                keys.push((LOOPBACK, key(&[address])));
            }
        }
    }
    keys
}

/// The keys of the elements of these mappings in a family, regardless of their targets.
pub(super) fn keys(family: IpFamily, mappings: &[Mapping]) -> Found {
    let to = family.unspecified();
    let mut elements = Vec::new();
    for mapping in merged(mappings) {
        ports(sets_of(family), to, &mapping, &mut elements);
    }
    elements
}

/// Groups adjacent elements of the same set.
pub(super) fn by_set(
    found: &[(Set<'static>, Element)],
) -> impl Iterator<Item = (Set<'static>, Vec<Element>)> {
    found.chunk_by(|(a, _), (b, _)| a.name == b.name).filter_map(|of_set| {
        let (set, _) = of_set.first()?;
        Some((*set, of_set.iter().map(|(_, element)| element.clone()).collect()))
    })
}

/// Adds to `batch` the deletion of these elements.
pub(super) fn delete(batch: &mut Batch, gone: &[(Set<'static>, Element)]) {
    for (set, elements) in by_set(gone) {
        batch.del_elements(&set, &elements);
    }
}
