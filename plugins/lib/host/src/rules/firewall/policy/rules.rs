//! The rules of a policy's chains.

use nft::{Compare, Field, IPV4, IPV6, Protocol, Rule, Value, Verdict};
use sys::IpFamily;

use super::{Direction, Named};
use crate::{Action, Owner, Peer, Policy, PolicyRule, Transport};

/// Logged packets of a rule: so many a second, and so many at once.
const LOGGED: (u64, u32) = (1, 10);
/// The longest part of a network's name in a prefix of the log, which has at most 127 bytes.
const LOGGED_NAME_MAX: usize = 80;
/// IPPROTO_ICMP, IPPROTO_ICMPV6 (linux/in.h, linux/in6.h).
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The rules of a chain. Packets within the network are none of a policy's.
pub(super) fn of(direction: Direction, policy: &Policy, network: &str) -> Vec<Rule> {
    let own = Named::of(Owner::network_label(network));
    let other_end = match direction {
        Direction::Ingress => Field::IIFNAME,
        Direction::Egress => Field::OIFNAME,
    };
    let mut rules = vec![Rule::new().member(&[other_end], &own.set()).verdict(Verdict::Return)];
    for rule in direction.rules(policy) {
        for matched in matches(rule) {
            if rule.action == Action::DenyAndLog {
                let (rate, burst) = LOGGED;
                rules.push(matched.clone().limit(rate, burst).log(prefix(direction, network)));
            }
            rules.push(matched.verdict(match (rule.action, direction) {
                (Action::Deny | Action::DenyAndLog, _) => Verdict::Drop,
                // The network at the other end has a say too.
                (Action::Allow, Direction::Egress) => Verdict::Return,
                (Action::Allow, Direction::Ingress) => Verdict::Accept,
            }));
        }
    }
    rules
}

fn prefix(direction: Direction, network: &str) -> String {
    let name: String = network.chars().take(LOGGED_NAME_MAX).collect();
    let direction = match direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    format!("moor: {name} denies {direction}: ")
}

/// The conditions of a rule: one for each family and range of ports.
fn matches(rule: &PolicyRule) -> Vec<Rule> {
    let subnet = [&rule.from, &rule.to].into_iter().find_map(|peer| match peer {
        Peer::Subnet(subnet) => Some(IpFamily::of(subnet.ip())),
        Peer::Any | Peer::Network(_) => None,
    });
    let families = match (subnet, rule.proto) {
        (Some(family), _) => vec![Some(family)],
        (None, Some(Transport::Icmp)) => IpFamily::BOTH.map(Some).to_vec(),
        (None, _) => vec![None],
    };
    let mut all = Vec::new();
    for family in families {
        let begun = match family {
            Some(family) => Rule::new().nfproto(family.choose(IPV4, IPV6)),
            None => Rule::new(),
        };
        let begun = end_at(begun, &rule.from, Field::IIFNAME, [Field::IP_SADDR, Field::IP6_SADDR]);
        let begun = end_at(begun, &rule.to, Field::OIFNAME, [Field::IP_DADDR, Field::IP6_DADDR]);
        let begun = match rule.proto {
            None => begun,
            Some(Transport::Ports(Protocol(proto))) => begun.is(Field::L4PROTO, Value::new().proto(proto)),
            Some(Transport::Icmp) => {
                let icmp = if family == Some(IpFamily::V6) { ICMPV6 } else { ICMP };
                begun.is(Field::L4PROTO, Value::new().proto(icmp))
            }
        };
        match rule.ports.is_empty() {
            true => all.push(begun),
            false => all.extend(rule.ports.iter().map(|ports| to_ports(begun.clone(), *ports))),
        }
    }
    all
}

/// Matches packets with that end of their connection.
fn end_at(rule: Rule, peer: &Peer, link: Field, [v4, v6]: [Field; 2]) -> Rule {
    match peer {
        Peer::Any => rule,
        Peer::Network(name) => rule.member(&[link], &Named::of(Owner::network_label(name)).set()),
        Peer::Subnet(subnet) => rule.network(IpFamily::of(subnet.ip()).choose(v4, v6), *subnet, true),
    }
}

fn to_ports(rule: Rule, (first, last): (u16, u16)) -> Rule {
    let [first_port, last_port] = [first, last].map(|port| Value::new().port(port));
    match first == last {
        true => rule.is(Field::DPORT, first_port),
        false => rule.compare(Field::DPORT, Compare::GreaterOrEqual, first_port).compare(
            Field::DPORT,
            Compare::LessOrEqual,
            last_port,
        ),
    }
}
