//! ADD: free ports where any will do, and the plan made.

use cni::{AddResult, Error, Request};
use host::piece::{self, Kernel};
use host::rules::published::Refusal;
use host::{Namespace, Owner};

use crate::config::Config;
use crate::error::refusal;
use crate::{facts, free, plan};

/// How often ports are chosen anew because somebody was quicker.
const ATTEMPTS: u32 = 16;

/// Publishes what the configuration asks for.
///
/// # Errors
/// Whatever a piece refuses; nothing is left then.
pub fn add(request: &Request, config: &Config, owner: &Owner, previous: &AddResult) -> Result<(), Error> {
    let mut kernel = Kernel::open_host()?;
    for attempt in 1..=ATTEMPTS {
        // A repeated ADD keeps what it chose; what somebody else has taken is chosen anew.
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
                // One that comes later (VRRP, a cloud's floating address) is published all the same.
                eprintln!(
                    "portmap: hostIP {ip} is not an address of this host: its ports are published as soon as it is"
                );
            }
        }
        // Before anything is touched.
        kernel.nft()?;
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
