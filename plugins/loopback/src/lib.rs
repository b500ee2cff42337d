//! The loopback plugin: sets the container's `lo` up and returns its addresses. It has no keys of
//! its own, and ignores `CNI_IFNAME`.
//!
//! The attachment that sets `lo` up writes its label to the alias of `lo`, and only its DEL sets
//! `lo` down: the namespace may have an attachment of another network too, or its path may belong
//! to another container by now. Others set `lo` up without a label; it stays up until the namespace
//! is deleted.

mod answer;

use attach::owner;
use cni::{AddResult, Error, Plugin, Request};
use netlink::{Link, LinkChange, Netlink};
use sys::NetNs;

use crate::answer::LO;

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
        let label = owner(request).label();
        let alias = needs_label(&lo, request).then_some(label.as_str());
        change(&netlink, &lo, true, alias)?;
        let outcome = answer(&netlink, &lo, request);
        if outcome.is_err() {
            // Report the first error.
            let _ = change(&netlink, &lo, lo.up(), alias.map(|_| lo.alias.as_deref().unwrap_or_default()));
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
        // Without the namespace the interface is gone too; another file at this path is not ours.
        let Some(netns) = NetNs::open_if_there(&request.netns)? else { return Ok(()) };
        let netlink = Netlink::open_in(&netns)?;
        match netlink.link_by_name(LO)? {
            Some(lo) if lo.alias.as_deref() == Some(&owner(request).label()) => {
                change(&netlink, &lo, false, Some(""))
            }
            _ => Ok(()),
        }
    }

    /// `lo` is deleted with its namespace: nothing can be stale.
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

/// Sets `lo` up or down, and its alias. The kernel ignores a change to the current state.
fn change(netlink: &Netlink, lo: &Link, up: bool, alias: Option<&str>) -> Result<(), Error> {
    Ok(netlink.set_link(lo.index, &LinkChange { up: Some(up), alias, ..LinkChange::default() })?)
}

/// Whether `lo` gets this attachment's label: it is down, or has the label of another container to
/// which the namespace belonged. An alias that is not ours stays.
fn needs_label(lo: &Link, request: &Request) -> bool {
    match &lo.alias {
        None => !lo.up(),
        Some(alias) if alias.starts_with("moor/") => !lo.up() || !owner(request).has_same_container(alias),
        Some(_) => false,
    }
}

fn answer(netlink: &Netlink, lo: &Link, request: &Request) -> Result<AddResult, Error> {
    let addresses = netlink.addresses(Some(lo.index))?;
    let result = answer::of(addresses.iter().map(|address| address.net), &request.netns)?;
    result.convertible_to(request.version)?;
    Ok(result)
}
