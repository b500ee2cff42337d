//! Whether the host forwards, and keeps its own default route meanwhile.

use super::facts::Facts;
use super::finding::{Finding, sysctl};

const ID: &str = "forwarding";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, is_v4, all) in
        [("IPv4", true, "net/ipv4/ip_forward"), ("IPv6", false, "net/ipv6/conf/all/forwarding")]
    {
        // ADD turns it on, so it is off for networks without a container.
        let used: Vec<_> = facts
            .bridges()
            .filter(|(_, network)| network.routed)
            .filter(|(_, network)| network.subnets.iter().any(|subnet| subnet.is_ipv4() == is_v4))
            .collect();
        let Some((_, network)) = used.first() else { continue };
        if facts.number(all) == Some(0) {
            findings.push(
                Finding::fail(ID, format!("the host does not forward {name}"))
                    .evidence(format!("{all} is 0, and network {} is in use", network.name))
                    .fix(sysctl(all, "1")),
            );
            continue;
        }
        for (bridge, _) in used.iter().filter(|_| is_v4) {
            let key = format!("net/ipv4/conf/{}/forwarding", bridge.name);
            if facts.number(&key) == Some(0) {
                findings.push(
                    Finding::fail(ID, format!("the host does not forward {name} from {}", bridge.name))
                        .evidence(format!("{key} is 0"))
                        .fix(sysctl(&key, "1")),
                );
            }
        }
    }
    findings.extend(routers(facts));
    if findings.is_empty() {
        findings.push(Finding::ok(ID, "networks in use are forwarded"));
    }
    findings
}

/// A host that forwards IPv6 listens to routers only if `accept_ra` is 2.
fn routers(facts: &Facts) -> Vec<Finding> {
    let forwards = |link: &str| {
        [link, "all"].iter().any(|of| facts.number(&format!("net/ipv6/conf/{of}/forwarding")) == Some(1))
    };
    let mut links = facts.advertised.clone();
    links.sort();
    links.dedup();
    let deaf = links
        .into_iter()
        .filter(|link| forwards(link) && facts.number(&format!("net/ipv6/conf/{link}/accept_ra")) == Some(1));
    deaf.map(|link| {
        let key = format!("net/ipv6/conf/{link}/accept_ra");
        Finding::fail(ID, format!("{link} loses its IPv6 default route when it expires"))
            .evidence(format!("{key} is 1 while the host forwards; routers are heard only with 2"))
            .fix(sysctl(&key, "2"))
    })
    .collect()
}
