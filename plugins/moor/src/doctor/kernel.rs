//! Whether the kernel has what the plugins of the conflists need.

use super::facts::{Facts, Has};
use super::finding::Finding;

const ID: &str = "kernel";

/// What each plugin needs, by the names of modules.
const MODULES: [(&str, &[&str]); 12] = [
    ("bridge", &["bridge", "veth"]),
    ("ptp", &["veth"]),
    ("macvlan", &["macvlan"]),
    ("ipvlan", &["ipvlan"]),
    ("vlan", &["8021q"]),
    ("vrf", &["vrf"]),
    ("dummy", &["dummy"]),
    ("tap", &["tun"]),
    ("bandwidth", &["ifb", "sch_tbf"]),
    ("portmap", &["nf_tables", "nf_conntrack"]),
    ("firewall", &["nf_tables"]),
    ("dns", &["nf_tables"]),
];

/// The modules that are looked for.
pub fn modules() -> impl Iterator<Item = &'static str> {
    MODULES.iter().flat_map(|(_, modules)| modules.iter().copied())
}

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (plugin, modules) in MODULES {
        let users: Vec<_> = facts.networks.iter().filter(|network| network.has(plugin)).collect();
        let Some(user) = users.first() else { continue };
        for module in modules {
            let of = || format!("network {} has the plugin {plugin}", user.name);
            match facts.features.get(module) {
                Some(Has::No) => findings.push(
                    Finding::fail(ID, format!("the kernel {} has no {module}", facts.release))
                        .evidence(of())
                        .fix(format!("modprobe {module}")),
                ),
                Some(Has::Unknown) => findings.push(
                    Finding::unknown(ID, format!("whether the kernel has {module}"))
                        .evidence("only a request that may load a module would show")
                        .evidence(of()),
                ),
                _ => {}
            }
        }
    }
    findings.dedup_by(|a, b| a.text == b.text);
    if findings.is_empty() {
        let text = format!("the kernel {} has what the conflists need", facts.release);
        findings.push(Finding::ok(ID, text));
    }
    findings
}
