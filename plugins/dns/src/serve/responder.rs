//! The responder: what happens, and what is done about it.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use host::NetNs;
use host::datagram::{BATCH, Inbox, Outbox};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::args::Args;
use super::connections::{Connections, Handled};
use super::control::Control;
use super::listeners::{Listener, Listeners, Origin};
use super::poller::{Event, Kind, Poller};
use super::reexec::{self, Legacy};
use super::slab::Id;
use crate::control::{Answer, Ask};
use crate::forward::{Client, Forwarder, HostServers, Question, Reply};
use crate::record::{Key, Place};
use crate::wire::{HEADER, QUERY_MAX, Rcode, Received, TCP_MAX, UDP_MAX, read, refusal};
use crate::zone::{Asker, Outcome, Servers, Zone, respond};

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
    lock: File,
    poller: Poller,
    control: Control,
    zone: Zone,
    listeners: Listeners,
    connections: Connections,
    forwarder: Forwarder,
    host_servers: HostServers,
    inbox: Inbox,
    outbox: Outbox,
    /// Room for one answer of any length.
    scratch: Box<[u8]>,
    /// Some address could not be bound.
    unbound: bool,
    /// When it was seen last that there is nobody to answer for.
    empty_since: Option<Instant>,
    round: Instant,
    /// What it is about to become, and when at the latest.
    leaving: Option<(PathBuf, Instant)>,
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
        let about = format!("{} {}\n", std::process::id(), cni::RELEASE);
        // For people only.
        let _ = lock
            .set_len(0)
            .and_then(|()| io::Seek::rewind(&mut lock))
            .and_then(|()| lock.write_all(about.as_bytes()));
        raise_descriptors();
        let control = match legacy.control.take() {
            Some(socket) => Control::of_socket(socket),
            None => Control::open(&place.control())?,
        };
        let poller = Poller::new().map_err(|errno| fail("wait for questions at", errno.into()))?;
        control.watch(&poller).map_err(|errno| fail("wait for plugins at", errno.into()))?;
        let now = Instant::now();
        let mut responder = Self {
            args: args.clone(),
            place,
            lock,
            poller,
            control,
            zone: Zone::default(),
            listeners: Listeners::default(),
            connections: Connections::default(),
            forwarder: Forwarder::default(),
            host_servers: HostServers::of_file(RESOLV_CONF),
            inbox: Inbox::new(QUERY_MAX),
            outbox: Outbox::new(UDP_MAX),
            scratch: vec![0; TCP_MAX].into(),
            unbound: false,
            empty_since: None,
            round: now + ROUND,
            leaving: None,
        };
        responder.load()?;
        responder.inherit(legacy).map_err(|errno| fail("go on with the sockets of", errno.into()))?;
        responder.follow(now);
        host::privilege::keep(host::privilege::NET_BIND_SERVICE)
            .map_err(|cause| fail("give up privileges at", cause))?;
        Ok(responder)
    }

    fn inherit(&mut self, legacy: Legacy) -> nix::Result<()> {
        for (udp, tcp) in legacy.gateways {
            if let Ok(address) = udp.local_addr() {
                let origin = Origin::Gateway(address, Vec::new());
                self.listeners.insert(&self.poller, Listener { udp, tcp, origin })?;
            }
        }
        for (network, key, udp, tcp) in legacy.containers {
            if let Some(slot) = self.zone.slot(&network) {
                let origin = Origin::Container(slot, key);
                self.listeners.insert(&self.poller, Listener { udp, tcp, origin })?;
            }
        }
        Ok(())
    }

    /// Reads all records.
    fn load(&mut self) -> host::Result<()> {
        self.zone = Zone::default();
        for known in self.place.scan()? {
            known.faulty.iter().for_each(|faulty| complain(&faulty.path.display(), &faulty.error));
            if let Some(network) = known.network {
                let slot = self.zone.put_network(network);
                known.attachments.into_iter().for_each(|record| self.zone.put_attachment(slot, record));
            }
        }
        Ok(())
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
            events.drain(..).for_each(|event| self.handle(event, now));
            self.connections.expire(now);
            while let Some(reply) = self.forwarder.expire(&self.poller, &mut self.scratch, now) {
                self.deliver(&reply, now);
            }
            if now >= self.round {
                self.look_around(now);
            }
            if self.leaving.is_some() {
                self.leave(now);
            }
            if self.empty_since.is_some_and(|since| now >= since + self.args.grace) && self.may_end(now)? {
                return Ok(());
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
            look.then_some(self.round),
            self.empty_since.map(|since| since + self.args.grace),
            self.leaving.as_ref().map(|(_, latest)| *latest),
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
            Kind::Control if self.leaving.is_none() => self.control.accept(&self.poller, now),
            Kind::Control => {}
            Kind::Plugin => self.plugin(event.id, now),
        }
    }

    fn plugin(&mut self, id: Id, now: Instant) {
        while let Some((ask, descriptors)) = self.control.receive(id, now) {
            let error = self.obey(ask, descriptors, now).err();
            self.control.answer(id, &Answer::of_this(error));
        }
    }

    fn datagrams(&mut self, id: Id, now: Instant) {
        let Some((listener, links)) = self.listeners.split(id) else { return };
        let container = listener.origin.container().map(|_| id);
        for _ in 0..BATCHES {
            let count = match self.inbox.receive(&listener.udp) {
                Ok(count) => count,
                // What went wrong with an answer before is told here; the next call goes on.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            let host_servers = !self.host_servers.get(now).is_empty();
            for datagram in self.inbox.iter() {
                let Some(source) = datagram.peer.ip() else { continue };
                let Some(asker) = listener.origin.admit(links, &self.zone, datagram.link, source) else {
                    continue;
                };
                let room = self.outbox.room();
                let length = match read(datagram.bytes) {
                    Received::Noise => continue,
                    Received::Refused(code, understood) => refusal(understood, code, room),
                    Received::Query(_) if datagram.truncated => {
                        refusal(&datagram.bytes[..HEADER], Rcode::FormErr, room)
                    }
                    Received::Query(query) => {
                        let limit = query.udp_limit();
                        match respond(&asker, &query, room, limit, host_servers) {
                            Outcome::Answer(length) => length,
                            Outcome::Ask(servers) => {
                                let client = Client::Datagram(id, datagram.peer);
                                let question = Question::new(client, &query, limit);
                                let servers = match &servers {
                                    Servers::Host => self.host_servers.get(now),
                                    Servers::These(servers) => servers,
                                };
                                let source = (container, source);
                                match self.forwarder.start(&self.poller, question, source, servers, now) {
                                    Ok(()) => continue,
                                    Err(question) => question.fail(room),
                                }
                            }
                        }
                    }
                };
                self.outbox.push(length, datagram.peer);
            }
            self.outbox.send(&listener.udp);
            if count < BATCH {
                return;
            }
        }
    }

    fn accept(&mut self, id: Id, now: Instant) {
        for _ in 0..ACCEPTS {
            let Some((listener, links)) = self.listeners.split(id) else { return };
            let (stream, peer) = match listener.tcp.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A client that has gone already, or no descriptor left: what waits is told again.
                Err(_) => return,
            };
            let link = host::datagram::link_of_connection(&stream, peer.is_ipv4()).ok().flatten();
            let container = listener.origin.container().map(|_| id);
            if listener.origin.admit(links, &self.zone, link, peer.ip()).is_some() {
                self.connections.accept(&self.poller, stream, (container, peer.ip()), id, now);
            }
        }
    }

    fn connection(&mut self, id: Id, now: Instant) {
        let Self { connections, poller, listeners, zone, scratch, forwarder, host_servers, .. } = self;
        connections.advance(poller, id, now, |connection, packet, done| {
            let asker: Option<Asker<'_>> =
                listeners.all.get(connection.listener).and_then(|listener| match &listener.origin {
                    Origin::Gateway(_, shared) => zone.asker(shared, connection.source.1),
                    Origin::Container(slot, key) => zone.asker_of(*slot, key),
                });
            let (Some(asker), received) = (asker, read(packet)) else { return done(Handled::Noise) };
            let length = match received {
                Received::Noise => return done(Handled::Noise),
                Received::Refused(code, understood) => refusal(understood, code, scratch),
                Received::Query(query) => {
                    let host = !host_servers.get(now).is_empty();
                    match respond(&asker, &query, scratch, TCP_MAX, host) {
                        Outcome::Answer(length) => length,
                        Outcome::Ask(servers) => {
                            let question = Question::new(Client::Connection(id), &query, TCP_MAX);
                            let servers = match &servers {
                                Servers::Host => host_servers.get(now),
                                Servers::These(servers) => servers,
                            };
                            match forwarder.start(poller, question, connection.source, servers, now) {
                                Ok(()) => return done(Handled::Pending),
                                Err(question) => question.fail(scratch),
                            }
                        }
                    }
                }
            };
            done(Handled::Answer(&scratch[..length]));
        });
    }

    /// Passes an answer of other servers on.
    fn deliver(&mut self, reply: &Reply, now: Instant) {
        let Some(answer) = self.scratch.get(..reply.length) else { return };
        match reply.client {
            Client::Datagram(listener, peer) => {
                if let (Some(listener), Some(address)) = (self.listeners.all.get(listener), peer.address()) {
                    // Lost on the way, if it cannot be sent.
                    let _ = listener.udp.send_to(answer, address);
                }
            }
            Client::Connection(id) => self.connections.answer(&self.poller, id, answer, now),
        }
    }

    fn obey(&mut self, ask: Ask, descriptors: Vec<OwnedFd>, now: Instant) -> Result<(), String> {
        match ask {
            Ask::Hello => Ok(()),
            Ask::Sync { network, key } => self.sync(&network, key.as_ref(), now),
            Ask::Adopt { network, key } => {
                self.sync(&network, Some(&key), now)?;
                self.adopt(&network, key, descriptors)
            }
            Ask::Reexec { path } => {
                let path = PathBuf::from(path);
                nix::unistd::access(&path, nix::unistd::AccessFlags::X_OK)
                    .map_err(|errno| format!("become {}: {errno}", path.display()))?;
                self.leaving = Some((path, now + DRAIN));
                self.listen(false);
                Ok(())
            }
        }
    }

    /// Reads again what is recorded, and makes the sockets follow.
    fn sync(&mut self, network: &str, key: Option<&Key>, now: Instant) -> Result<(), String> {
        let read = self.read_again(network, key);
        let failed = self.follow(now);
        read?;
        match failed.into_iter().find(|(failed, _)| failed == network) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn read_again(&mut self, name: &str, key: Option<&Key>) -> Result<(), String> {
        let told = |error: &dyn std::fmt::Display| format!("read the records of network {name}: {error:#}");
        let Some(key) = key else {
            let known = self.place.scan_network(name).map_err(|error| told(&error))?;
            self.zone.remove_network(name);
            if let Some(network) = known.network {
                let slot = self.zone.put_network(network);
                known.attachments.into_iter().for_each(|record| self.zone.put_attachment(slot, record));
            }
            return match known.faulty.first() {
                Some(faulty) => Err(format!("{}: {:#}", faulty.path.display(), faulty.error)),
                None => Ok(()),
            };
        };
        let Some(network) = self.place.network(name).map_err(|error| told(&error))? else {
            self.zone.remove_network(name);
            return Ok(());
        };
        let slot = match self.zone.slot(name) {
            // One that is new may have more attachments than this one.
            None => return self.read_again(name, None),
            Some(_) => self.zone.put_network(network),
        };
        match self.place.attachment(name, key).map_err(|error| told(&error))? {
            Some(record) => self.zone.put_attachment(slot, record),
            None => self.zone.remove_attachment(slot, key),
        }
        Ok(())
    }

    /// Goes on with the sockets of a container.
    fn adopt(&mut self, network: &str, key: Key, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let of = || format!("take the sockets of {} in network {network}", key.container);
        let slot = self.zone.slot(network).ok_or_else(|| format!("{}: there is no such network", of()))?;
        if self.zone.network(slot).is_none_or(|network| network.attached(&key).is_none()) {
            return Err(format!("{}: the attachment is not recorded", of()));
        }
        let Ok([udp, tcp]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            return Err(format!("{}: one of UDP and one of TCP are wanted", of()));
        };
        let (udp, tcp) = (std::net::UdpSocket::from(udp), std::net::TcpListener::from(tcp));
        udp.set_nonblocking(true)
            .and_then(|()| tcp.set_nonblocking(true))
            .map_err(|error| format!("{}: {error}", of()))?;
        let told = of();
        let listener = Listener { udp, tcp, origin: Origin::Container(slot, key) };
        self.listeners.adopt(&self.poller, listener).map_err(|errno| format!("{told}: {errno}"))
    }

    /// Tries again what could not be bound; closes the sockets of containers that have gone without a word, which
    /// would keep their namespaces.
    fn look_around(&mut self, now: Instant) {
        self.round = now + ROUND;
        let Self { zone, listeners, .. } = self;
        listeners.close(|origin| {
            let path =
                origin.container().and_then(|(slot, key)| zone.network(slot)?.attached(key)?.netns.as_ref());
            path.is_some_and(|path| NetNs::open(path).is_err())
        });
        if self.unbound {
            self.follow(now);
        }
    }

    /// Listens to new questions and plugins, or leaves them where they are.
    fn listen(&self, on: bool) {
        if let Err(errno) = self.control.listen(&self.poller, on) {
            complain(&"watch the control socket", &errno);
        }
        for (id, listener) in self.listeners.all.iter() {
            for result in [
                self.poller.change(&listener.udp, Kind::Datagram, id, on, false),
                self.poller.change(&listener.tcp, Kind::Accept, id, on, false),
            ] {
                if let Err(errno) = result {
                    complain(&"watch a socket", &errno);
                }
            }
        }
    }

    /// Becomes another executable, once no question is on its way or it has been waited for long enough.
    fn leave(&mut self, now: Instant) {
        let busy = !(self.forwarder.is_idle() && self.connections.is_idle());
        let Some((path, _)) = self.leaving.take_if(|(_, latest)| !busy || now >= *latest) else { return };
        // What they have said is answered; who says more finds the connection closed, and asks the successor.
        self.control.plugins().into_iter().for_each(|id| self.plugin(id, now));
        if self.leaving.take().is_some() {
            complain(&"become another executable", &"asked for twice; the first is done");
        }
        let listeners = self.listeners.all.iter().map(|(_, listener)| listener);
        let error =
            reexec::become_it(&path, &self.args, &self.lock, self.control.socket(), listeners, &self.zone);
        complain(&format_args!("become {}", path.display()), &error);
        self.listen(true);
    }

    /// Whether it is over: no plugin is at work, and there is still no record. The control socket goes then.
    fn may_end(&mut self, now: Instant) -> host::Result<bool> {
        self.empty_since = Some(now);
        let Some(_lock) = try_lock(&self.place.dir().join("lock"))? else {
            // A plugin is at work; it will say when it has something for us.
            return Ok(false);
        };
        if self.control.is_in_use(now) {
            return Ok(false);
        }
        self.load()?;
        if self.zone.attachments() > 0 {
            self.follow(now);
            return Ok(false);
        }
        host::file::remove(&self.place.control())?;
        Ok(true)
    }
}

/// Locks the file, creating it when it is missing; `None` when somebody else has it.
fn try_lock(path: &Path) -> host::Result<Option<File>> {
    let fail = |cause| host::Error::new("lock", path.display().to_string(), cause);
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(fail(cause)),
    }
}

fn take_lock(place: &Place) -> host::Result<File> {
    host::file::create_dir(place.dir(), 0o700)?;
    let path = place.responder_lock();
    try_lock(&path)?.ok_or_else(|| {
        let cause = io::Error::new(io::ErrorKind::WouldBlock, "another responder lives");
        host::Error::new("lock", path.display().to_string(), cause)
    })
}

/// As many descriptors as are allowed: each question on its way has some.
fn raise_descriptors() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // What there is must do.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// Tells the journal, or whoever reads the error output. Never of names that were asked for.
fn complain(what: &dyn std::fmt::Display, error: &dyn std::fmt::Display) {
    // Nobody to tell.
    let _ = writeln!(io::stderr(), "dns: {what}: {error:#}");
}
