//! ADD: gets addresses, and has the daemon keep those that are leased.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cni::{AddResult, Error, Request};

use super::taken::Taken;
use super::{ipv6, settings, store};
use crate::acquire::{Failure, acquire, now};
use crate::answer;
use crate::client::{Client, Pace};
use crate::config::Settings;
use crate::control::Limits;
use crate::exchange::Exchange;
use crate::farewell::decline;
use crate::keeper;
use crate::probe::is_in_use;
use crate::record::{Namespace, Record, State, Store, VERSION, names};
use crate::routers::Routers;
use crate::terms::Terms;
use crate::wire::{Missing, Place};

/// How long ADD waits for an address without `timeout`: runtimes give up after two minutes or more.
const PATIENCE: Duration = Duration::from_secs(60);
/// The kind of link that shares its Ethernet address with others, which get replies to it.
const SHARES_ADDRESS: &str = "ipvlan";
/// Addresses that other hosts may have before ADD gives up.
const CONFLICTS: u32 = 3;

/// The circumstances of an ADD.
pub struct Adding<'a> {
    request: &'a Request,
    /// The configuration.
    pub settings: Settings,
    /// The records.
    pub store: Store,
    /// The link.
    pub place: Place,
    netns: PathBuf,
    limits: Limits,
    /// When a runtime may lose its patience.
    pub deadline: Instant,
}

pub fn add(request: &Request) -> Result<AddResult, Error> {
    let settings = settings(request)?;
    let store = store();
    // Without a daemon, the address could not be kept.
    let limits = keeper::ensure(&store, &settings.socket)?;
    let netns = std::path::absolute(&request.netns)?;
    let place = Place::of_name(&netns, &request.ifname).map_err(Missing::into_cni_error)?;
    let patience = settings.timeout.unwrap_or_else(|| limits.whole().min(PATIENCE));
    let deadline = Instant::now() + patience;
    let adding = Adding { request, settings, store, place, netns, limits, deadline };
    let routers = adding.settings.ipv6.map(|ipv6| {
        Routers::listen(&adding.place, ipv6, adding.settings.priority).map(|routers| (ipv6, routers))
    });
    let routers = routers.transpose()?;
    adding.place.set_up()?;
    let (v4, terms) = adding.v4()?;
    let mut result = match &terms {
        Terms::V4 { grant, .. } => answer::result(grant, adding.settings.priority, adding.place.link.mtu),
        Terms::V6 { .. } => AddResult::default(),
    };
    let v6 =
        routers.map(|(ipv6, routers)| ipv6::add(&adding, ipv6, routers, &mut result)).transpose()?.flatten();
    // The records are whole: from here on the daemon keeps the leases.
    let taken: Vec<Taken<'_>> = [Some(v4), v6].into_iter().flatten().collect();
    taken.iter().try_for_each(Taken::keep)?;
    taken.into_iter().for_each(Taken::stays);
    Ok(result)
}

impl Adding<'_> {
    fn v4(&self) -> Result<(Taken<'_>, Terms), Error> {
        let shares = self.place.link.kind.as_deref() == Some(SHARES_ADDRESS);
        let mut ask = self.settings.ask.clone();
        ask.broadcast |= self.limits.broadcast || shares;
        let [name, _] = self.names();
        let before = match self.store.read(&name)?.map(|record| record.terms) {
            Some(Terms::V4 { grant, .. }) => Some(grant.address),
            _ => None,
        };
        let mac = self.place.mac()?;
        self.leased(self.deadline, !shares, |now| {
            let client = Client::select(ask.clone(), mac, self.pace(), before, now);
            Ok(Exchange::V4(self.place.wire()?, client))
        })
    }

    /// The limits of pauses.
    pub fn pace(&self) -> Pace {
        Pace { longest: self.limits.pause() }
    }

    /// The names of the attachment's records.
    pub fn names(&self) -> [String; 2] {
        names(&self.request.network, &self.request.container_id, &self.request.ifname)
    }

    /// Gets a lease of an address that no other host has.
    ///
    /// # Errors
    /// There is none at the deadline, or each that was granted is in use.
    pub fn leased(
        &self,
        deadline: Instant,
        probes: bool,
        open: impl Fn(Duration) -> sys::Result<Exchange>,
    ) -> Result<(Taken<'_>, Terms), Error> {
        let mut taken = Taken::none(self);
        let mut conflict = String::new();
        for _ in 0..CONFLICTS {
            let began = now()?;
            let mut exchange = open(began)?;
            let namespace = Namespace::of(&self.place.netns, &exchange)?;
            let record = |terms: &Terms, state, since| self.record(namespace, terms.clone(), state, since);
            let patience = deadline.saturating_duration_since(Instant::now());
            let acquired =
                acquire(&mut exchange, patience, |offer| taken.write(record(offer, State::Offered, began)));
            let (terms, since) = acquired.map_err(|failure| match failure {
                Failure::Kernel(error) => error.into(),
                failure @ Failure::NoMoreTries { .. } => Error::from(failure),
            })?;
            taken.write(record(&terms, State::Bound, since))?;
            if !probes || !is_in_use(&self.place, &terms, self.settings.probe)? {
                return Ok((taken, terms));
            }
            // It is not ours to release.
            decline(&self.place, &terms)?;
            taken.forget()?;
            conflict = terms.net().map(|net| net.ip().to_string()).unwrap_or_default();
        }
        Err(Error::internal(format!(
            "the address {conflict} that the DHCP server leased is in use by another host, \
             and so were those before it: {CONFLICTS} addresses were declined"
        )))
    }

    fn record(&self, namespace: Namespace, terms: Terms, state: State, since: Duration) -> Record {
        Record {
            v: VERSION,
            network: self.request.network.clone(),
            container: self.request.container_id.clone(),
            ifname: self.request.ifname.clone(),
            netns: self.netns.clone(),
            namespace,
            index: self.place.link.index,
            socket: self.settings.socket.clone(),
            state,
            terms,
            since: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            priority: self.settings.priority,
        }
    }

    /// For messages: the attachment.
    pub fn owner(&self) -> String {
        format!("{}/{} of {}", self.request.network, self.request.ifname, self.request.container_id)
    }
}
