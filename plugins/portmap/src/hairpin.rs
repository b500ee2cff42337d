//! A container's way to its own published port where br_netfilter is on. The kernel then rewrites the destination while
//! the frame is still the bridge's, and sends it on from there: it must leave by the port that it came in by.

use cni::{AddResult, Error};
use netlink::{Netlink, PortChange};
use sys::sysctl;

/// Has the container's port of its bridge send frames back, if this host needs it. Whoever deletes the link undoes it.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn allow(result: &AddResult, netlink: &Netlink) -> Result<(), Error> {
    // Without br_netfilter there are no such parameters, and packets to the host's address are routed.
    let is_on =
        |family| sysctl::read(&format!("net/bridge/bridge-nf-call-{family}tables")).is_ok_and(|on| on == "1");
    if !is_on("ip") && !is_on("ip6") {
        return Ok(());
    }
    let on_the_host = |sandbox: &Option<String>| sandbox.as_ref().is_none_or(String::is_empty);
    for interface in result.interfaces.iter().filter(|interface| on_the_host(&interface.sandbox)) {
        let Some(link) = netlink.link_by_name(&interface.name)? else { continue };
        if link.port.is_some_and(|port| !port.hairpin) {
            netlink
                .set_bridge_port(link.index, &PortChange { hairpin: Some(true), ..PortChange::default() })?;
        }
    }
    Ok(())
}
