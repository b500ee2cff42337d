//! The source check of IPv4, which drops what a container sends by a way that the host would not
//! answer by.

use super::facts::Facts;
use super::finding::{Finding, sysctl};

const ID: &str = "rp_filter";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let strict = |of: &str| facts.number(&format!("net/ipv4/conf/{of}/rp_filter")) == Some(1);
    let loose = |of: &str| facts.number(&format!("net/ipv4/conf/{of}/rp_filter")) == Some(2);
    let mut findings = Vec::new();
    // The larger one of both counts: 1 is strict, 2 is loose.
    let needs_loose =
        facts.networks.iter().filter(|network| network.host_access && network.types[..1] == ["ipvlan"]);
    for network in needs_loose {
        let Some(master) = network.master.as_deref() else { continue };
        if (strict(master) || strict("all")) && !loose(master) && !loose("all") {
            let key = format!("net/ipv4/conf/{master}/rp_filter");
            findings.push(
                Finding::fail(
                    ID,
                    format!("{master} drops what containers of {} answer the host", network.name),
                )
                .evidence(format!("hostAccess of ipvlan needs {key} to be 0 or 2"))
                .fix(sysctl(&key, "2")),
            );
        }
    }
    if facts.links.iter().any(|link| link.name.starts_with("cali")) && loose("all") {
        findings.push(
            Finding::warn(ID, "Calico refuses a loose source check")
                .evidence("net/ipv4/conf/all/rp_filter is 2")
                .fix(sysctl("net/ipv4/conf/all/rp_filter", "1")),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ID, "the source check drops no packets of containers"));
    }
    findings
}
