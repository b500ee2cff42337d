//! The key `policy`: as written, and checked ([`Policy`]).

use std::collections::BTreeMap;

use cni::{Error, Json, shortened};
use host::{Action, Peer, Policy, PolicyRule, Transport};
use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sys::IpFamily;

/// The maximum number of rules in a list, and of ports in a rule: together they bound what a packet
/// that begins a connection costs.
const RULES_MAX: usize = 64;
const PORTS_MAX: usize = 16;
/// The maximum length of a network's name here.
const NAME_MAX: usize = 255;

/// The lists as written. `null` and absent are the same.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Conf {
    ingress: Option<Vec<Json>>,
    egress: Option<Vec<Json>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RuleConf {
    action: Option<String>,
    from: Option<String>,
    to: Option<String>,
    proto: Option<String>,
    ports: Option<Vec<Json>>,
    log: Option<bool>,
}

/// Checks all of a policy; `own` is the name of its network. A rule without the key that was meant
/// would match more, so unknown keys are refused here.
///
/// # Errors
/// Names the list, the number of the rule in it, and what is wrong with it.
pub fn checked(written: Option<&Json>, own: &str) -> Result<Policy, Error> {
    let Some(written) = written else { return Ok(Policy::default()) };
    let conf: Conf = decoded(written, &["ingress", "egress"])
        .map_err(|fault| Error::invalid_config(format!("policy: {fault}")))?;
    Ok(Policy { ingress: list("ingress", conf.ingress, own)?, egress: list("egress", conf.egress, own)? })
}

fn list(name: &str, rules: Option<Vec<Json>>, own: &str) -> Result<Vec<PolicyRule>, Error> {
    let rules = rules.unwrap_or_default();
    if rules.len() > RULES_MAX {
        let count = rules.len();
        return Err(Error::invalid_config(format!("policy {name}: {count} rules, of at most {RULES_MAX}")));
    }
    let numbered = rules.iter().enumerate();
    let checked = numbered.map(|(at, rule)| {
        let rule = decoded(rule, &["action", "from", "to", "proto", "ports", "log"]);
        rule.and_then(|rule: RuleConf| rule.checked(name, own))
            .map_err(|fault| Error::invalid_config(format!("policy {name}, rule {}: {fault}", at + 1)))
    });
    checked.collect()
}

fn decoded<T: DeserializeOwned>(written: &Json, keys: &[&str]) -> Result<T, String> {
    let members: BTreeMap<String, Json> = written.decode().map_err(|error| error.to_string())?;
    if let Some(other) = members.keys().find(|name| !keys.iter().any(|key| name.eq_ignore_ascii_case(key))) {
        return Err(format!("unknown key {:?}: {}", shortened(other), keys.join(", ")));
    }
    written.decode().map_err(|error| error.to_string())
}

impl RuleConf {
    fn checked(self, list: &str, own: &str) -> Result<PolicyRule, String> {
        let action = match (self.action.as_deref(), self.log.unwrap_or_default()) {
            (Some("allow"), false) => Action::Allow,
            (Some("allow"), true) => return Err("log is for deny".to_owned()),
            (Some("deny"), false) => Action::Deny,
            (Some("deny"), true) => Action::DenyAndLog,
            (other, _) => {
                let other = shortened(other.unwrap_or_default());
                return Err(format!("unknown action {other:?}: allow or deny"));
            }
        };
        let (from, to) = (peer("from", self.from, own)?, peer("to", self.to, own)?);
        let own_end = if list == "ingress" { ("to", &to) } else { ("from", &from) };
        if let (key, Peer::Network(_)) = own_end {
            return Err(format!("{key} is an end in this network: an address or a subnet"));
        }
        if let (Peer::Subnet(from), Peer::Subnet(to)) = (&from, &to)
            && IpFamily::of(from.ip()) != IpFamily::of(to.ip())
        {
            return Err("from and to are of different families".to_owned());
        }
        let proto = match self.proto.as_deref() {
            None | Some("") => None,
            Some(name) => {
                let unknown = || format!("unknown proto {:?}: tcp, udp, sctp or icmp", shortened(name));
                Some(Transport::named(name).ok_or_else(unknown)?)
            }
        };
        let ports = self.ports.unwrap_or_default();
        if ports.len() > PORTS_MAX {
            return Err(format!("{} ports, of at most {PORTS_MAX}", ports.len()));
        }
        if !ports.is_empty() && !matches!(proto, Some(Transport::Ports(_))) {
            return Err("ports need proto tcp, udp or sctp".to_owned());
        }
        let ports = ports.iter().map(port).collect::<Result<_, _>>()?;
        Ok(PolicyRule { action, from, to, proto, ports })
    }
}

/// A network's name, an address or a subnet. What reads as an address is one.
fn peer(key: &str, written: Option<String>, own: &str) -> Result<Peer, String> {
    let Some(text) = written.filter(|text| !text.is_empty()) else { return Ok(Peer::Any) };
    if let Ok(subnet) = text.parse::<IpNetwork>() {
        return Ok(Peer::Subnet(IpNetwork::new(subnet.network(), subnet.prefix()).unwrap_or(subnet)));
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if !begins || text.len() > NAME_MAX || !text.chars().all(is_plain) {
        return Err(format!(
            "invalid {key} {:?}: a network's name, an address or a subnet",
            shortened(&text)
        ));
    }
    if text == own {
        return Err(format!("{key} is this network: a policy is about connections with others"));
    }
    Ok(Peer::Network(text))
}

/// A port, as a number or a text, or a range of ports.
fn port(written: &Json) -> Result<(u16, u16), String> {
    let text = match (written.decode::<u64>(), written.decode::<String>()) {
        (Ok(number), _) => number.to_string(),
        (_, Ok(text)) => text,
        _ => return Err("a port is a number, or a text such as \"8000-8010\"".to_owned()),
    };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok((first, last)),
        _ => Err(format!("invalid port {:?}", shortened(&text))),
    }
}
