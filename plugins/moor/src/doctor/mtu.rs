//! Packets that are larger than what the uplink carries.

use cluster::net::Links;

use super::facts::{Facts, LinkFacts};
use super::finding::{Finding, quoted};

const ID: &str = "mtu";
/// The headers of VXLAN over IPv4: Ethernet, IP, UDP and VXLAN.
const VXLAN: u32 = 50;

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let uplinks = facts.uplinks.iter().filter_map(|name| facts.link(name));
    let Some(uplink) = uplinks.min_by_key(|link| link.mtu) else {
        return vec![Finding::ok(ID, "there is no default route to compare with")];
    };
    let mut findings = Vec::new();
    for (bridge, network) in facts.bridges().filter(|(_, network)| network.routed) {
        if bridge.mtu > uplink.mtu && bridge.name != uplink.name {
            let text = format!(
                "{} ({}) sends packets that {} does not carry",
                bridge.name, network.name, uplink.name
            );
            let mut finding = Finding::warn(ID, text)
                .evidence(format!("MTU {} above {}", bridge.mtu, uplink.mtu))
                .evidence(format!(
                    "containers keep theirs until they are attached again: \"mtu\": {}",
                    uplink.mtu
                ));
            let ports = facts.links.iter().filter(|link| link.master.as_ref() == Some(&bridge.name));
            for link in ports.filter(|link| link.mtu > uplink.mtu).chain([bridge]) {
                finding = finding.fix(set(link, uplink.mtu));
            }
            findings.push(finding);
        }
    }
    // Those of networks over many hosts go by the link that the agent knows.
    let known = facts.overlay.iter().flat_map(|overlay| &overlay.networks);
    let ours: Vec<String> = known.map(|(name, ..)| Links::of(name).vxlan).collect();
    let others = |link: &&LinkFacts| link.kind == "vxlan" && !ours.contains(&link.name);
    for link in facts.links.iter().filter(others) {
        let limit = uplink.mtu.saturating_sub(VXLAN);
        if link.mtu > limit {
            findings.push(
                Finding::warn(ID, format!("{} sends packets that {} does not carry", link.name, uplink.name))
                    .evidence(format!("MTU {} above {limit}, which is {} less {VXLAN}", link.mtu, uplink.mtu))
                    .fix(set(link, limit)),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ID, format!("no link is above the {} of {}", uplink.mtu, uplink.name)));
    }
    findings
}

fn set(link: &LinkFacts, mtu: u32) -> String {
    format!("ip link set dev {} mtu {mtu}", quoted(&link.name))
}
