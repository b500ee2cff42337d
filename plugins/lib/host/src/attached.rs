//! A container behind the host's firewall, as planned and as recorded: see [`crate::rules::firewall`].

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::Policy;

/// Which packets from other networks, and from neighbours, reach a network's containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All.
    #[default]
    Open,
    /// Those of neighbours, and of networks that are not isolated.
    SameBridge,
    /// Those of networks that are not isolated.
    Isolated,
}

impl Isolation {
    /// All, each with its name in configurations and records.
    const NAMES: [(Self, &'static str); 3] =
        [(Self::Open, "open"), (Self::SameBridge, "same-bridge"), (Self::Isolated, "isolated")];

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find(|(_, known)| *known == name).map(|(this, _)| this)
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(this, _)| this == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// What exists for one attachment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    /// Addresses from which packets are accepted.
    pub accepted: Vec<IpAddr>,
    /// The host's link towards the container.
    pub link: Option<String>,
    /// What reaches the containers behind that link.
    pub isolation: Isolation,
    /// Which connections between its network and others may begin.
    pub policy: Policy,
    /// The container's bridge port, if it exchanges no frames with other such ports.
    pub port: Option<String>,
    /// What is permitted in closed chains of others.
    pub ways: Ways,
}

/// The ways between a network's containers and the host, by which their packets are forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ways {
    /// Links of the host towards them.
    pub links: Vec<String>,
    /// Their subnets, if they have no such link.
    pub subnets: Vec<IpNetwork>,
}
