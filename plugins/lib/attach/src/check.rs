//! CHECK of an attachment by a veth pair: what is made again, what is reported, and what fails it.

use cni::Error;
use host::intent::By;
use host::piece::{self, Kernel, Piece, Place};
use host::{Drift, Owner, rules};

/// The drifts of the attachment. Packet rules with a record are repaired instead: a runtime that
/// checks its containers when it starts must not take their addresses because a firewall was
/// restarted. Drifts of the host's parameters are only logged, under the name of the plugin.
///
/// # Errors
/// The kernel could not be asked.
pub fn drifts(plugin: &str, plan: &[Piece], kernel: &mut Kernel, owner: &Owner) -> Result<Vec<Drift>, Error> {
    let is_of_host =
        |piece: &&Piece| matches!(piece, Piece::Sysctls(sysctls) if sysctls.place == Place::Host);
    let is_rule = |piece: &&Piece| {
        matches!(
            piece,
            Piece::Masquerade(_)
                | Piece::MacFilter(_)
                | Piece::SourceFilter(_)
                | Piece::FastPath(_)
                | Piece::AddressFilter(_)
                | Piece::OverlayRules(_)
        )
    };
    let is_fixed = |piece: &&Piece| matches!(piece, Piece::FixedMac(_));
    let of = |is: &dyn Fn(&&Piece) -> bool| plan.iter().filter(is).cloned().collect::<Vec<_>>();
    let rest = of(&|piece| !is_of_host(piece) && !is_rule(piece) && !is_fixed(piece));
    let mut drifts = piece::verify(&rest, kernel)?;
    // The port has no fixed MAC address if the reference created it, or if the bridge was changed.
    let fixed = of(&is_fixed);
    let unfixed = piece::verify(&fixed, kernel)?;
    if !unfixed.is_empty() {
        piece::apply(&fixed, kernel)?;
        report(plugin, owner, &unfixed, "made again");
    }
    let rules = of(&is_rule);
    let mut of_rules = piece::verify(&rules, kernel)?;
    if !of_rules.is_empty()
        && let Some(mended) = rules::mend(kernel.nft()?, By::Bridge, owner)?
    {
        report(plugin, owner, &of_rules, "made again");
        mended.report(plugin);
        of_rules = piece::verify(&rules, kernel)?;
    }
    drifts.append(&mut of_rules);
    report(plugin, owner, &piece::verify(&of(&is_of_host), kernel)?, "a parameter of the host, not changed");
    Ok(drifts)
}

fn report(plugin: &str, owner: &Owner, drifts: &[Drift], what: &str) {
    for drift in drifts {
        eprintln!("{plugin}: CHECK of {} of container {}: {drift}: {what}", owner.ifname, owner.container_id);
    }
}
