//! Free ports, where the configuration asks for any (`hostPort: 0`).

use std::borrow::Cow;

use cni::Error;
use host::Owner;
use host::intent::{By, Records};
use host::ports::{Chosen, Mapping};
use host::rules::published;
use nft::Nft;

use crate::config::{Config, Wanted};
use crate::refusal;

/// How often ports are chosen anew because somebody was quicker.
pub const ATTEMPTS: u32 = 16;

/// A configuration in which every port is known, and those of them that were chosen.
pub type Settled<'a> = (Cow<'a, Config>, Vec<Chosen>);

/// With the ports that the attachment has on record.
///
/// # Errors
/// It has none of that kind.
pub fn recorded<'a>(config: &'a Config, owner: &Owner) -> Result<Settled<'a>, Error> {
    if !config.wanted.iter().any(Wanted::is_free) {
        return Ok((Cow::Borrowed(config), Vec::new()));
    }
    let records = Records::open_if_any()?;
    let record = records.map(|records| records.read(By::Portmap, owner)).transpose()?.flatten();
    let chosen = record.map(|record| record.chosen).unwrap_or_default();
    settle(config, &chosen).ok_or_else(|| {
        Error::internal("the host port that was chosen for hostPort 0 is not on record")
            .details("another ADD chooses one, or finds the one that it chose")
    })
}

/// With ports that are free now.
///
/// # Errors
/// There are none, or the kernel could not be asked.
pub fn chosen<'a>(config: &'a Config, owner: &Owner, nft: &Nft) -> Result<Settled<'a>, Error> {
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
    let ports = published::choose(nft, owner, &protos, &avoid).map_err(refusal)?;
    let chosen: Vec<Chosen> = free
        .iter()
        .zip(ports)
        .map(|(wanted, port)| Chosen {
            proto: wanted.proto,
            at: wanted.at.written(),
            target: wanted.target,
            port,
        })
        .collect();
    settle(config, &chosen).ok_or_else(|| Error::internal("a port is missing of those that were chosen"))
}

/// Gives each port that is wanted free the first of its kind among these; `None` when there are too few.
fn settle<'a>(config: &'a Config, known: &[Chosen]) -> Option<Settled<'a>> {
    let mut left = known.to_vec();
    let mut settled = config.clone();
    let mut chosen = Vec::new();
    for wanted in settled.wanted.iter_mut().filter(|wanted| wanted.is_free()) {
        let kind = (wanted.proto, wanted.at.written(), wanted.target);
        let at = left.iter().position(|chosen| (chosen.proto, chosen.at, chosen.target) == kind)?;
        let one = left.remove(at);
        wanted.ports = (one.port, one.port);
        chosen.push(one);
    }
    Some((Cow::Owned(settled), chosen))
}

/// Tells in the log what nobody asked for by number.
pub fn log(owner: &Owner, chosen: &[Chosen]) {
    for Chosen { proto, target, port, .. } in chosen {
        let proto = match proto {
            6 => "tcp",
            17 => "udp",
            _ => "sctp",
        };
        eprintln!(
            "portmap: container {} ({}): host port {port}/{proto} leads to its port {target}",
            owner.container_id, owner.ifname
        );
    }
}
