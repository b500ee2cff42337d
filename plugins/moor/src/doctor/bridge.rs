//! br_netfilter, by which bridged packets pass the rules of IP.

use super::facts::Facts;
use super::finding::{Finding, sysctl};

const ID: &str = "bridge";
const CALL: &str = "net/bridge/bridge-nf-call-iptables";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let calls = facts.number(CALL);
    if facts.signs.kubernetes && calls != Some(1) {
        let finding = Finding::warn(ID, "Kubernetes expects bridged packets to pass packet rules");
        return vec![match calls {
            None => finding.evidence("br_netfilter is not loaded").fix("modprobe br_netfilter"),
            Some(_) => finding.evidence(format!("{CALL} is 0")).fix(sysctl(CALL, "1")),
        }];
    }
    let hairpin = facts.bridges().find(|(_, network)| network.hairpin);
    if let (Some(1), Some((bridge, network)), false) = (calls, hairpin, facts.signs.kubernetes) {
        let text = format!("bridged packets of {} ({}) pass packet rules twice", network.name, bridge.name);
        return vec![
            Finding::warn(ID, text)
                .evidence(format!("{CALL} is 1, hairpinMode is true, and nothing else here needs it"))
                .fix(sysctl(CALL, "0")),
        ];
    }
    vec![Finding::ok(
        ID,
        match calls {
            Some(1) => "bridged packets pass packet rules",
            _ => "bridged packets pass no packet rules of IP",
        },
    )]
}
