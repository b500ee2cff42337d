//! The configuration: the keys as written ([`Conf`]), and checked ([`Config`]).

use cni::keys::{Keys, Kind, key};
use cni::{Code, Error, Request, shortened};
use host::{Isolation, Policy};
use serde::Deserialize;

use crate::policy;

/// The keys as written. `null` and absent are the same.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    backend: Option<String>,
    iptables_admin_chain_name: Option<String>,
    firewalld_zone: Option<String>,
    ingress_policy: Option<String>,
    policy: Option<cni::Json>,
}

/// Just enough for DEL, and nothing that must be valid.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DelConf {
    backend: Option<cni::Json>,
    firewalld_zone: Option<cni::Json>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[&[
    key("backend", Kind::OneOf(&["auto", "nftables", "iptables", "firewalld"])),
    key("iptablesAdminChainName", Kind::Text),
    key("firewalldZone", Kind::Text),
    key("ingressPolicy", Kind::OneOf(&["open", "same-bridge", "isolated"])),
    key("policy", Kind::Any),
]];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The requested back end; `None` is `auto`.
    pub backend: Option<Backend>,
    /// The chain of iptables that comes before the plugin's own rules. No rule of it is changed.
    pub admin_chain: String,
    /// The zone of firewalld that gets the container's addresses.
    pub zone: String,
    /// Which packets from other networks reach the container.
    pub isolation: Isolation,
    /// Which connections between its network and others may begin.
    pub policy: Policy,
}

/// What lets the container's packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Sets of nf_tables, and rules in the chains of others that drop.
    Nftables,
    /// The reference's chains of iptables.
    Iptables,
    /// A zone of firewalld.
    Firewalld,
}

/// The zone of firewalld by default.
pub const ZONE: &str = "trusted";
/// The admin chain of iptables by default.
pub const ADMIN_CHAIN: &str = "CNI-ADMIN";
/// The maximum length of a chain's name in bytes (XT_EXTENSION_MAXNAMELEN,
/// linux/netfilter/x_tables.h, without its NUL).
const CHAIN_MAX: usize = 28;
/// Chains and targets of iptables that are none of an administrator's.
const TAKEN: [&str; 9] =
    ["ACCEPT", "CNI-FORWARD", "DROP", "FORWARD", "INPUT", "OUTPUT", "QUEUE", "REJECT", "RETURN"];
/// The maximum length of a zone's name: firewalld's own limit is 17.
const ZONE_MAX: usize = 64;

impl Config {
    /// Reads and checks all of it; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let backend = match conf.backend.as_deref() {
            None | Some("" | "auto") => None,
            Some("nftables") => Some(Backend::Nftables),
            Some("iptables") => Some(Backend::Iptables),
            Some("firewalld") => Some(Backend::Firewalld),
            Some(other) => {
                return Err(Error::new(
                    Code::UnsupportedField,
                    format!(
                        "unrecognized backend {:?}: auto, nftables, iptables or firewalld",
                        shortened(other)
                    ),
                ));
            }
        };
        let isolation = match conf.ingress_policy.as_deref() {
            None | Some("") => Isolation::Open,
            Some(name) => Isolation::named(name).ok_or_else(|| {
                Error::invalid_config(format!(
                    "unknown ingress policy: {:?}: open, same-bridge or isolated",
                    shortened(name)
                ))
            })?,
        };
        Ok(Self {
            backend,
            admin_chain: admin_chain(conf.iptables_admin_chain_name)?,
            zone: zone(conf.firewalld_zone)?,
            isolation,
            policy: policy::checked(conf.policy.as_ref(), &request.network)?,
        })
    }
}

/// The zone in which the reference may have made sources, for DEL; `None` under a back end that is
/// another one. Nothing in the configuration may make DEL fail.
pub fn zone_of(request: &Request) -> Option<String> {
    let conf: DelConf = request.config().unwrap_or_default();
    let text = |json: Option<cni::Json>| json.and_then(|json| json.decode::<Option<String>>().ok()).flatten();
    if matches!(text(conf.backend).as_deref(), Some("nftables" | "iptables")) {
        return None;
    }
    zone(text(conf.firewalld_zone)).ok().or_else(|| Some(ZONE.to_owned()))
}

fn admin_chain(written: Option<String>) -> Result<String, Error> {
    let Some(name) = written.filter(|name| !name.is_empty()) else { return Ok(ADMIN_CHAIN.to_owned()) };
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
    let is_taken = TAKEN.contains(&name.as_str());
    if name.len() > CHAIN_MAX || name.starts_with(['-', '!']) || !name.chars().all(is_plain) || is_taken {
        return Err(Error::invalid_config(format!("invalid iptablesAdminChainName {:?}", shortened(&name))));
    }
    Ok(name)
}

fn zone(written: Option<String>) -> Result<String, Error> {
    let Some(name) = written.filter(|name| !name.is_empty()) else { return Ok(ZONE.to_owned()) };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
    if name.len() > ZONE_MAX || !name.chars().all(is_plain) {
        return Err(Error::invalid_config(format!("invalid firewalldZone {:?}", shortened(&name))));
    }
    Ok(name)
}
