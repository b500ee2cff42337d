//! CHECK: makes ADD's plan again from its result, and verifies it.

use cni::{AddResult, Error};
use host::intent::By;
use host::piece::{self, Kernel, Piece};
use host::{Drift, Owner, rules};

use crate::config::{Backend, Config};
use crate::plan::addresses;
use crate::{facts, plan};

/// Verifies everything that ADD made; the error names the drifts.
///
/// # Errors
/// There are drifts, or the kernel could not be asked.
pub fn check(config: &Config, owner: &Owner, previous: &AddResult) -> Result<(), Error> {
    let mut kernel = Kernel::open_host()?;
    let facts = facts::look(owner, previous, &mut kernel)?;
    let backend = Backend::of(config, facts.has_nf_tables)?;
    let mut drifts = backend.drifts(config, owner, &addresses(previous))?;
    let pieces = plan::plan(config, backend, owner, previous, &facts)?;
    drifts.append(&mut of_plan(&pieces, owner, &mut kernel)?);
    if drifts.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = drifts.iter().map(ToString::to_string).collect();
    Err(Error::internal(format!(
        "what the firewall lets pass of container {} ({}) has drifted: {}",
        owner.container_id,
        owner.ifname,
        named.join("; ")
    )))
}

/// The differences from the plan. Recorded rules are made again first: a runtime that checks its
/// containers at start must not take their addresses because a firewall was restarted.
fn of_plan(pieces: &[Piece], owner: &Owner, kernel: &mut Kernel) -> Result<Vec<Drift>, Error> {
    let drifts = piece::verify(pieces, kernel)?;
    if drifts.is_empty() {
        return Ok(drifts);
    }
    let Some(mended) = rules::mend(kernel.nft()?, By::Firewall, owner)? else { return Ok(drifts) };
    for drift in &drifts {
        eprintln!(
            "firewall: CHECK of {} of container {}: {drift}: made again",
            owner.ifname, owner.container_id
        );
    }
    mended.report("firewall");
    Ok(piece::verify(pieces, kernel)?)
}
