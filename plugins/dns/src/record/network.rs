//! The record of a network.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::prefix;

/// Where the containers of a network send their queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// To the network's gateway addresses, which are the host's.
    Gateway,
    /// To 127.0.0.11 in their own network namespace, where the responder has sockets.
    Netns,
}

/// What a container on several networks learns of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CrossNetwork {
    /// The first network that has the name answers: the queried one, then the others in
    /// order of attachment.
    #[default]
    First,
    /// All networks that have the name answer together.
    Union,
    /// Only the queried network answers.
    None,
}

/// How many answers of upstream servers are kept, unless configured.
pub const ANSWERS_KEPT: u32 = 512;

/// What a record means that does not have the number.
fn answers_kept() -> u32 {
    ANSWERS_KEPT
}

/// A network, as the last ADD found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// [`super::VERSION`]
    pub v: u32,
    /// Its name.
    pub name: String,
    /// Where its containers send queries.
    pub mode: Mode,
    /// Addresses of the host that the responder listens at; empty in mode [`Mode::Netns`].
    pub listen: Vec<IpAddr>,
    /// The port there, of UDP and TCP.
    pub port: u16,
    /// The containers' subnets. The network is authoritative for reverse names in them.
    #[serde(with = "prefix")]
    pub subnets: Vec<IpNetwork>,
    /// Links of the host by which queries may arrive (bridges). Queries of the host itself
    /// are always accepted. See also [`super::Attachment::ingress`].
    pub ingress: Vec<String>,
    /// A domain that names are also found under, in lower case, without a final dot.
    pub domain: Option<String>,
    /// Upstream servers; those of resolv.conf if absent.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// Nothing is forwarded.
    pub internal: bool,
    /// The TTL of answers, in seconds.
    pub ttl: u32,
    /// How many answers of upstream servers are kept.
    #[serde(default = "answers_kept")]
    pub cache: u32,
    /// Whether an unknown name without dots is forwarded.
    pub forward_single_label: bool,
    /// What a container on several networks learns of them.
    pub cross_network: CrossNetwork,
    /// Some of its records are taken over from dnsname: see [`super::dnsname_key`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_dnsname: bool,
}
