//! ADD: chooses free ports if requested, and applies the plan.

use cni::{AddResult, Error, Request};
use host::piece::{self, Kernel};
use host::rules::FastPath;
use host::rules::published::Refusal;
use host::{Namespace, Owner};

use crate::config::Config;
use crate::error::refusal;
use crate::{facts, free, plan};

/// Attempts to choose ports that other processes take at the same time.
const ATTEMPTS: u32 = 16;

/// Publishes the configured ports.
///
/// # Errors
/// Any error of a piece; nothing is left behind.
pub fn add(request: &Request, config: &Config, owner: &Owner, previous: &AddResult) -> Result<(), Error> {
    let mut kernel = Kernel::open_host()?;
    for attempt in 1..=ATTEMPTS {
        // A repeated ADD keeps its ports; it chooses others for those that were taken meanwhile.
        let on_record = match attempt {
            1 => free::on_record(config, owner).ok().flatten(),
            _ => None,
        };
        let chosen = match on_record {
            Some(chosen) => chosen,
            None => free::choose(config, owner, &mut kernel)?,
        };
        let settled = config.settled(&chosen)?;
        let mut facts = facts::look(&settled, owner, previous, &mut kernel)?;
        facts.netns = Namespace::at(&request.netns);
        let pieces = plan::plan(&settled, owner, previous, &chosen, &facts)?;
        if pieces.is_empty() {
            break;
        }
        if attempt == 1 {
            for ip in facts::absent_addresses(pieces.iter().filter_map(plan::published), kernel.host())? {
                // An address that appears later (VRRP, a cloud's floating address) is published all
                // the same.
                eprintln!(
                    "portmap: hostIP {ip} is not an address of this host: its ports are published as soon as it is"
                );
            }
        }
        // Before anything is changed.
        let nft = kernel.nft()?;
        if config.fast_path {
            FastPath::require(nft)?;
        }
        let is_last = chosen.is_empty() || attempt == ATTEMPTS;
        match piece::apply(&pieces, &mut kernel) {
            Err(error) if !is_last && is_taken(&error) => {}
            made => {
                made.map_err(refusal)?;
                free::log(owner, &chosen);
                break;
            }
        }
    }
    Ok(())
}

fn is_taken(error: &sys::Error) -> bool {
    matches!(error.reason(), Some(Refusal::Taken { .. }))
}
