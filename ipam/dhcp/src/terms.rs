//! The terms of a lease: the client that asked, and what was granted. Of either family.

use ipnetwork::IpNetwork;
use netlink::Route;
use serde::{Deserialize, Serialize};

use crate::answer::kernel_routes;
use crate::ask::Ask;
use crate::grant::Grant;
use crate::v6;

/// A client and its grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Terms {
    /// Of DHCP.
    V4 {
        /// The client.
        ask: Ask,
        /// The address with its parameters.
        grant: Grant,
    },
    /// Of DHCPv6.
    V6 {
        /// The client.
        ask: v6::Ask,
        /// The address with its parameters.
        grant: v6::Grant,
    },
}

/// Seconds after the request; without an end the address is leased forever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Until its server is asked for more time.
    pub t1: u32,
    /// Until every server is asked.
    pub t2: u32,
    /// Until the end.
    pub end: Option<u32>,
    /// While new connections use the address.
    pub preferred: Option<u32>,
}

impl Terms {
    /// The times.
    pub fn times(&self) -> Times {
        match self {
            Self::V4 { grant, .. } => {
                Times { t1: grant.t1, t2: grant.t2, end: grant.lease, preferred: grant.lease }
            }
            Self::V6 { grant, .. } => {
                Times { t1: grant.t1, t2: grant.t2, end: grant.lease, preferred: Some(grant.preferred) }
            }
        }
    }

    /// The address with its prefix.
    pub fn net(&self) -> Option<IpNetwork> {
        match self {
            Self::V4 { grant, .. } => grant.net().map(IpNetwork::from),
            Self::V6 { grant, .. } => grant.net().map(IpNetwork::from),
        }
    }

    /// Whether it is a lease of DHCPv6.
    pub fn is_v6(&self) -> bool {
        matches!(self, Self::V6 { .. })
    }

    /// The routes of the address as the kernel has them. Those of IPv6 are the kernel's own, by the
    /// advertisements of routers.
    pub fn routes(&self, priority: Option<u32>, link_mtu: u32, index: u32) -> Vec<Route> {
        match self {
            Self::V4 { grant, .. } => kernel_routes(grant, priority, link_mtu, index),
            Self::V6 { .. } => Vec::new(),
        }
    }

    /// The same terms after others of this client: a server of DHCPv6 does not know the length of
    /// the prefix on the link.
    pub fn following(mut self, before: &Self) -> Self {
        if let (Self::V6 { grant, .. }, Self::V6 { grant: before, .. }) = (&mut self, before)
            && before.net().is_some_and(|net| net.contains(grant.address))
        {
            grant.length = before.length;
        }
        self
    }

    /// The prefix that is delegated with the address.
    pub fn delegated(&self) -> Option<v6::Delegated> {
        match self {
            Self::V4 { .. } => None,
            Self::V6 { grant, .. } => grant.prefix,
        }
    }

    /// Whether they can be used: a record may have been changed by hand.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::V4 { ask, grant } => ask.fits() && grant.is_sound(),
            Self::V6 { ask, grant } => ask.is_sound() && grant.is_sound(),
        }
    }
}
