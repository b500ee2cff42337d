//! The record of a network.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::prefix;

/// Where containers ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// At the network's gateway addresses, which the host has.
    Gateway,
    /// At 127.0.0.11 in their own network namespace, by sockets that were opened there.
    Netns,
}

/// What a container on several networks learns of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CrossNetwork {
    /// The first network that has the name answers alone: the asked one, then the others as they were attached.
    #[default]
    First,
    /// All that have the name answer together.
    Union,
    /// Only the asked one answers.
    None,
}

/// A network, as the last ADD found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// [`super::VERSION`]
    pub v: u32,
    /// Its name.
    pub name: String,
    /// Where its containers ask.
    pub mode: Mode,
    /// Addresses of the host that the responder listens at; none in mode [`Mode::Netns`].
    pub listen: Vec<IpAddr>,
    /// The port there, of UDP and of TCP.
    pub port: u16,
    /// The containers' prefixes: reverse names in them are this network's.
    #[serde(with = "prefix")]
    pub subnets: Vec<IpNetwork>,
    /// Links of the host by which questions may arrive (bridges). Questions of the host itself always may; see also
    /// [`super::Attachment::ingress`].
    pub ingress: Vec<String>,
    /// The domain that names answer under as well, in lower case, without a dot at its end.
    pub domain: Option<String>,
    /// Servers for what is asked of the outside; those of resolv.conf when absent.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// Nothing is asked of the outside.
    pub internal: bool,
    /// Seconds that answers may be kept.
    pub ttl: u32,
    /// Whether a bare name that is not known is asked of the outside.
    pub forward_single_label: bool,
    /// What a container on several networks learns of them.
    pub cross_network: CrossNetwork,
    /// Some of its names were dnsname's: see [`super::of_dnsname`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_dnsname: bool,
}
