//! Free ports, for `hostPort: 0`.

use cni::Error;
use host::Owner;
use host::intent::{By, Records};
use host::piece::Kernel;
use host::ports::{Chosen, Mapping};
use host::rules::published;
use nft::Protocol;

use crate::config::{Config, Wanted};
use crate::error::refusal;

/// The attachment's recorded ports, if they match the wanted free ports in number and kind; an
/// empty list if no free port is wanted.
///
/// # Errors
/// The record cannot be read.
pub fn on_record(config: &Config, owner: &Owner) -> Result<Option<Vec<Chosen>>, Error> {
    if !config.wanted.iter().any(Wanted::is_free) {
        return Ok(Some(Vec::new()));
    }
    let records = Records::open_if_any()?;
    let record = records.map(|records| records.read(By::Portmap, owner)).transpose()?.flatten();
    let chosen = record.map(|record| record.chosen).unwrap_or_default();
    Ok(config.assigned(&chosen))
}

/// Chooses ports that are free now.
///
/// # Errors
/// No port is free, or the kernel could not be asked.
pub fn choose(config: &Config, owner: &Owner, kernel: &mut Kernel) -> Result<Vec<Chosen>, Error> {
    let (free, known): (Vec<&Wanted>, Vec<&Wanted>) =
        config.wanted.iter().partition(|wanted| wanted.is_free());
    let avoid: Vec<Mapping> = known
        .iter()
        .map(|wanted| Mapping {
            proto: wanted.proto,
            address: None,
            ports: wanted.ports,
            target: wanted.target,
        })
        .collect();
    let protos: Vec<u8> = free.iter().map(|wanted| wanted.proto).collect();
    let ports = published::choose(kernel.nft()?, owner, &protos, &avoid).map_err(refusal)?;
    Ok(free.iter().zip(ports).map(|(wanted, port)| wanted.at_port(port)).collect())
}

/// Prints the chosen ports on standard error.
pub fn log(owner: &Owner, chosen: &[Chosen]) {
    for Chosen { proto, target, port, .. } in chosen {
        let proto = Protocol(*proto);
        eprintln!(
            "portmap: container {} ({}): host port {port}/{proto} leads to its port {target}",
            owner.container_id, owner.ifname
        );
    }
}
