//! Which connections between a network and others may begin, as planned and as recorded: see
//! [`crate::rules::firewall`]. The text form is one line for each rule, without spaces in its words:
//! `allow @front 10.1.2.3/32 tcp 80-80,8000-8010`, `deny-log - - - -`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use nft::Protocol;

/// The lists of a network. In each, the first rule that matches decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Connections to the network's containers.
    pub ingress: Vec<PolicyRule>,
    /// Connections from them.
    pub egress: Vec<PolicyRule>,
}

/// A rule: what it does with connections that match all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRule {
    /// What it does.
    pub action: Action,
    /// Where the connection begins.
    pub from: Peer,
    /// Where it leads.
    pub to: Peer,
    /// Its protocol; `None` is any.
    pub proto: Option<Transport>,
    /// Its destination ports, as inclusive ranges; none is any.
    pub ports: Vec<(u16, u16)>,
}

/// What a rule does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Lets it begin.
    Allow,
    /// Drops its packets.
    Deny,
    /// Drops them, and logs some of them.
    DenyAndLog,
}

/// An end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Any.
    Any,
    /// A network, by its name.
    Network(String),
    /// Addresses.
    Subnet(IpNetwork),
}

/// A protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// ICMP of IPv4, or ICMPv6.
    Icmp,
    /// One with ports.
    Ports(Protocol),
}

/// What is not given, in the text form.
const NONE: &str = "-";
const ACTIONS: [(Action, &str); 3] =
    [(Action::Allow, "allow"), (Action::Deny, "deny"), (Action::DenyAndLog, "deny-log")];

impl Policy {
    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.ingress.is_empty() && self.egress.is_empty()
    }

    /// The networks that rules name.
    pub fn networks(&self) -> BTreeSet<&str> {
        let rules = self.ingress.iter().chain(&self.egress);
        rules.flat_map(|rule| [&rule.from, &rule.to]).filter_map(Peer::network).collect()
    }
}

impl Peer {
    /// The network that it names.
    pub fn network(&self) -> Option<&str> {
        match self {
            Self::Network(name) => Some(name),
            Self::Any | Self::Subnet(_) => None,
        }
    }
}

impl Transport {
    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        match name.eq_ignore_ascii_case("icmp") {
            true => Some(Self::Icmp),
            false => Protocol::named(name).map(|number| Self::Ports(Protocol(number))),
        }
    }
}

impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = ACTIONS.iter().find(|(this, _)| *this == self.action).map_or(NONE, |(_, name)| name);
        write!(f, "{action} {} {} ", self.from, self.to)?;
        match self.proto {
            Some(Transport::Icmp) => f.write_str("icmp ")?,
            Some(Transport::Ports(proto)) => write!(f, "{proto} ")?,
            None => write!(f, "{NONE} ")?,
        }
        let ports: Vec<String> = self.ports.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        f.write_str(if ports.is_empty() { NONE } else { "" })?;
        f.write_str(&ports.join(","))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str(NONE),
            Self::Network(name) => write!(f, "@{name}"),
            Self::Subnet(subnet) => subnet.fmt(f),
        }
    }
}

/// A text is no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRule;

impl FromStr for PolicyRule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Self, NoRule> {
        let words: Vec<&str> = text.split(' ').collect();
        let [action, from, to, proto, ports] = words[..] else { return Err(NoRule) };
        let (action, _) = ACTIONS.into_iter().find(|(_, name)| *name == action).ok_or(NoRule)?;
        let proto = match proto {
            NONE => None,
            name => Some(Transport::named(name).ok_or(NoRule)?),
        };
        let range = |text: &str| {
            let (first, last) = text.split_once('-')?;
            Some((first.parse().ok()?, last.parse().ok()?)).filter(|(first, last)| first <= last)
        };
        let ports = match ports {
            NONE => Vec::new(),
            list => list.split(',').map(range).collect::<Option<_>>().ok_or(NoRule)?,
        };
        Ok(Self { action, from: from.parse()?, to: to.parse()?, proto, ports })
    }
}

impl FromStr for Peer {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Self, NoRule> {
        match (text, text.strip_prefix('@')) {
            (NONE, _) => Ok(Self::Any),
            (_, Some(name)) => Ok(Self::Network(name.to_owned())),
            (subnet, None) => subnet.parse().map(Self::Subnet).map_err(|_| NoRule),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_written() {
        for text in [
            "allow @front 10.1.2.3/32 tcp 80-80,8000-8010",
            "deny 10.0.0.0/8 - udp -",
            "deny-log - - - -",
            "allow - @back icmp -",
            "allow fd00::/8 - sctp 1-65535",
        ] {
            assert_eq!(text.parse::<PolicyRule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_texts_are_no_rules() {
        for text in [
            "",
            "allow",
            "pass - - - -",
            "allow - - - - -",
            "allow front - - -",
            "allow - - gre -",
            "deny - - tcp 2-1",
            "deny - - tcp 80",
            "deny - - tcp 1-65536",
        ] {
            assert_eq!(text.parse::<PolicyRule>(), Err(NoRule), "{text}");
        }
    }
}
