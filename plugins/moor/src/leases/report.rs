//! What is printed of the leases of a directory.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use runtime::Conflist;
use serde::Serialize;

use crate::context::Context;
use crate::duration::short;
use crate::failure::Failure;
use crate::output::{self, Note, Table};

use super::judge::{Evidence, LeaseState, Limits};
use super::ranges::{RangeSum, sums};
use super::stores::{Lease, Store};

/// How much of an id is shown, as docker has it.
const ID_SHOWN: usize = 12;

/// A directory of leases.
#[derive(Debug, Serialize)]
pub struct StoreReport {
    /// The network's name.
    pub network: String,
    /// The directory.
    pub dir: PathBuf,
    /// The sum of each range, if the network's list is known.
    pub ranges: Vec<RangeSum>,
    /// The leases.
    pub leases: Vec<LeaseReport>,
    #[serde(skip)]
    pub(super) list: Option<Conflist>,
}

/// A lease.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseReport {
    /// The address.
    pub address: IpAddr,
    /// The container's id; empty if the address is free.
    pub container_id: String,
    /// The interface.
    pub ifname: String,
    /// When it was written: seconds since 1970.
    pub written_at: u64,
    /// Whether it is used.
    pub state: LeaseState,
    /// What shows that it is.
    pub evidence: Vec<&'static str>,
    #[serde(skip)]
    pub(super) lease: Lease,
}

impl StoreReport {
    pub(super) fn new(store: Store, evidence: &Evidence, limits: &Limits) -> Self {
        let lease = |lease: Lease| LeaseReport::new(lease, evidence, limits);
        let leases = store.leases.into_iter().map(lease).collect();
        let mut report =
            Self { network: store.network, dir: store.dir, ranges: Vec::new(), leases, list: store.list };
        report.sum();
        report
    }

    pub(super) fn judge_again(&mut self, evidence: &Evidence, limits: &Limits) {
        for report in &mut self.leases {
            (report.state, report.evidence) = evidence.judge(&report.lease, limits);
        }
        self.sum();
    }

    fn sum(&mut self) {
        let leases = self.leases.iter().map(|lease| (lease.address, lease.state));
        self.ranges = sums(self.list.as_ref(), leases);
    }
}

impl LeaseReport {
    fn new(lease: Lease, evidence: &Evidence, limits: &Limits) -> Self {
        let (state, evidence) = evidence.judge(&lease, limits);
        let written = lease.written.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            address: lease.address,
            container_id: lease.container_id.clone(),
            ifname: lease.ifname.clone(),
            written_at: written.as_secs(),
            state,
            evidence,
            lease,
        }
    }
}

/// Prints the leases, then the sums.
pub fn print(
    context: &Context,
    only_dead: bool,
    reports: &[StoreReport],
    notes: &[Note],
) -> Result<(), Failure> {
    if context.json {
        return output::document("leases", reports, notes);
    }
    output::notes(notes);
    let now = SystemTime::now();
    let mut table = Table::new(&["NETWORK", "ADDRESS", "CONTAINER", "IF", "AGE", "STATE"]);
    for report in reports {
        for lease in &report.leases {
            let id = &lease.container_id;
            let age = now.duration_since(lease.lease.written).unwrap_or_default();
            table.row(vec![
                report.network.clone(),
                lease.address.to_string(),
                id.get(..ID_SHOWN).unwrap_or(id).to_owned(),
                lease.ifname.clone(),
                short(age),
                lease.state.words().to_owned(),
            ]);
        }
    }
    table.print(context)?;
    if only_dead || reports.iter().all(|report| report.ranges.is_empty()) {
        return Ok(());
    }
    output::print("\n")?;
    let mut table = Table::new(&["NETWORK", "SUBNET", "SIZE", "USED", "FREE", "LEAKED"]);
    for report in reports {
        for sum in &report.ranges {
            let numbers = [sum.size, sum.used, sum.free, sum.leaked].map(|number| number.to_string());
            table.row([report.network.clone(), sum.subnet.to_string()].into_iter().chain(numbers).collect());
        }
    }
    table.print(context)
}
