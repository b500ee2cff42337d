//! CHECK: makes ADD's plan again from its result, and verifies it.

use cni::{AddResult, Error};
use host::intent::By;
use host::iptables::{Mark, Ports};
use host::piece::{self, Kernel, Piece};
use host::rules::published;
use host::{Drift, Owner, rules};

use crate::backend::{Backend, MARK_BIT, Options};
use crate::config::Config;
use crate::facts::{self, Facts};
use crate::{free, plan};

/// The maximum number of differences in an error: a range may have thousands.
const DRIFTS_MAX: usize = 20;

/// Verifies everything that ADD made; the error names the drifts.
///
/// # Errors
/// There are drifts, or the kernel could not be asked.
pub fn check(config: &Config, owner: &Owner, previous: &AddResult) -> Result<(), Error> {
    let chosen = free::on_record(config, owner)?.ok_or_else(|| {
        Error::internal("the host port that was chosen for hostPort 0 is not on record")
            .details("another ADD chooses one, or finds the one that it chose")
    })?;
    let config = config.settled(&chosen)?;
    let drifts = drifts(&config, owner, previous)?;
    if drifts.is_empty() {
        return Ok(());
    }
    let mut named: Vec<String> = drifts.iter().take(DRIFTS_MAX).map(ToString::to_string).collect();
    if drifts.len() > DRIFTS_MAX {
        named.push(format!("and {} more", drifts.len() - DRIFTS_MAX));
    }
    Err(Error::internal(format!(
        "published ports of container {} ({}) have drifted: {}",
        owner.container_id,
        owner.ifname,
        named.join("; ")
    )))
}

/// The differences from ADD's plan. Recorded rules are made again first: a runtime that checks its
/// containers at start must not take their addresses because a firewall was restarted. Rules of the
/// reference, of either back end, are accepted.
fn drifts(config: &Config, owner: &Owner, previous: &AddResult) -> Result<Vec<Drift>, Error> {
    let mut kernel = Kernel::open_host()?;
    let mut facts = facts::look(config, owner, previous, &mut kernel)?;
    let planned = |facts: &Facts| plan::plan(config, owner, previous, &[], facts);
    let pieces = planned(&facts)?;
    let drifts = piece::verify(&pieces, &mut kernel)?;
    if drifts.is_empty() {
        return Ok(drifts);
    }
    if let Some(mended) = rules::mend(kernel.nft()?, By::Portmap, owner)? {
        for drift in drifts.iter().take(DRIFTS_MAX) {
            eprintln!(
                "portmap: CHECK of {} of container {}: {drift}: made again",
                owner.ifname, owner.container_id
            );
        }
        mended.report("portmap");
        facts.chain = facts::chain(config, owner, &mut kernel)?;
        return Ok(piece::verify(&planned(&facts)?, &mut kernel)?);
    }
    let is_right = is_of_reference(config, owner, previous, &pieces, &mut kernel)?;
    Ok(if is_right { Vec::new() } else { drifts })
}

fn is_of_reference(
    config: &Config,
    owner: &Owner,
    previous: &AddResult,
    pieces: &[Piece],
    kernel: &mut Kernel,
) -> Result<bool, Error> {
    let nft = kernel.nft()?;
    for published in pieces.iter().filter_map(plan::published) {
        if published::is_published_by_reference(nft, &published.publication)? {
            return Ok(true);
        }
    }
    let options = match &config.backend {
        Backend::Iptables(options) => options.clone(),
        Backend::NfTables(_) => Options { mark: Mark::Bit(MARK_BIT), conditions: Default::default() },
    };
    let chain = published::chain_of(nft, owner)?;
    let chains = plan::chains(config, &options, owner, previous, &chain)?;
    // A host without the programs has none of their rules.
    Ok(Ports::verify(&chains).is_ok_and(|drifts| drifts.is_empty()))
}
