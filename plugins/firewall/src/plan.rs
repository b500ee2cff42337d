//! What must exist, from the configuration, the previous plugin's result and the host's state.
//! Pure.

use std::net::IpAddr;

use cni::{AddResult, Error};
use host::piece::{Firewall, Piece};
use host::rules::firewall::PortUse;
use host::{Attached, Isolation, Owner, Ways};
use ipnetwork::IpNetwork;

use crate::config::{Backend, Config};
use crate::facts::Facts;

/// The plan of an attachment, without what a back end outside of nf_tables makes; empty if nothing
/// of nf_tables is needed.
///
/// # Errors
/// A policy needs a link of the host, or nf_tables.
pub fn plan(
    config: &Config,
    backend: Backend,
    owner: &Owner,
    result: &AddResult,
    facts: &Facts,
) -> Result<Vec<Piece>, Error> {
    let by_nftables = backend == Backend::Nftables;
    let key = match (config.isolation, config.policy.is_empty()) {
        (Isolation::Open, true) => None,
        (Isolation::Open, false) => Some("policy".to_owned()),
        (isolation, _) => Some(format!("ingressPolicy {isolation}")),
    };
    if !facts.has_nf_tables && !by_nftables && key.is_none() {
        return Ok(Vec::new());
    }
    if let Some(key) = key.filter(|_| facts.link.is_none()) {
        return Err(Error::invalid_config(format!(
            "{key} needs a link of the host towards the container: the result of the previous plugin has none"
        )));
    }
    let (port, released) = port(config.isolation, facts);
    let accepted = if by_nftables { addresses(result) } else { Vec::new() };
    let ways = if by_nftables { ways(result, facts) } else { Ways::default() };
    let link = facts.link.clone();
    let (isolation, policy) = (config.isolation, config.policy.clone());
    let attached = Attached { accepted, link, isolation, policy, port, ways };
    Ok(vec![Piece::Firewall(Firewall { owner: owner.clone(), attached, released })])
}

/// All addresses of a result, whatever their interface.
pub fn addresses(result: &AddResult) -> Vec<IpAddr> {
    result.ips.iter().map(|ip| ip.address.ip()).collect()
}

/// The port to isolate, and the one that an earlier policy of this attachment isolated.
fn port(isolation: Isolation, facts: &Facts) -> (Option<String>, Option<String>) {
    let Some((name, used)) = &facts.port else { return (None, None) };
    match (isolation, used) {
        (_, PortUse::Others) => (None, None),
        (Isolation::Isolated, _) => (Some(name.clone()), None),
        (_, PortUse::Own) => (None, Some(name.clone())),
        (_, PortUse::Free) => (None, None),
    }
}

fn ways(result: &AddResult, facts: &Facts) -> Ways {
    if let Some(link) = &facts.link {
        return Ways { links: vec![link.clone()], subnets: Vec::new() };
    }
    let mut subnets: Vec<IpNetwork> = Vec::new();
    for ip in &result.ips {
        let subnet = IpNetwork::new(ip.address.network(), ip.address.prefix()).unwrap_or(ip.address);
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
    }
    Ways { links: Vec::new(), subnets }
}

#[cfg(test)]
mod tests {
    use cni::{Interface, testing};

    use super::*;

    fn result() -> AddResult {
        let link = |name: &str, sandbox: Option<&str>| Interface {
            name: name.into(),
            sandbox: sandbox.map(str::to_owned),
            ..Interface::default()
        };
        AddResult {
            interfaces: vec![link("br0", None), link("veth1", None), link("eth0", Some("/run/netns/c1"))],
            ips: vec![testing::ip(Some(2), "10.1.2.3/24", None), testing::ip(Some(2), "fd00:1::3/64", None)],
            ..AddResult::default()
        }
    }

    fn planned(keys: &str, backend: Backend, facts: &Facts) -> Result<String, Error> {
        let config = Config::of(&testing::add_with("firewall", keys, "")).unwrap();
        let pieces = plan(&config, backend, &Owner::new("net", "c1", "eth0"), &result(), facts)?;
        let mut shown = Vec::new();
        for piece in &pieces {
            let Piece::Firewall(Firewall { attached: a, released, .. }) = piece else { continue };
            let accepted: Vec<String> = a.accepted.iter().map(ToString::to_string).collect();
            let subnets: Vec<String> = a.ways.subnets.iter().map(ToString::to_string).collect();
            let or = |name: &Option<String>| name.clone().unwrap_or_else(|| "-".into());
            let policy: Vec<String> =
                a.policy.ingress.iter().map(|rule| format!(" ingress {rule}")).collect();
            shown.push(format!(
                "accept {} {} {} isolate {} release {} ways {}{}{}",
                accepted.join(","),
                a.isolation,
                or(&a.link),
                or(&a.port),
                or(released),
                a.ways.links.join(","),
                subnets.join(","),
                policy.concat(),
            ));
        }
        Ok(shown.join("\n"))
    }

    fn facts(used: PortUse) -> Facts {
        Facts { link: Some("br0".into()), port: Some(("veth1".into(), used)), has_nf_tables: true }
    }

    #[test]
    fn each_policy_and_back_end_has_its_plan() {
        const NFT: Backend = Backend::Nftables;
        let open = r#""ingressPolicy": "open""#;
        let isolated = r#""ingressPolicy": "isolated""#;
        let same = r#""ingressPolicy": "same-bridge""#;
        let both = "accept 10.1.2.3,fd00:1::3";
        for (keys, backend, used, expected) in [
            (open, NFT, PortUse::Free, format!("{both} open br0 isolate - release - ways br0")),
            (same, NFT, PortUse::Free, format!("{both} same-bridge br0 isolate - release - ways br0")),
            (isolated, NFT, PortUse::Free, format!("{both} isolated br0 isolate veth1 release - ways br0")),
            (isolated, NFT, PortUse::Own, format!("{both} isolated br0 isolate veth1 release - ways br0")),
            (isolated, NFT, PortUse::Others, format!("{both} isolated br0 isolate - release - ways br0")),
            (same, NFT, PortUse::Own, format!("{both} same-bridge br0 isolate - release veth1 ways br0")),
            (
                r#""policy": {"ingress": [{"action": "deny", "from": "front"}]}"#,
                Backend::Firewalld,
                PortUse::Free,
                "accept  open br0 isolate - release - ways  ingress deny @front - - -".into(),
            ),
            (
                same,
                Backend::Iptables,
                PortUse::Free,
                "accept  same-bridge br0 isolate - release - ways ".into(),
            ),
        ] {
            assert_eq!(planned(keys, backend, &facts(used)).unwrap(), expected, "{keys} {used:?}");
        }
    }

    #[test]
    fn without_a_link_the_subnets_are_permitted_and_no_policy_is_possible() {
        let facts = Facts { has_nf_tables: true, ..Facts::default() };
        assert_eq!(
            planned(r#""x": 1"#, Backend::Nftables, &facts).unwrap(),
            "accept 10.1.2.3,fd00:1::3 open - isolate - release - ways 10.1.2.0/24,fd00:1::/64"
        );
        for keys in [r#""ingressPolicy": "isolated""#, r#""policy": {"egress": [{"action": "deny"}]}"#] {
            let error = planned(keys, Backend::Nftables, &facts).unwrap_err();
            assert_eq!(error.code, 7, "{keys}");
            assert!(error.msg.contains("needs a link of the host towards the container"), "{}", error.msg);
        }
    }

    #[test]
    fn a_back_end_of_others_needs_no_nf_tables_while_everything_is_open() {
        let without = Facts::default();
        assert_eq!(planned(r#""x": 1"#, Backend::Iptables, &without).unwrap(), "");
        assert_eq!(planned(r#""x": 1"#, Backend::Firewalld, &without).unwrap(), "");
    }
}
