//! IPv6 that conflists ask for, and the host has switched off.

use super::facts::Facts;
use super::finding::{Finding, sysctl};

const ID: &str = "ipv6";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let wants = facts.networks.iter().find(|network| network.subnets.iter().any(|subnet| subnet.is_ipv6()));
    let Some(network) = wants else { return vec![Finding::ok(ID, "no conflist has an IPv6 subnet")] };
    let asks = format!("network {} has an IPv6 subnet", network.name);
    if facts.sysctl("net/ipv6/conf/all/disable_ipv6").is_none() {
        return vec![Finding::fail(ID, "the kernel has no IPv6").evidence(asks)];
    }
    let mut findings = Vec::new();
    let bridges = facts.bridges().map(|(bridge, _)| bridge.name.as_str());
    for of in ["all", "default"].into_iter().chain(bridges) {
        let key = format!("net/ipv6/conf/{of}/disable_ipv6");
        if facts.number(&key) == Some(1) {
            findings.push(
                Finding::fail(ID, "IPv6 is switched off")
                    .evidence(format!("{key} is 1"))
                    .evidence(&asks)
                    .fix(sysctl(&key, "0")),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ID, "IPv6 is on"));
    }
    findings
}
