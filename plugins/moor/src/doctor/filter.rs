//! Whether the packet filters of others let containers through: a drop in any of them is final.

use host::rules::{ForeignChain, Way};
use nft::Family;

use super::facts::{Facts, NetworkFacts};
use super::finding::{Finding, quoted};

const ID: &str = "filter";

/// NF_INET_FORWARD and NF_INET_LOCAL_IN (linux/netfilter.h).
const FORWARD: u32 = 2;
const LOCAL_IN: u32 = 1;
/// Docker's chain for the administrator, before its own rules.
const DOCKER_USER: &str = "DOCKER-USER";

pub fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !facts.legacy_tables.is_empty() {
        findings.push(
            Finding::unknown(ID, "legacy iptables tables exist beside nf_tables, and are not looked into")
                .evidence(format!("tables: {}", facts.legacy_tables.join(", ")))
                .evidence("`iptables-legacy-save` lists them"),
        );
    }
    let Some(chains) = &facts.chains else {
        findings.push(Finding::unknown(ID, "packet rules could not be listed"));
        return findings;
    };
    for chain in chains.iter().filter(|chain| chain.closed && chain.hook == FORWARD) {
        findings.extend(forward(facts, chain));
    }
    for chain in chains.iter().filter(|chain| chain.closed && chain.hook == LOCAL_IN) {
        findings.extend(input(facts, chain));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ID, "no filter of another program drops packets of containers"));
    }
    findings
}

fn forward(facts: &Facts, chain: &ForeignChain) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (bridge, network) in facts.bridges().filter(|(_, network)| network.routed) {
        let (into, out) = (chain.accepts(Way::In, &bridge.name), chain.accepts(Way::Out, &bridge.name));
        if is_opened(chain, network) || (into && out) || !sees(chain, network) {
            continue;
        }
        let text = format!("{} drops packets of {} ({})", shown(chain), network.name, bridge.name);
        let mut finding = Finding::fail(ID, text).evidence(why(chain));
        for (is_open, way) in [(into, Way::In), (out, Way::Out)] {
            if !is_open {
                finding = finding.fix(accept(chain, way, &bridge.name));
            }
        }
        findings.push(finding);
    }
    if findings.is_empty() && facts.networks.iter().any(|network| is_idle(facts, network)) {
        let text = format!("{} drops what it does not know", shown(chain));
        findings.push(
            Finding::warn(ID, text)
                .evidence(why(chain))
                .evidence("the plugin firewall opens it for its network at ADD"),
        );
    }
    findings
}

/// A network that will be routed, and has no link yet.
fn is_idle(facts: &Facts, network: &NetworkFacts) -> bool {
    let is_there = network.bridge.as_deref().is_some_and(|bridge| facts.link(bridge).is_some());
    network.routed && !is_there && !network.has("firewall")
}

fn input(facts: &Facts, chain: &ForeignChain) -> Vec<Finding> {
    let asks = facts.bridges().filter(|(bridge, network)| {
        network.has("dns") && !is_opened(chain, network) && !chain.accepts(Way::In, &bridge.name)
    });
    asks.map(|(bridge, network)| {
        let text = format!("{} drops questions of {} to the responder", shown(chain), network.name);
        Finding::warn(ID, text).evidence(why(chain)).fix(accept(chain, Way::In, &bridge.name))
    })
    .collect()
}

/// The plugins open a chain by rules with the network's label.
fn is_opened(chain: &ForeignChain, network: &NetworkFacts) -> bool {
    chain.comments.contains(&format!("moor/{}", network.name))
}

/// Whether packets of the network's families pass through the chain.
fn sees(chain: &ForeignChain, network: &NetworkFacts) -> bool {
    let any = |is_v4: bool| network.subnets.iter().any(|subnet| subnet.is_ipv4() == is_v4);
    match chain.family {
        Family::Ip => any(true),
        Family::Ip6 => any(false),
        _ => true,
    }
}

fn shown(chain: &ForeignChain) -> String {
    let maker = maker(chain).map(|maker| format!(" of {maker}")).unwrap_or_default();
    format!("chain {} of table {} {}{maker}", chain.name, chain.family, chain.table)
}

fn why(chain: &ForeignChain) -> String {
    let end = if chain.drops { "its policy is drop" } else { "its last rule refuses" };
    format!("priority {}, {end}", chain.priority)
}

/// The program that makes such a chain.
pub fn maker(chain: &ForeignChain) -> Option<&'static str> {
    let leads = |prefix: &str| chain.leads_to.iter().any(|to| to.starts_with(prefix));
    let named = |name: &str| chain.table == name;
    Some(match () {
        () if leads("DOCKER") || chain.table.starts_with("docker") => "Docker",
        () if leads("ufw-") || leads("ufw6-") => "ufw",
        () if named("firewalld") => "firewalld",
        () if leads("LIBVIRT") || named("libvirt_network") => "libvirt",
        () if leads("KUBE-") || named("kube-proxy") => "kube-proxy",
        () if leads("cali-") => "Calico",
        () if leads("CILIUM") => "Cilium",
        () if leads("NETAVARK") || named("netavark") => "podman",
        () => return None,
    })
}

/// The command that opens a chain for a link.
fn accept(chain: &ForeignChain, way: Way, link: &str) -> String {
    let is_of_iptables = chain.table == "filter" && ["INPUT", "FORWARD"].contains(&chain.name.as_str());
    if is_of_iptables && matches!(chain.family, Family::Ip | Family::Ip6) {
        let program = if chain.family == Family::Ip { "iptables" } else { "ip6tables" };
        let option = if way == Way::In { "-i" } else { "-o" };
        let to = if chain.leads_to.contains(DOCKER_USER) { DOCKER_USER } else { &chain.name };
        return format!("{program} -I {to} {option} {} -j ACCEPT", quoted(link));
    }
    let key = if way == Way::In { "iifname" } else { "oifname" };
    let place = format!("{} {} {}", chain.family, quoted(&chain.table), quoted(&chain.name));
    format!("nft insert rule {place} {key} {} accept", quoted(link))
}
