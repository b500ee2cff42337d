//! `moor leases`: who has which address, and which are leaked.

mod fix;
mod judge;
mod ranges;
mod report;
mod stores;

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use crate::context::Context;
use crate::duration;
use crate::failure::{Exit, Failure};
use crate::model::Model;
use crate::networks::Networks;
use crate::output::Note;

pub use judge::LeaseState;
pub use ranges::RangeSum;
pub use report::{LeaseReport, StoreReport};
pub use stores::Lease;

use judge::{Evidence, Limits};
use stores::{Store, read_lease};

/// The arguments of `moor leases`.
#[derive(Args)]
pub struct LeasesArgs {
    /// Networks; all when there is none
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
    /// Only leases of which nothing is left of the container
    #[arg(long)]
    leaked: bool,
    /// The age from which a lease is judged
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    older_than: Duration,
    /// Free the leaked addresses
    #[arg(long, requires = "leaked")]
    fix: bool,
}

/// Prints the leases, or frees those that are leaked.
pub fn run(context: &Context, args: &LeasesArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let mut model = Model::read(context, &networks);
    if args.fix && !model.is_whole {
        let reason = model.blindness().or_else(|| model.notes.first().cloned());
        let reason = reason.map(|note| note.text).unwrap_or_default();
        return Err(Failure::incomplete("nothing is freed: not everything could be looked at").hint(reason));
    }
    let mut reports = read(context, &networks, &mut model, args.older_than);
    if let Some(missing) = args.networks.iter().find(|name| !is_known(name, &networks, &reports)) {
        return Err(Failure::refused(format!("no network {missing:?}, and no lease of one")));
    }
    reports.retain(|report| args.networks.is_empty() || args.networks.contains(&report.network));
    if args.leaked {
        reports.iter_mut().for_each(|report| report.leases.retain(|lease| lease.state.is_dead()));
    }
    if args.fix {
        let freed = fix::free(context, &networks, &reports, args.older_than);
        return freed.print(context);
    }
    report::print(context, args.leaked, &reports, &model.notes)?;
    let has_dead = reports.iter().any(|report| report.leases.iter().any(|lease| lease.state.is_dead()));
    Ok(model.exit(if args.leaked && has_dead { Exit::Found } else { Exit::Done }))
}

fn is_known(name: &str, networks: &Networks, reports: &[StoreReport]) -> bool {
    networks.named(name).is_some() || reports.iter().any(|report| report.network == *name)
}

/// Reads and judges all leases. What is odd is added to the model's notes.
pub fn read(
    context: &Context,
    networks: &Networks,
    model: &mut Model,
    older_than: Duration,
) -> Vec<StoreReport> {
    let mut notes = Vec::new();
    let stores = stores::read(context, networks, model, &mut notes);
    let limits = Limits::of(older_than);
    let mut reports = judged(stores, model, &limits);
    if reports.iter().any(|report| report.leases.iter().any(|lease| lease.state.is_dead())) {
        // A descriptor may still hold the namespace.
        model.deepen(networks);
        let evidence = Evidence::of(model);
        reports.iter_mut().for_each(|report| report.judge_again(&evidence, &limits));
    }
    if reports.iter().any(|report| report.leases.iter().any(|lease| lease.state == LeaseState::Unknown)) {
        let is_new = |note: &Note| !model.notes.contains(note);
        notes.extend(model.blindness().filter(is_new));
    }
    model.notes.extend(notes);
    reports
}

/// The lease of an address, with its network, wherever there is one.
pub fn of_address(
    context: &Context,
    networks: &Networks,
    model: &Model,
    address: IpAddr,
) -> Vec<(String, Lease)> {
    // What cannot be listed is noted by `moor leases`.
    let stores = stores::find(context, networks, model, &mut Vec::new());
    let lease = |store: &Store| Some((store.network.clone(), read_lease(&store.dir, address).ok()?));
    stores.iter().filter_map(lease).filter(|(_, lease)| !lease.container_id.is_empty()).collect()
}

fn judged(stores: Vec<Store>, model: &Model, limits: &Limits) -> Vec<StoreReport> {
    let evidence = Evidence::of(model);
    stores.into_iter().map(|store| StoreReport::new(store, &evidence, limits)).collect()
}
