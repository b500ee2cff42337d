//! What must exist in iptables, from the configuration and the previous plugin's result.

use cni::{AddResult, Error};
use host::Drift;
use host::iptables::Ports;
use host::ports::Publication;
use host::rules::published;
use nft::Nft;

use crate::backend::Options;
use crate::config::{Config, invalid};
use crate::plan;

/// The most rules that lead to the container's chain of one family have: as many ports as there are elements, at most,
/// where nf_tables has them.
const PORTS_MAX: usize = published::RUNS_MAX;

/// The rules of each family that the container has an address of, and their chain for the publication. As the reference
/// has it, a family without a port of its own is no exception.
///
/// # Errors
/// There are too many ports, or the kernel could not be asked.
pub fn ports(
    nft: &Nft,
    config: &Config,
    options: &Options,
    publication: &mut Publication,
    result: &AddResult,
) -> Result<Vec<Ports>, Error> {
    if config.wanted.len() > PORTS_MAX {
        return Err(invalid(&published::Error::TooMany(config.wanted.len()).to_string()));
    }
    let owner = &publication.owner;
    let chain = published::chain_of(nft, owner)?;
    let of_family = |container: ipnetwork::IpNetwork| {
        let v4 = container.is_ipv4();
        let [conditions_v4, conditions_v6] = &options.conditions;
        Ports {
            chain: chain.clone(),
            network: owner.network.clone(),
            container_id: owner.container_id.clone(),
            container,
            mappings: config.wanted.iter().filter_map(|wanted| wanted.of_family(v4)).collect(),
            listed: config.wanted.iter().map(|wanted| (wanted.proto, wanted.ports)).collect(),
            masquerade: config.masquerade,
            mark: options.mark.clone(),
            conditions: if v4 { conditions_v4 } else { conditions_v6 }.clone(),
        }
    };
    let ports = plan::networks(result, &owner.ifname).into_iter().map(of_family).collect();
    publication.chain = Some(chain);
    Ok(ports)
}

/// Publishes: all families or none, and nothing without the record of whose it is.
///
/// # Errors
/// A program refused, or the kernel did.
pub fn publish(
    nft: &Nft,
    publication: &Publication,
    ports: &[Ports],
) -> Result<sys::Result<usize>, published::Error> {
    published::ensure_free(nft, publication)?;
    Ports::add(ports)?;
    published::publish(nft, publication).inspect_err(|_| {
        // The error that led here is the one to be told.
        let _ = Ports::delete(ports);
    })
}

/// Every difference between what must be and what is.
///
/// # Errors
/// The kernel or a program could not be asked.
pub fn verify(nft: &Nft, publication: &Publication, ports: &[Ports]) -> sys::Result<Vec<Drift>> {
    let mut drifts = Ports::verify(ports)?;
    drifts.append(&mut published::verify(nft, publication)?);
    Ok(drifts)
}
