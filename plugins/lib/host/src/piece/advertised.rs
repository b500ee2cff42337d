//! Keeps what the host has learned from routers when it starts forwarding.

use std::collections::BTreeSet;

use netlink::Netlink;
use sys::{Result, sysctl};

use super::sysctl::best_effort;

/// The host's IPv6 forwarding: with it, the kernel treats the host as a router and ignores
/// advertisements.
pub(super) const FORWARDING: &str = "net/ipv6/conf/all/forwarding";

/// Keeps the links on which the host has learned routes or addresses from router advertisements
/// listening to them (`accept_ra` 2) when the host starts forwarding. Otherwise the kernel drops
/// the default routes at once, and the addresses when they expire. Links that do not listen, or
/// have learned nothing, stay as they are.
///
/// # Errors
/// The kernel could not be asked. A parameter that cannot be set keeps its value.
pub(super) fn keep(host: &Netlink) -> Result<()> {
    let mut learned: BTreeSet<u32> = host.advertised_routes()?.into_iter().collect();
    let addresses = host.addresses(None)?.into_iter();
    learned.extend(addresses.filter(|address| address.advertised()).map(|address| address.index));
    for index in learned {
        let Some(link) = host.link_by_index(index)? else { continue };
        let key = |name: &str| format!("net/ipv6/conf/{}/{name}", link.name);
        let is = |name: &str, value: &str| sysctl::read(&key(name)).is_ok_and(|now| now == value);
        if is("accept_ra", "1") && is("forwarding", "0") {
            best_effort(&key("accept_ra"), "2");
        }
    }
    Ok(())
}
