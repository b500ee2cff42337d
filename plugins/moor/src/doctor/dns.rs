//! Names: the responder, its port, and whom it asks.

use super::facts::{Facts, NetworkFacts};
use super::finding::Finding;

const ID: &str = "dns";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let networks: Vec<&NetworkFacts> = facts.networks.iter().filter(|network| network.has("dns")).collect();
    if networks.is_empty() {
        return vec![Finding::ok(ID, "no conflist has the plugin dns")];
    }
    let mut findings = Vec::new();
    for listener in &facts.port53 {
        let takes = |network: &&&NetworkFacts| {
            let any = listener.address.is_unspecified()
                && network.gateways.iter().any(|gateway| gateway.is_ipv4() == listener.address.is_ipv4());
            any || network.gateways.contains(&listener.address)
        };
        let Some(network) = networks.iter().find(takes) else { continue };
        findings.push(
            Finding::fail(ID, format!("port 53 of the gateway of {} is taken", network.name))
                .evidence(format!("{} at {}/{}", listener.who, listener.address, listener.protocol))
                .evidence("bind that server to other addresses, or set \"port\" of the plugin dns"),
        );
    }
    if facts.responder == Some(false) {
        findings.push(
            Finding::fail(ID, "the responder does not run, and names are not answered")
                .evidence("its records are there; the next ADD or CHECK of any container starts it")
                .fix("moor check --fix"),
        );
    }
    if facts.name_servers.is_empty() {
        findings.push(
            Finding::warn(ID, "the host has no name server, so names of the outside are not answered")
                .evidence("no nameserver in /etc/resolv.conf"),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ID, "port 53 is free, and there is a name server to ask"));
    }
    findings
}
