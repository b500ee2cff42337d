//! Requests of plugins that wait.

use std::collections::BTreeSet;
use std::time::Duration;

use cluster::control::Request;
use daemon::Id;

use crate::state::local::Local;
use crate::state::want::Need;

/// A request that waits for its response.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The connection.
    pub id: Id,
    /// The request.
    pub request: Request,
    /// When it came.
    pub since: Duration,
    /// When it fails.
    pub deadline: Duration,
    /// How often `blocks.json` had grown when it came.
    pub grown: u64,
    /// Hosts that have no address to lend.
    pub refused: BTreeSet<String>,
}

impl Pending {
    /// Whether somebody waits for etcd.
    pub(crate) fn is_for_etcd(&self) -> bool {
        match &self.request {
            Request::Network { .. } | Request::Block { .. } => true,
            Request::Sync { wait, .. } => *wait,
            _ => false,
        }
    }

    /// What it takes, if transactions.
    pub(crate) fn need(&self, local: &Local) -> Option<Need> {
        match &self.request {
            Request::Network { network, want } => Some(Need::Network(network.clone(), want.clone())),
            Request::Block { network, address: Some(ip), .. } => Some(Need::Address(network.clone(), *ip)),
            Request::Block { network, address: None, subnet } => {
                let has_grown = local.nets.get(network).is_some_and(|net| net.grown > self.grown);
                (!has_grown).then(|| Need::Any(network.clone(), *subnet, self.refused.clone()))
            }
            _ => None,
        }
    }
}
