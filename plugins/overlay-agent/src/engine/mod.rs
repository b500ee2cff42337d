//! The agent's state, and what moves it: reports of etcd, requests of plugins, and time. It writes
//! the files that plugins and the responder read, and hands out one request to etcd at a time.

mod answer;
mod barred;
mod check;
mod hold;
mod jobs;
mod ledger;
mod needs;
mod report;
mod settle;
mod status;
mod underlay;

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::local::LeaseFile;
use cluster::settings::Settings;
use daemon::Id;

pub(crate) use answer::{answer, failed};
use hold::{About, Hold};
pub use needs::Pending;

use crate::files::Files;
use crate::remote::Job;
use crate::state::cache::Cache;
use crate::state::local::{Local, NetLocal};
use crate::state::want::{Need, View};
use crate::txn::Txn;

/// How long the newest revision may be ahead of the watch.
pub(crate) const BEHIND: Duration = Duration::from_secs(2);
/// How often the watch is checked.
const CHECK: Duration = Duration::from_secs(10);
/// The shortest and the longest pause after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How often etcd is asked for its space; and while it had none.
const SPACE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(5));
/// How often the time of the last contact is written.
const CONTACT: Duration = Duration::from_secs(30);
/// How long a request to etcd may take before plugins no longer wait for it.
const SLOW: Duration = Duration::from_secs(1);
/// How long the kernel's side may wait for changes of this host's own containers.
const OWN_CHANGES: Duration = Duration::from_millis(200);
/// How long hosts have to write again what a restored etcd lacks of them.
const RESTORED: Duration = Duration::from_secs(15);
/// How often files are read that no plugin reported.
const RESCAN: Duration = Duration::from_secs(10);

/// A response to a connection.
pub type Response = (Id, cluster::control::Answer);

/// The agent.
#[derive(Debug)]
pub struct Engine {
    pub(crate) settings: Settings,
    pub(crate) files: Files,
    pub(crate) cache: Cache,
    pub(crate) local: Local,
    pending: Vec<Pending>,
    /// The request that etcd has, and since when.
    busy: Option<(Job, Duration)>,
    /// The revision that was known when it was sent.
    known: i64,
    /// Why etcd is away.
    away: Option<String>,
    /// What etcd refuses, or has no space for.
    holds: BTreeMap<About, Hold>,
    /// What people should know of etcd's space.
    space: Vec<String>,
    space_due: Duration,
    /// When etcd was heard of last, in this boot.
    contact: Option<Duration>,
    contact_written: Option<Duration>,
    member: Option<String>,
    /// The member that answered first: the route to it has the source of VXLAN packets.
    pub(crate) first_member: Option<String>,
    /// The link with the source of VXLAN packets.
    pub(crate) underlay: Option<u32>,
    /// Records that are too large to be taken.
    pub(crate) too_large: Vec<String>,
    cluster: String,
    keep_alive_due: Duration,
    check_due: Duration,
    rescan_due: Duration,
    retry_at: Duration,
    back_off: Duration,
    /// The last transaction that found a difference, and how often in a row.
    repeated: Option<(Txn, u32)>,
    /// The newest revision that was seen while the watch was behind, and since when.
    behind: Option<(i64, Duration)>,
    /// The watch is to be started again.
    pub(crate) restart: bool,
    /// etcd has gone back: it was restored from a backup.
    restored: bool,
    /// Until when what it lacks of other hosts is believed.
    carried_until: Duration,
    /// When a ledger that was locked is tried again.
    ledger_at: Duration,
    /// What could not be done with files, by what it is about.
    troubles: BTreeMap<String, String>,
    waited_for_block: u64,
    /// Since when another boot is in the cluster as this host.
    doubled_since: Option<Duration>,
    /// What the kernel's side counts: repairs, and faults by network.
    pub(crate) repaired: u64,
    /// Networks whose entries the kernel refused, and why.
    pub(crate) refused: BTreeMap<String, String>,
    /// What the kernel has otherwise, for the request that is judged.
    pub(crate) found_in_kernel: std::collections::BTreeSet<String>,
    /// Records that the wanted state leaves out.
    pub(crate) left_out: Vec<String>,
    /// The cache or the files have changed since the kernel was programmed.
    pub(crate) changed: bool,
    /// When that counts which matters less.
    changed_at: Option<Duration>,
}

impl Engine {
    /// The agent of these files; it knows nothing of etcd yet.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn new(settings: &Settings, files: Files, local: Local, now: Duration) -> sys::Result<Self> {
        let lease: Option<LeaseFile> = files.lease();
        let contact = files.last_contact();
        let mut engine = Self {
            cache: Cache::new(&settings.prefix),
            settings: settings.clone(),
            local,
            pending: Vec::new(),
            busy: None,
            known: 0,
            away: None,
            holds: BTreeMap::new(),
            space: Vec::new(),
            space_due: now,
            contact,
            contact_written: contact,
            member: None,
            first_member: None,
            underlay: None,
            too_large: Vec::new(),
            cluster: lease.as_ref().map(|lease| lease.cluster.clone()).unwrap_or_default(),
            keep_alive_due: now,
            check_due: now + CHECK,
            rescan_due: now + RESCAN,
            retry_at: now,
            back_off: BACK_OFF.0,
            repeated: None,
            behind: None,
            restart: false,
            restored: false,
            carried_until: now,
            ledger_at: now,
            troubles: BTreeMap::new(),
            waited_for_block: 0,
            doubled_since: None,
            repaired: 0,
            refused: BTreeMap::new(),
            found_in_kernel: Default::default(),
            left_out: Vec::new(),
            changed: true,
            changed_at: None,
            files,
        };
        engine.local.lease = lease.map(|lease| lease.lease);
        engine.local.alive_lease = engine.local.lease;
        for network in engine.files.networks()? {
            engine.open_network(&network);
        }
        engine.close_if_cut_off(now);
        for network in engine.local.nets.keys().cloned().collect::<Vec<_>>() {
            engine.write_closed(&network);
        }
        Ok(engine)
    }

    /// Reads the files of a network that was not known yet.
    pub(crate) fn open_network(&mut self, network: &str) {
        let mut net = NetLocal::default();
        match self.files.copy(network) {
            Ok((copy, blocks)) => (net.copy, net.blocks) = (copy, blocks),
            Err(error) => self.trouble(network, &error),
        }
        self.local.nets.insert(network.to_owned(), net);
        self.refresh(network);
    }

    /// Reads what plugins write of a network.
    pub(crate) fn refresh(&mut self, network: &str) {
        let Some(net) = self.local.nets.get_mut(network) else { return };
        let was_empty = net.attachments.is_empty();
        match self.files.refresh(network, net) {
            Ok(failed) if failed.is_empty() => {
                self.troubles.remove(network);
            }
            Ok(failed) => {
                let text = failed.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("; ");
                self.troubles.insert(network.to_owned(), text);
            }
            Err(error) => {
                let text = format!("{error:#}");
                self.troubles.insert(network.to_owned(), text);
            }
        }
        if let Some(net) = self.local.nets.get_mut(network) {
            self.changed |= net.attachments.is_empty() != was_empty;
            let borrowed: Vec<_> = net.blocks.borrowed.iter().filter(|ip| net.uses(**ip)).copied().collect();
            net.used_loans.extend(borrowed);
        }
    }

    fn trouble(&mut self, about: &str, error: &sys::Error) {
        self.troubles.insert(about.to_owned(), format!("{error:#}"));
    }

    /// Calls a function of all that is known.
    pub(crate) fn with_view<T>(&self, now: Duration, f: impl FnOnce(&View<'_>) -> T) -> T {
        let needs: Vec<Need> = self.pending.iter().filter_map(|pending| pending.need(&self.local)).collect();
        let random = sys::random::bytes::<8>().map_or(u64::from(now.subsec_nanos()), u64::from_ne_bytes);
        f(&View { cache: &self.cache, local: &self.local, needs: &needs, now, random })
    }

    /// Whether etcd does not answer at this moment, or does not what it is asked.
    pub(crate) fn is_away(&self, now: Duration) -> bool {
        self.is_silent(now) || !self.holds.is_empty()
    }

    /// Whether etcd does not answer at this moment.
    pub(crate) fn is_silent(&self, now: Duration) -> bool {
        self.away.is_some() || self.busy.as_ref().is_some_and(|(_, since)| now.saturating_sub(*since) >= SLOW)
    }

    /// Why etcd is away, for people.
    pub(crate) fn why_away(&self, now: Duration) -> String {
        let held = self.holds.values().next().map(|hold| &hold.why);
        match (self.away.as_ref().or(held), &self.busy) {
            (Some(why), _) => why.clone(),
            (None, Some((_, since))) if now.saturating_sub(*since) >= SLOW => {
                format!("etcd has not answered for {} ms", now.saturating_sub(*since).as_millis())
            }
            _ if !self.cache.is_whole() => "etcd: nothing has been read yet".to_owned(),
            _ => "etcd does not answer in time".to_owned(),
        }
    }

    /// Closes the blocks of a host that was cut off for longer than half of the time after which they
    /// are others'. A boot without any contact counts as such: nobody knows how long the host was off.
    pub(crate) fn close_if_cut_off(&mut self, now: Duration) {
        let limit = Duration::from_secs(u64::from(self.settings.reclaim_after_s) / 2);
        let is_cut_off = self.contact.is_none_or(|contact| now.saturating_sub(contact) > limit);
        self.local.closed = self.settings.reclaim_after_s != 0 && is_cut_off;
    }

    /// When something is due.
    pub fn due(&self, now: Duration) -> Duration {
        let mut due = now + Duration::from_secs(1);
        if self.busy.is_none() {
            due = due.min(self.keep_alive_due.max(self.retry_at));
            let held = self.holds.values().map(|hold| hold.until(false)).filter(|until| *until > now);
            due = held.min().map_or(due, |until| due.min(until));
        }
        due = due.min(self.changed_at.unwrap_or(due));
        for pending in &self.pending {
            due = due.min(pending.deadline);
        }
        if let (Some((_, since)), false) = (&self.busy, self.pending.is_empty()) {
            due = due.min((*since + SLOW).max(now + Duration::from_millis(20)));
        }
        due.max(now)
    }

    /// Whether nobody on this host needs the agent.
    pub fn is_unused(&self) -> bool {
        self.pending.is_empty() && self.local.nets.values().all(|net| !net.is_in_use())
    }
}
