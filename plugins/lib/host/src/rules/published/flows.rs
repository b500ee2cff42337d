//! Forgets connections after the elements that led them have changed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink::Netlink;
use nft::conntrack::{Flows, Replies};
use nft::{Element, Nft, Protocol, Set};
use sys::Result;

use super::elements;
use super::layout::loopback;
use crate::intent::By;
use crate::ports::{Mapping, Publication, merged};

/// The outcome of forgetting flows. The rules are created or deleted even if it fails, so a failure
/// is reported and is no error.
#[derive(Debug)]
#[must_use]
pub struct Forgotten {
    /// After an error, clients of UDP may keep their previous destination.
    pub flows: Result<()>,
}

impl Forgotten {
    /// Prints a failure on standard error.
    pub fn report(&self) {
        if let Err(error) = &self.flows {
            eprintln!("{}: UDP clients may have to begin anew: {error:#}", By::Portmap.name());
        }
    }
}

/// After ports were published: forgets earlier UDP flows to them that lead elsewhere. A client that
/// keeps sending from the same port would keep such a flow alive forever.
pub(super) fn forget_before(nft: &Nft, publication: &Publication) -> Result<()> {
    let mut which = Vec::new();
    for container in &publication.containers {
        let udp = container.mappings.iter().filter(|mapping| mapping.proto == Protocol::UDP);
        which.extend(udp.map(|mapping| (*mapping, Replies::NotFrom(container.address))));
    }
    forget(nft, &which)
}

/// After elements were deleted: forgets the flows that they led, of all protocols if `all`,
/// otherwise of UDP only.
pub(super) fn forget_after(nft: &Nft, gone: &[(Set<'static>, Element)], all: bool) -> Result<()> {
    let mut of_container: BTreeMap<IpAddr, Vec<Mapping>> = BTreeMap::new();
    for (set, element) in gone {
        if let Some((mapping, to)) = elements::read(set, element)
            && (all || mapping.proto == Protocol::UDP)
        {
            // The target port does not matter, so adjacent ports can be merged.
            of_container.entry(to).or_default().push(Mapping { target: mapping.ports.0, ..mapping });
        }
    }
    let which: Vec<_> = of_container
        .iter()
        .flat_map(|(to, mappings)| merged(mappings).into_iter().map(|mapping| (mapping, Replies::From(*to))))
        .collect();
    forget(nft, &which)
}

/// Forgets flows to 127.0.0.0/8 from addresses that are not this host's: they came by the wire while
/// nothing stopped them ([`super::wire`]).
pub(super) fn forget_strangers(nft: &Nft) -> Result<()> {
    let local: Vec<IpAddr> =
        Netlink::open()?.addresses(None)?.iter().map(|address| address.net.ip()).collect();
    let is_strange = |source: IpAddr| !source.is_loopback() && !local.contains(&source);
    nft.conntrack().forget_to(loopback(), &is_strange).map(drop)
}

fn forget(nft: &Nft, which: &[(Mapping, Replies)]) -> Result<()> {
    if which.is_empty() {
        return Ok(());
    }
    // A mapping at any address covers addresses of this host only: a flow through it to another
    // machine's port is not ours.
    let local: Vec<IpAddr> = match which.iter().any(|(mapping, _)| mapping.address.is_none()) {
        true => Netlink::open()?.addresses(None)?.iter().map(|address| address.net.ip()).collect(),
        false => Vec::new(),
    };
    let mut flows = Vec::new();
    for (mapping, replies_from) in which {
        let (Replies::From(container) | Replies::NotFrom(container)) = *replies_from;
        let one = [mapping.address];
        let any = local.iter().filter(|ip| ip.is_ipv4() == container.is_ipv4()).copied().map(Some);
        let flow = |destination: Option<IpAddr>| Flows {
            proto: mapping.proto,
            destination,
            ports: mapping.ports,
            replies_from: *replies_from,
        };
        match mapping.address {
            Some(_) => flows.extend(one.map(flow)),
            None => flows.extend(any.map(flow)),
        }
    }
    nft.conntrack().forget(&flows).map(drop)
}
