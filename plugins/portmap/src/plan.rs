//! What must exist, from the configuration, the previous plugin's result and the host's state.
//! Pure.

#[cfg(test)]
mod tests;

use cni::{AddResult, Error};
use host::Owner;
use host::iptables::Ports;
use host::piece::{FastPath, Hairpin, Piece, Published};
use host::ports::{Chosen, Conditions, Container, Mapping, Masquerade, Publication};
use host::rules::published::{RUNS_MAX, Refusal};
use ipnetwork::IpNetwork;
use sys::IpFamily;

use crate::backend::{Backend, Options};
use crate::config::Config;
use crate::container::{addresses, published_at};
use crate::facts::Facts;

/// The plan of an attachment; empty if no address of the container has ports to publish.
///
/// # Errors
/// The container has no address in the family of one of the host's addresses, or there are too many
/// ports.
pub fn plan(
    config: &Config,
    owner: &Owner,
    result: &AddResult,
    chosen: &[Chosen],
    facts: &Facts,
) -> Result<Vec<Piece>, Error> {
    let published_at = published_at(config, result, &owner.ifname)?;
    if published_at.is_empty() {
        return Ok(Vec::new());
    }
    let container = |((network, mappings), link): ((IpNetwork, &[Mapping]), &Option<String>)| {
        let conditions = match &config.backend {
            Backend::NfTables([v4, v6]) => IpFamily::of(network.ip()).choose(v4, v6).clone(),
            Backend::Iptables(_) => Conditions::default(),
        };
        Container {
            address: network.ip(),
            link: link.clone(),
            mappings: mappings.to_vec(),
            masquerade: config.masquerade,
            conditions,
        }
    };
    let publication = Publication {
        owner: owner.clone(),
        containers: published_at.into_iter().zip(&facts.links).map(container).collect(),
        chain: facts.chain.clone(),
        chosen: chosen.to_vec(),
        netns: facts.netns.clone(),
    };
    let addresses = publication.containers.iter().map(|container| container.address).collect();
    let chains = match (&config.backend, &facts.chain) {
        (Backend::Iptables(options), Some(chain)) => chains(config, options, owner, result, chain)?,
        _ => Vec::new(),
    };
    let mut pieces = Vec::new();
    // Before the ports: if it fails, nothing is published.
    if config.masquerade != Masquerade::Nobody {
        pieces.push(Piece::Hairpin(Hairpin { links: links_of_host(result) }));
    }
    pieces.push(Piece::Published(Published { publication, chains }));
    if config.fast_path {
        let links = links_of_host(result);
        pieces.push(Piece::FastPath(FastPath { owner: owner.clone(), addresses, links }));
    }
    Ok(pieces)
}

/// The published ports of a plan.
pub fn published(piece: &Piece) -> Option<&Published> {
    match piece {
        Piece::Published(published) => Some(published),
        _ => None,
    }
}

/// The chains of iptables, one for each family in which the container has an address: like the
/// reference, also for a family without ports.
///
/// # Errors
/// There are too many ports: the limit for rules of iptables is that for ports in nf_tables.
pub fn chains(
    config: &Config,
    options: &Options,
    owner: &Owner,
    result: &AddResult,
    chain: &str,
) -> Result<Vec<Ports>, Error> {
    if config.wanted.len() > RUNS_MAX {
        return Err(Error::invalid_config(Refusal::TooMany(config.wanted.len()).to_string()));
    }
    let of_family = |container: IpNetwork| {
        let family = IpFamily::of(container.ip());
        let [conditions_v4, conditions_v6] = &options.conditions;
        Ports {
            chain: chain.to_owned(),
            network: owner.network.clone(),
            container_id: owner.container_id.clone(),
            container,
            mappings: config.wanted.iter().filter_map(|wanted| wanted.of_family(family)).collect(),
            listed: config.wanted.iter().map(|wanted| (wanted.proto, wanted.ports)).collect(),
            masquerade: config.masquerade,
            mark: options.mark.clone(),
            conditions: family.choose(conditions_v4, conditions_v6).clone(),
        }
    };
    Ok(addresses(result, &owner.ifname).into_iter().map(of_family).collect())
}

/// The host's links in a result.
fn links_of_host(result: &AddResult) -> Vec<String> {
    let is_on_host = |sandbox: &Option<String>| sandbox.as_ref().is_none_or(String::is_empty);
    let links = result.interfaces.iter().filter(|interface| is_on_host(&interface.sandbox));
    links.map(|interface| interface.name.clone()).collect()
}
