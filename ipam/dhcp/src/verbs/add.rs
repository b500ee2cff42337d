//! ADD: gets a lease, and has the daemon keep it.

use std::time::Duration;

use cni::{AddResult, Error, Request};

use super::del::release;
use super::{settings, store};
use crate::acquire::{Failure, acquire, now};
use crate::answer;
use crate::client::{Client, Pace};
use crate::grant::Grant;
use crate::keeper;
use crate::record::{Namespace, Record, State, Store, name};
use crate::wire::{Missing, Place};

/// How long ADD waits for an address without `timeout`: runtimes give up after two minutes or more.
const PATIENCE: Duration = Duration::from_secs(60);
/// The kind of link that shares its Ethernet address with others, which get replies to it.
const SHARES_ADDRESS: &str = "ipvlan";

pub fn add(request: &Request) -> Result<AddResult, Error> {
    let mut settings = settings(request)?;
    let store = store();
    // Without a daemon, the address could not be kept.
    let limits = keeper::ensure(&store, &settings.socket)?;
    let netns = std::path::absolute(&request.netns)?;
    let place = Place::of_name(&netns, &request.ifname).map_err(Missing::into_cni_error)?;
    place.set_up()?;
    let wire = place.wire()?;
    let shares = place.link.kind.as_deref() == Some(SHARES_ADDRESS);
    settings.ask.broadcast |= limits.broadcast || shares;
    let name = name(&request.network, &request.container_id, &request.ifname);
    let before = store.read(&name)?.map(|record| record.grant.address);
    let namespace = Namespace::of(&place.netns, &wire)?;
    let record = |grant: &Grant, state, since: Duration| Record {
        network: request.network.clone(),
        container: request.container_id.clone(),
        ifname: request.ifname.clone(),
        netns: netns.clone(),
        namespace,
        index: place.link.index,
        socket: settings.socket.clone(),
        state,
        ask: settings.ask.clone(),
        grant: grant.clone(),
        since: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        priority: settings.priority,
    };
    let mut taken = Taken { store: &store, place: &place, record: None };
    let pace = Pace { longest: limits.pause() };
    let began = now()?;
    let mut client = Client::select(settings.ask.clone(), place.mac()?, pace, before, began);
    let patience = settings.timeout.unwrap_or_else(|| limits.whole().min(PATIENCE));
    let acquired =
        acquire(&wire, &mut client, patience, |offer| taken.write(record(offer, State::Offered, began)));
    let (grant, since) = acquired.map_err(|failure| match failure {
        Failure::Kernel(error) => error.into(),
        failure @ Failure::NoMoreTries { .. } => Error::from(failure),
    })?;
    taken.write(record(&grant, State::Bound, since))?;
    keep(&store, &settings.socket, name)?;
    taken.record = None;
    Ok(answer::result(&grant, settings.priority, place.link.mtu))
}

/// Has the daemon keep the lease; one that ended meanwhile is started again.
fn keep(store: &Store, socket: &std::path::Path, name: String) -> Result<(), Error> {
    let response = match keeper::sync(socket, name.clone()) {
        Err(failed) if failed.is_absent() => {
            keeper::ensure(store, socket)?;
            keeper::sync(socket, name)?
        }
        done => done?,
    };
    response.error.map_or(Ok(()), |error| Err(Error::internal(error)))
}

/// The lease of an ADD that may fail: it is given back, unless ADD succeeds.
struct Taken<'a> {
    store: &'a Store,
    place: &'a Place,
    record: Option<Record>,
}

impl Taken<'_> {
    fn write(&mut self, record: Record) -> sys::Result<()> {
        let _lock = self.store.lock()?;
        self.store.write(&record)?;
        self.record = Some(record);
        Ok(())
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(record) = self.record.take() else { return };
        // ADD's own error is the one to report. The runtime calls DEL.
        let _ = release(self.place, &record);
        let _ = self.store.lock().and_then(|_lock| self.store.remove(&record.name()));
    }
}
