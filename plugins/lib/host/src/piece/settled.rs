//! IPv6 addresses that are ready for use.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink::NotReady;
use sys::{Error, Result};

use super::{Kernel, Part, Place, Undo};
use crate::{Drift, notice};

/// IPv6 addresses that send and receive packets now.
///
/// Even without duplicate detection, an address that was just added is not ready: the kernel joins
/// its solicited-node group and adds its route, without which it answers nobody, from a work queue
/// shared with all other namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Where the link is.
    pub place: Place,
    /// Its name.
    pub link: String,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether duplicate detection runs.
    pub dad: bool,
}

/// Detection takes one to two seconds (RFC 4862, section 5.4). On a host with many short-lived
/// namespaces, the kernel's work queue adds up to ten.
pub(super) const DAD_DEADLINE: Duration = Duration::from_secs(30);
/// Without detection only the work queue counts: less than a millisecond, if it is empty.
const DEADLINE: Duration = Duration::from_secs(10);
/// The kernel creates the container's link-local address, usually as soon as the others.
const PATIENCE: Duration = Duration::from_millis(200);

impl Part for Settled {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(self.place, &self.link)?;
        let netlink = kernel.netlink(self.place)?;
        let wait = |link_local, patience| {
            netlink.wait_for_addresses(index, &self.addresses, link_local, Instant::now() + patience)
        };
        if self.dad {
            return wait(true, DAD_DEADLINE);
        }
        match wait(true, PATIENCE) {
            Err(error) if is_tentative(&error) => {}
            waited => return waited,
        }
        // While no packet passes (the bridge's spanning tree blocks the port) there is nothing to
        // wait for.
        if !kernel.link(self.place, &self.link)?.carrier() {
            return Ok(());
        }
        self.tolerated(wait(self.place == Place::Host, DEADLINE))
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.netlink(self.place)?.link_by_name(&self.link)? else { return Ok(Vec::new()) };
        let addresses = kernel.netlink(self.place)?.addresses(Some(link.index))?;
        let failed = addresses.iter().filter(|address| address.dad_failed());
        Ok(failed
            .map(|address| Drift::new(format!("address {}", address.net), "unique", "duplicate"))
            .collect())
    }
}

impl Settled {
    /// Without detection the kernel is only slow: the address will become ready, so the attachment
    /// does not fail.
    fn tolerated(&self, waited: Result<()>) -> Result<()> {
        match waited {
            Err(error) if is_tentative(&error) => {
                let seconds = DEADLINE.as_secs();
                notice(format_args!("{error} after {seconds} s: IPv6 works when the kernel gets to it"));
                Ok(())
            }
            waited => waited,
        }
    }
}

fn is_tentative(error: &Error) -> bool {
    matches!(error.reason(), Some(NotReady::TentativeAddress { .. }))
}
