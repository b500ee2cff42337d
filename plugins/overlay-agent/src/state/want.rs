//! What plugins asked for and wait for, as the steps need it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cluster::record::Net;

use super::cache::Cache;
use super::local::Local;
use std::time::Duration;

/// A request that takes transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// The network's record, a block of each subnet, and own addresses.
    Network(String, Net),
    /// Any address of a subnet: the network, the number of the subnet, and the hosts that have none.
    Any(String, usize, BTreeSet<String>),
    /// This address.
    Address(String, IpAddr),
}

impl Need {
    /// The network's name.
    pub fn network(&self) -> &str {
        match self {
            Self::Network(network, _) | Self::Any(network, ..) | Self::Address(network, _) => network,
        }
    }
}

/// All that a step depends on.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// etcd's records.
    pub cache: &'a Cache,
    /// This host's.
    pub local: &'a Local,
    /// What is waited for.
    pub needs: &'a [Need],
    /// Time since boot.
    pub now: Duration,
    /// A random number for this step.
    pub random: u64,
}
