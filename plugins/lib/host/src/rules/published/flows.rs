//! Connections that are to be forgotten because what they were led by has changed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink::Netlink;
use nft::conntrack::{Flows, Replies};
use nft::{Element, Nft, Protocol, Set};
use sys::Result;

use super::elements;
use crate::intent::By;
use crate::ports::{Mapping, Publication, merged};

/// What came of forgetting flows. Where it failed, the rules are made or gone all the same: it is reported, and no error.
#[derive(Debug)]
#[must_use]
pub struct Forgotten {
    /// Clients of UDP may go on as before where this is an error.
    pub flows: Result<()>,
}

impl Forgotten {
    /// Prints on standard error what could not be forgotten.
    pub fn report(&self) {
        if let Err(error) = &self.flows {
            eprintln!("{}: UDP clients may have to begin anew: {error:#}", By::Portmap.name());
        }
    }
}

/// After ports were published: UDP flows that came to them before and went elsewhere. A client that goes on sending from
/// one port renews what is known of it for ever.
pub(super) fn forget_before(nft: &Nft, publication: &Publication) -> Result<()> {
    let mut which = Vec::new();
    for container in &publication.containers {
        let udp = container.mappings.iter().filter(|mapping| mapping.proto == Protocol::UDP);
        which.extend(udp.map(|mapping| (*mapping, Replies::NotFrom(container.address))));
    }
    forget(nft, &which)
}

/// After elements are gone: flows that they led. Of UDP only, or of all protocols.
pub(super) fn forget_after(nft: &Nft, gone: &[(Set<'static>, Element)], all: bool) -> Result<()> {
    let mut of_container: BTreeMap<IpAddr, Vec<Mapping>> = BTreeMap::new();
    for (set, element) in gone {
        if let Some((mapping, to)) = elements::read(set, element)
            && (all || mapping.proto == Protocol::UDP)
        {
            // Where in the container they led does not matter, so that neighbours become one.
            of_container.entry(to).or_default().push(Mapping { target: mapping.ports.0, ..mapping });
        }
    }
    let which: Vec<_> = of_container
        .iter()
        .flat_map(|(to, mappings)| merged(mappings).into_iter().map(|mapping| (mapping, Replies::From(*to))))
        .collect();
    forget(nft, &which)
}

fn forget(nft: &Nft, which: &[(Mapping, Replies)]) -> Result<()> {
    if which.is_empty() {
        return Ok(());
    }
    // "Any address" is any of this host's: a flow through it to another machine's port is none of ours.
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
