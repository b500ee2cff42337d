//! The loopback plugin: the container's `lo` is up, and its addresses are told. It has no keys of its own, and works
//! on `lo` whatever `CNI_IFNAME` says.

mod answer;

use cni::{AddResult, Error, Plugin, Request};
use host::netlink::{Link, LinkChange, Netlink};
use host::{NetNs, NetNsError};

const LO: &str = "lo";

/// The plugin.
pub struct Loopback;

impl Plugin for Loopback {
    const NAME: &'static str = "loopback";
    const ABOUT: &'static str = "brings up the loopback interface of a container";

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        let previous = request.prev_result()?;
        if let Some(previous) = &previous {
            previous.convertible_to(request.version)?;
        }
        let netns = NetNs::open(&request.netns)?;
        let netlink = Netlink::open_in(&netns)?;
        let lo = link(&netlink)?;
        set_up(&netlink, &lo, true)?;
        let outcome = answer(&netlink, &lo, request);
        if outcome.is_err() && !lo.up() {
            // The error that led here is the one to be told.
            let _ = set_up(&netlink, &lo, false);
        }
        outcome.map(|own| previous.unwrap_or(own))
    }

    fn check(&self, request: &Request) -> Result<(), Error> {
        let netns = NetNs::open(&request.netns)?;
        if link(&Netlink::open_in(&netns)?)?.up() {
            return Ok(());
        }
        Err(Error::internal("loopback interface is down")
            .details(format!("expected: {LO} is up, actual: {LO} is down in {}", request.netns)))
    }

    fn del(&self, request: &Request) -> Result<(), Error> {
        if request.netns.is_empty() {
            return Ok(());
        }
        let netns = match NetNs::open(&request.netns) {
            Ok(netns) => netns,
            // The interface went with its namespace; what lies at the path now is not ours.
            Err(NetNsError::Gone { .. } | NetNsError::NotANetNs { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let netlink = Netlink::open_in(&netns)?;
        match netlink.link_by_name(LO)? {
            Some(lo) => set_up(&netlink, &lo, false),
            None => Ok(()),
        }
    }

    /// `lo` goes with its container: nothing is ever left over.
    fn gc(&self, _request: &Request) -> Result<(), Error> {
        Ok(())
    }

    /// Every kernel has a `lo`.
    fn status(&self, _request: &Request) -> Result<(), Error> {
        Ok(())
    }
}

fn link(netlink: &Netlink) -> Result<Link, Error> {
    netlink.link_by_name(LO)?.ok_or_else(|| Error::internal(format!("failed to find {LO:?}: Link not found")))
}

/// Also when it is so already: the kernel makes nothing of it.
fn set_up(netlink: &Netlink, lo: &Link, up: bool) -> Result<(), Error> {
    Ok(netlink.set_link(lo.index, &LinkChange { up: Some(up), ..LinkChange::default() })?)
}

fn answer(netlink: &Netlink, lo: &Link, request: &Request) -> Result<AddResult, Error> {
    let addresses = netlink.addresses(Some(lo.index))?;
    let result = answer::of(addresses.iter().map(|address| address.net), &request.netns)?;
    result.convertible_to(request.version)?;
    Ok(result)
}
