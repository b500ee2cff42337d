//! What CHECK finds, and what it does about it.

use cni::{AddResult, Error};
use host::intent::By;
use host::iptables::Mark;
use host::ports::Publication;
use host::rules::published;
use host::{Drift, rules};
use nft::Nft;

use crate::backend::{Backend, MARK_BIT, Options};
use crate::config::Config;
use crate::iptables;

/// What is not as ADD made it. Rules that are on record are made again: a runtime that checks its containers when it
/// starts is not to take their addresses because somebody restarted a firewall. Rules that the reference made, with
/// either of its back ends, are right.
pub fn drifts(
    config: &Config,
    publication: &mut Publication,
    previous: &AddResult,
) -> Result<Vec<Drift>, Error> {
    let nft = rules::open()?;
    let drifts = look(&nft, config, publication, previous)?;
    if drifts.is_empty() {
        return Ok(drifts);
    }
    if let Some(mended) = rules::mend(&nft, By::Portmap, &publication.owner)? {
        let owner = &publication.owner;
        for drift in drifts.iter().take(crate::DRIFTS_MAX) {
            eprintln!(
                "portmap: CHECK of {} of container {}: {drift}: made again",
                owner.ifname, owner.container_id
            );
        }
        mended.tell("portmap");
        return look(&nft, config, publication, previous);
    }
    let is_right = is_of_reference(&nft, config, publication, previous)?;
    Ok(if is_right { Vec::new() } else { drifts })
}

fn look(
    nft: &Nft,
    config: &Config,
    publication: &mut Publication,
    previous: &AddResult,
) -> Result<Vec<Drift>, Error> {
    Ok(match &config.backend {
        Backend::NfTables(_) => published::verify(nft, publication)?,
        Backend::Iptables(options) => {
            let ports = iptables::ports(nft, config, options, publication, previous)?;
            iptables::verify(nft, publication, &ports)?
        }
    })
}

fn is_of_reference(
    nft: &Nft,
    config: &Config,
    publication: &Publication,
    previous: &AddResult,
) -> Result<bool, Error> {
    if published::is_published_by_reference(nft, publication)? {
        return Ok(true);
    }
    let options = match &config.backend {
        Backend::Iptables(options) => options.clone(),
        Backend::NfTables(_) => Options { mark: Mark::Bit(MARK_BIT), conditions: Default::default() },
    };
    let ports = iptables::ports(nft, config, &options, &mut publication.clone(), previous)?;
    // A host without the programs has no rules of theirs.
    Ok(host::iptables::Ports::verify(&ports).is_ok_and(|drifts| drifts.is_empty()))
}
