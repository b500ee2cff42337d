//! What is published on this host, for people: by this suite, and by the reference's nftables back
//! end.

use std::collections::HashMap;
use std::net::IpAddr;

use nft::{Chain, Compare, Element, Expr, Family, Field, Nat, Nft, RuleInfo, Set, Table, Target, Value};
use sys::{IpFamily, Result};

use super::elements;
use super::layout::{V4, V6};
use super::reference::CHAINS;

/// A port of the host, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Who publishes it: [`crate::Owner::label`], or for the reference the container's id.
    pub owner: String,
    /// The transport protocol (IPPROTO_TCP, …).
    pub proto: u8,
    /// The host's address; `None` is any.
    pub address: Option<IpAddr>,
    /// Ports of the host: first and last.
    pub ports: (u16, u16),
    /// The container's address.
    pub to: IpAddr,
    /// The container's port that the first one leads to; `None` if it is not known here.
    pub target: Option<u16>,
    /// Whether a chain of iptables leads there.
    pub is_in_iptables: bool,
}

/// The ports that attachments of this suite publish.
///
/// # Errors
/// The kernel could not be asked.
pub fn published(nft: &Nft) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    for family in [&V4, &V6] {
        let direct = [family.ports, family.ports_at, family.ranges, family.ranges_at];
        for set in direct.iter().chain([&family.elsewhere]) {
            let is_in_iptables = set.name == family.elsewhere.name;
            let listed = |element: &Element| listed(set, element, is_in_iptables);
            all.extend(nft.elements(set)?.iter().filter_map(listed));
        }
    }
    Ok(all)
}

fn listed(set: &Set<'_>, element: &Element, is_in_iptables: bool) -> Option<Listed> {
    let (mapping, to) = elements::read(set, element)?;
    // Ranges keep their port numbers; those of iptables are in its chain.
    let target = match (&element.target, element.end, is_in_iptables) {
        (_, _, true) => None,
        (Target::Value(value), None, _) => elements::target_port(value),
        _ => Some(mapping.ports.0),
    };
    Some(Listed {
        owner: element.comment.clone().unwrap_or_default(),
        proto: mapping.proto,
        address: mapping.address,
        ports: mapping.ports,
        to,
        target,
        is_in_iptables,
    })
}

/// The ports that the reference's portmap published with its nftables back end.
///
/// # Errors
/// The kernel could not be asked.
pub fn published_by_reference(nft: &Nft) -> Result<Vec<Listed>> {
    let mut all = Vec::new();
    for family in [Family::Ip, Family::Ip6] {
        let table = Table { family, name: "cni_hostport" };
        let [ports, ports_at, _] = CHAINS;
        for name in [ports, ports_at] {
            all.extend(nft.rules(&Chain { table, name })?.iter().filter_map(of_rule));
        }
    }
    Ok(all)
}

/// The port that a rule of the reference leads to a container.
fn of_rule(rule: &RuleInfo) -> Option<Listed> {
    let mut fields = HashMap::new();
    let mut constants = HashMap::new();
    let (mut proto, mut port, mut address) = (None, None, None);
    let mut nat: Option<Nat> = None;
    for expr in &rule.exprs {
        match expr {
            Expr::Load { field, to } => drop(fields.insert(*to, *field)),
            Expr::Immediate { value, to } => drop(constants.insert(*to, *value)),
            Expr::Compare { from, op: Compare::Equal, value } => match fields.get(from) {
                Some(&Field::L4PROTO) => proto = value.bytes().first().copied(),
                Some(&Field::DPORT) => port = number(value),
                Some(&Field::IP_DADDR | &Field::IP6_DADDR) => address = ip(value),
                _ => {}
            },
            Expr::Nat(to) if to.destination => nat = Some(*to),
            _ => {}
        }
    }
    let (nat, port) = (nat?, port?);
    Some(Listed {
        owner: rule.comment.clone().unwrap_or_default(),
        proto: proto?,
        address,
        ports: (port, port),
        to: ip(constants.get(&nat.addr)?)?,
        target: nat.port.and_then(|register| number(constants.get(&register)?)).or(Some(port)),
        is_in_iptables: false,
    })
}

fn number(value: &Value) -> Option<u16> {
    value.bytes().first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn ip(value: &Value) -> Option<IpAddr> {
    netlink::attr::ip_from(value.bytes()).ok()
}

/// The chains of containers' ports in tables of iptables that are in nf_tables, by name.
///
/// # Errors
/// The kernel could not be asked.
pub fn chains_of_iptables(nft: &Nft) -> Result<Vec<(IpFamily, String)>> {
    let mut names = Vec::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        let table = Table { family: family.choose(Family::Ip, Family::Ip6), name: "nat" };
        let chains = nft.chains(&table)?.into_iter().map(|chain| chain.name);
        let of_ports = chains.filter(|name| name.starts_with("CNI-DN-"));
        names.extend(of_ports.map(|name| (family, name)));
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use nft::{Rule, Verdict};

    use super::*;

    fn rule(rule: &Rule, comment: &str) -> RuleInfo {
        RuleInfo { handle: 1, comment: Some(comment.to_owned()), exprs: rule.exprs().to_vec() }
    }

    #[test]
    fn a_rule_of_the_reference_is_a_port_and_its_container() {
        let to: IpAddr = "10.1.2.3".parse().unwrap();
        let host: IpAddr = "192.0.2.1".parse().unwrap();
        let made = Rule::new()
            .is(Field::IP_DADDR, Value::new().addr(host))
            .is(Field::L4PROTO, Value::new().proto(6))
            .is(Field::DPORT, Value::new().port(8080))
            .dnat(to, Some(80));
        let listed = of_rule(&rule(&made, "c1")).unwrap();
        let expected = Listed {
            owner: "c1".to_owned(),
            proto: 6,
            address: Some(host),
            ports: (8080, 8080),
            to,
            target: Some(80),
            is_in_iptables: false,
        };
        assert_eq!(listed, expected);
        assert_eq!(of_rule(&rule(&Rule::new().verdict(Verdict::Return), "c1")), None);
    }
}
