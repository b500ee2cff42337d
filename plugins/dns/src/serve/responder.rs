//! The responder: what happens, and what is done about it.

mod plugins;
mod questions;
mod records;
mod restore;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use host::datagram::{Inbox, Outbox};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::args::Args;
use super::confine;
use super::connections::Connections;
use super::control::Control;
use super::listeners::{Listener, Listeners, Origin};
use super::pace::Pace;
use super::poller::{Event, Kind, Poller};
use super::presence::Presence;
use super::reexec::Legacy;
use super::slab::Id;
use super::watch::Watch;
use crate::container::{self, Sockets};
use crate::control::at_path;
use crate::forward::{Forwarder, HostServers};
use crate::place::is_system_root;
use crate::record::{Key, Mode, Place, RESPONDER};
use crate::wire::{QUERY_MAX, TCP_MAX, UDP_MAX};
use crate::zone::{Slot, Zone};

/// Where the host's servers are told.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How many batches of one socket are answered before others are listened to.
const BATCHES: usize = 8;
/// How many connections are accepted before others are listened to.
const ACCEPTS: usize = 64;
/// How often addresses that could not be bound are tried again, and containers' namespaces are looked at.
const ROUND: Duration = Duration::from_secs(1);
/// How long questions that are on their way keep a successor waiting.
const DRAIN: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Responder {
    args: Args,
    place: Place,
    /// The filesystem and the owner of the records' directory.
    origin: (u64, u32),
    lock: File,
    /// Held while nobody may change the records.
    plugins_lock: File,
    poller: Poller,
    control: Control,
    watch: Watch,
    zone: Zone,
    listeners: Listeners,
    connections: Connections,
    forwarder: Forwarder,
    host_servers: HostServers,
    inbox: Inbox,
    outbox: Outbox,
    /// Questions that came as datagrams in this round.
    questions: usize,
    pace: Pace,
    /// Room for one answer of any length.
    scratch: Box<[u8]>,
    /// Some address could not be bound.
    unbound: bool,
    /// When it was seen last that there is nobody to answer for.
    empty_since: Option<Instant>,
    round: Instant,
    /// What it is about to become, and when at the latest.
    leaving: Option<(OwnedFd, PathBuf, Instant)>,
    /// Listeners that had no descriptor for a connection, and until when they are not watched for more.
    turned_away: Vec<Id>,
    turned_away_until: Option<Instant>,
}

impl Responder {
    /// Takes the lock, reads the records, opens the sockets, and gives up what is not needed any more.
    pub(super) fn start(args: &Args) -> host::Result<Self> {
        let place = Place::at(&args.place);
        let fail = |op, cause: io::Error| host::Error::new(op, args.place.display().to_string(), cause);
        let mut legacy = Legacy::default();
        if args.inherit {
            legacy = Legacy::take().map_err(|cause| fail("take over the sockets of", cause))?;
        }
        let mut lock = match legacy.lock.take() {
            Some(lock) => File::from(lock),
            None => take_lock(&place)?,
        };
        write_about(&mut lock);
        let descriptors = raise_descriptors();
        let mut control = Control::of_socket(match legacy.control.take() {
            Some(socket) => socket,
            None => at_path(&place.control())?,
        });
        // A former image of root's has given up what it would take to leave that user.
        let root = !args.inherit && is_system_root();
        if root {
            place.admit()?;
        }
        let plugins_lock = match legacy.plugins_lock.take() {
            // A former image is in the directory of the records already.
            Some(lock) => lock.into(),
            None => {
                enter(&place)?;
                host::file::open_lock(&place.plugins_lock())?
            }
        };
        let meta = nix::sys::stat::stat(".").map_err(|errno| fail("look at the records of", errno.into()))?;
        let origin = (meta.st_dev, meta.st_uid);
        // The directories above may be closed to it from here on.
        let place = place.from_within();
        let poller = Poller::new().map_err(|errno| fail("wait for questions at", errno.into()))?;
        control.watch(&poller).map_err(|errno| fail("wait for plugins at", errno.into()))?;
        if let Err(error) = control.open_rear(&place, &poller) {
            complain(&"records that are removed as a whole are not written again", &error);
        }
        let now = Instant::now();
        let mut responder = Self {
            args: args.clone(),
            place,
            origin,
            lock,
            plugins_lock,
            watch: Watch::start(&poller),
            poller,
            control,
            zone: Zone::default(),
            listeners: Listeners::default(),
            connections: Connections::default(),
            forwarder: Forwarder::default(),
            host_servers: HostServers::of_file(RESOLV_CONF),
            inbox: Inbox::new(QUERY_MAX),
            outbox: Outbox::new(UDP_MAX),
            questions: 0,
            pace: Pace::new(now),
            scratch: vec![0; TCP_MAX].into(),
            unbound: false,
            empty_since: None,
            round: now + ROUND,
            leaving: None,
            turned_away: Vec::new(),
            turned_away_until: None,
        };
        responder.forwarder.limit(descriptors);
        responder.load()?;
        responder.inherit(legacy).map_err(|errno| fail("go on with the sockets of", errno.into()))?;
        responder.reopen();
        responder.follow(now);
        if root {
            host::privilege::become_user(RESPONDER).map_err(|cause| fail("leave the user root at", cause))?;
        }
        host::privilege::keep(host::privilege::NET_BIND_SERVICE)
            .map_err(|cause| fail("give up privileges at", cause))?;
        // A kernel without one of these has names all the same.
        for confined in [confine::write_nowhere(), confine::call_only_what_is_needed()] {
            if let Err(error) = confined {
                complain(&"the kernel confines the responder less than it could", &error);
            }
        }
        Ok(responder)
    }

    fn inherit(&mut self, legacy: Legacy) -> nix::Result<()> {
        for (udp, tcp) in legacy.gateways {
            if let Ok(address) = udp.local_addr() {
                let origin = Origin::Gateway(address, Vec::new());
                let presence = Presence::default();
                self.listeners.insert(&self.poller, Listener { udp, tcp, origin, presence })?;
            }
        }
        for (network, key, udp, tcp) in legacy.containers {
            if let Some(slot) = self.zone.slot(&network) {
                let presence = self.presence(slot, &key);
                let origin = Origin::Container(slot, key);
                self.listeners.insert(&self.poller, Listener { udp, tcp, origin, presence })?;
            }
        }
        Ok(())
    }

    /// Where the namespace of an attachment with sockets of its own is looked for.
    pub(super) fn presence(&self, slot: Slot, key: &Key) -> Presence {
        let attached = self.zone.network(slot).and_then(|network| network.attached(key));
        attached.map(Presence::of).unwrap_or_default()
    }

    /// Opens sockets anew in the namespaces of containers that have none: those of a responder that was killed went
    /// with it. What is in the way of one is told in the log, and to the runtime by the next CHECK of that one.
    fn reopen(&mut self) {
        let has = |slot: Slot, key: &Key| {
            self.listeners.all.iter().any(|(_, held)| held.origin.container() == Some((slot, key)))
        };
        let mut opened = Vec::new();
        for (slot, network) in
            self.zone.networks().filter(|(_, network)| network.record().mode == Mode::Netns)
        {
            for (key, attached) in network.attachments().filter(|(key, _)| !has(slot, key)) {
                let Some(path) = &attached.netns else { continue };
                let name = &network.record().name;
                let sockets = container::namespace(path, attached.namespace).and_then(|netns| {
                    // One that has gone without a word is no error, and has no use for sockets.
                    let Some(netns) = netns else { return Ok(None) };
                    Sockets::open(&netns, name, key).and_then(Sockets::lead).map(Some)
                });
                match sockets {
                    Ok(None) => {}
                    Ok(Some((udp, tcp))) => {
                        let origin = Origin::Container(slot, key.clone());
                        opened.push(Listener { udp, tcp, origin, presence: Presence::of(attached) });
                    }
                    Err(error) => complain(&format_args!("sockets of {}", key.container), &error.msg),
                }
            }
        }
        for listener in opened {
            if let Err(error) = self.take_in(listener) {
                complain(&"sockets of a container", &error);
            }
        }
    }

    /// Goes on with a container's sockets, in the place of its former ones.
    fn take_in(&mut self, listener: Listener) -> io::Result<()> {
        listener.udp.set_nonblocking(true)?;
        listener.tcp.set_nonblocking(true)?;
        Ok(self.listeners.adopt(&self.poller, listener)?)
    }

    /// Makes the sockets follow the records; gives what failed, with the network's name.
    fn follow(&mut self, now: Instant) -> Vec<(String, String)> {
        let failed = self.listeners.follow(&self.poller, &self.zone);
        self.forwarder.set_own(self.listeners.addresses());
        let listeners = &self.listeners.all;
        self.connections.close_of(|listener| listeners.get(listener).is_none());
        if self.zone.attachments() > 0 {
            self.empty_since = None;
        } else {
            self.empty_since.get_or_insert(now);
        }
        self.unbound = !failed.is_empty();
        let named = |(slot, error)| Some((self.zone.network(slot)?.record().name.clone(), error));
        failed.into_iter().filter_map(named).collect()
    }

    /// Answers until there has been nobody to answer for the grace.
    pub(super) fn run(mut self) -> host::Result<()> {
        let mut events = Vec::new();
        loop {
            let deadline = self.deadline();
            self.poller
                .wait(deadline, |event| events.push(event))
                .map_err(|errno| host::Error::new("wait for questions at", self.shown(), errno))?;
            let now = Instant::now();
            self.questions = 0;
            events.drain(..).for_each(|event| self.handle(event, now));
            self.connections.expire(now);
            while let Some(reply) = self.forwarder.expire(&self.poller, &mut self.scratch, now) {
                self.deliver(&reply, now);
            }
            if now >= self.round {
                self.look_around(now);
            }
            if self.watch.due().is_some_and(|due| now >= due) {
                self.catch_up(now);
            }
            if self.turned_away_until.is_some_and(|until| now >= until) {
                self.turn_back();
            }
            if self.leaving.is_some() {
                self.leave(now);
            }
            if self.empty_since.is_some_and(|since| now >= since + self.args.grace) && self.may_end(now)? {
                return Ok(());
            }
            if let Some(pause) = self.pace.pause(self.questions, now) {
                std::thread::sleep(pause);
            }
        }
    }

    fn shown(&self) -> String {
        self.args.place.display().to_string()
    }

    fn deadline(&self) -> Option<Instant> {
        let look =
            self.unbound || self.listeners.all.iter().any(|(_, held)| held.origin.container().is_some());
        [
            self.connections.due(),
            self.forwarder.due(),
            self.watch.due(),
            look.then_some(self.round),
            self.empty_since.map(|since| since + self.args.grace),
            self.leaving.as_ref().map(|(_, _, latest)| *latest),
            self.turned_away_until,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn handle(&mut self, event: Event, now: Instant) {
        match event.kind {
            Kind::Datagram if self.leaving.is_none() => self.datagrams(event.id, now),
            Kind::Accept if self.leaving.is_none() => self.accept(event.id, now),
            Kind::Datagram | Kind::Accept => {}
            Kind::Connection => self.connection(event.id, now),
            Kind::Flight => {
                if let Some(reply) = self.forwarder.advance(&self.poller, event.id, &mut self.scratch, now) {
                    self.deliver(&reply, now);
                }
            }
            Kind::Control if self.leaving.is_none() => {
                if !self.control.accept(&self.poller, now) && self.control.listen(&self.poller, false).is_ok()
                {
                    self.turned_away_until = Some(now + questions::TURNED_AWAY);
                }
            }
            Kind::Control => {}
            Kind::Plugin => self.plugin(event.id, now),
            Kind::Records => self.watch.take(now),
        }
    }

    /// Tries again what could not be bound; closes the sockets of containers that have gone without a word, which
    /// would keep their namespaces.
    fn look_around(&mut self, now: Instant) {
        self.round = now + ROUND;
        self.listeners.close(|listener| listener.presence.is_over());
        if self.unbound {
            self.follow(now);
        }
    }

    /// Whether it is over: no plugin is at work, and there is still no record.
    fn may_end(&mut self, now: Instant) -> host::Result<bool> {
        self.empty_since = Some(now);
        if self.is_detached() {
            return Ok(true);
        }
        if self.plugins_lock.try_lock().is_err() {
            // A plugin is at work; it will say when it has something for us.
            return Ok(false);
        }
        let over = self.is_over(now);
        if !matches!(over, Ok(true)) {
            let _ = self.plugins_lock.unlock();
        }
        over
    }

    /// The same while no plugin changes anything. Nobody listens at the control socket then; its name stays where this user
    /// may not remove it.
    fn is_over(&mut self, now: Instant) -> host::Result<bool> {
        if self.control.is_in_use(now) {
            return Ok(false);
        }
        self.load()?;
        if self.zone.attachments() > 0 {
            self.follow(now);
            return Ok(false);
        }
        let _ = host::file::remove(&self.place.control());
        Ok(true)
    }
}

/// Who it is, for people, and for plugins that wait for it in vain.
fn write_about(lock: &mut File) {
    let about = format!("{} {}\n", std::process::id(), cni::RELEASE);
    // It answers without, too.
    let _ =
        lock.set_len(0).and_then(|()| io::Seek::rewind(lock)).and_then(|()| lock.write_all(about.as_bytes()));
}

/// Makes the directory of the records this process's own: it may be closed to it by its path soon.
fn enter(place: &Place) -> host::Result<()> {
    let dir = place.networks_dir();
    host::file::create_dir(&dir, 0o750)?;
    std::env::set_current_dir(&dir)
        .map_err(|cause| host::Error::new("enter", dir.display().to_string(), cause))
}

fn take_lock(place: &Place) -> host::Result<File> {
    place.make_private()?;
    let path = place.responder_lock();
    host::file::try_lock(&path, 0o600)?.ok_or_else(|| {
        let cause = io::Error::new(io::ErrorKind::WouldBlock, "another responder lives");
        host::Error::new("lock", path.display().to_string(), cause)
    })
}

/// As many descriptors as are allowed: each question on its way has some. Gives how many.
fn raise_descriptors() -> u64 {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    // What there is must do.
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_or(now, |()| most)
}

/// Tells the journal, or whoever reads the error output. Never of names that were asked for.
pub(super) fn complain(what: &dyn std::fmt::Display, error: &dyn std::fmt::Display) {
    // Nobody to tell.
    let _ = writeln!(io::stderr(), "dns: {what}: {error:#}");
}
