//! Subnets that overlap, and addresses that two containers have.

use super::facts::{Facts, NetworkFacts};
use super::finding::{Finding, quoted};
use crate::subnets::overlap;

const ID: &str = "addresses";
/// A shorter prefix is a default route by another name.
const SHORTEST: u8 = 8;

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, one) in facts.networks.iter().enumerate() {
        for other in &facts.networks[at + 1..] {
            findings.extend(between(one, other));
        }
        findings.extend(with_the_host(facts, one));
    }
    for (address, owners) in &facts.twice {
        findings.push(
            Finding::fail(ID, format!("{address} is the address of {} containers", owners.len()))
                .evidence(owners.join("; ")),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ID, "no subnet overlaps with another one"));
    }
    findings
}

/// Networks on one link may share a subnet.
fn between(one: &NetworkFacts, other: &NetworkFacts) -> Option<Finding> {
    if one.name == other.name || (one.bridge.is_some() && one.bridge == other.bridge) {
        return None;
    }
    if one.bridge.is_none() && one.master.is_some() && one.master == other.master {
        return None;
    }
    let pairs = one.subnets.iter().flat_map(|a| other.subnets.iter().map(move |b| (*a, *b)));
    let (a, b) = pairs.into_iter().find(|(a, b)| overlap(*a, *b))?;
    let text = format!("the networks {} and {} overlap: {a} and {b}", one.name, other.name);
    let finding =
        Finding::warn(ID, text).evidence(format!("{} and {}", one.file.display(), other.file.display()));
    Some(finding.fix(format!("moor network rm {}", quoted(&other.name))))
}

fn with_the_host(facts: &Facts, network: &NetworkFacts) -> Option<Finding> {
    // A macvlan or ipvlan has the subnet of its parent's wire.
    let own = [network.bridge.as_deref(), network.master.as_deref()];
    let others = facts.routes.iter().filter(|(route, link)| {
        route.prefix() >= SHORTEST
            && !own.contains(&Some(link.as_str()))
            && !is_of_container(facts, link)
            && network.routed
    });
    let mut pairs =
        others.flat_map(|(route, link)| network.subnets.iter().map(move |subnet| (*subnet, *route, link)));
    let (subnet, route, link) = pairs.find(|(subnet, route, _)| overlap(*subnet, *route))?;
    let text = format!("subnet {subnet} of {} overlaps with a route of the host", network.name);
    let finding = Finding::fail(ID, text).evidence(format!("{route} leads to {link}"));
    Some(finding.fix(format!("moor network rm {}", quoted(&network.name))))
}

/// Routes to single containers are made by their plugins.
fn is_of_container(facts: &Facts, link: &str) -> bool {
    facts.link(link).is_some_and(|link| {
        ["veth", "macvlan", "ipvlan", "tun", "vrf", "bridge"].contains(&link.kind.as_str())
    }) && !facts.uplinks.iter().any(|uplink| uplink == link)
}
