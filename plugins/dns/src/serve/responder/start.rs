//! Starting: anew, or as successor of another executable with its sockets.

use std::fs::File;
use std::io;
use std::time::Instant;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sys::datagram::{Inbox, Outbox};

use super::{RESOLV_CONF, ROUND, Responder, write_about};
use crate::container::{self, Sockets};
use crate::control::at_path;
use crate::forward::{Forwarder, HostServers};
use crate::place::is_system_root;
use crate::record::{Key, Mode, Place, RESPONDER};
use crate::serve::args::Args;
use crate::serve::confine;
use crate::serve::connections::Connections;
use crate::serve::control::Control;
use crate::serve::listeners::{Listener, Listeners, Origin};
use crate::serve::log::log_error;
use crate::serve::pace::Pace;
use crate::serve::presence::Presence;
use crate::serve::reexec::Legacy;
use crate::serve::watch::Watch;
use crate::source::Poller;
use crate::wire::{QUERY_MAX, TCP_MAX, UDP_MAX};
use crate::zone::{Slot, Zone};

impl Responder {
    /// Takes the lock, reads the records, opens the sockets, and drops privileges.
    pub(in crate::serve) fn start(args: &Args) -> sys::Result<Self> {
        let place = Place::at(&args.place);
        let fail = |op, cause: io::Error| sys::Error::new(op, args.place.display().to_string(), cause);
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
        // A previous executable that ran as root has dropped the capability to change
        // its user.
        let root = !args.inherit && is_system_root();
        if root {
            place.admit()?;
        }
        let plugins_lock = match legacy.plugins_lock.take() {
            // A previous executable's working directory is the directory of the
            // records.
            Some(lock) => lock.into(),
            None => {
                enter(&place)?;
                sys::file::open_lock(&place.plugins_lock())?
            }
        };
        let meta = nix::sys::stat::stat(".").map_err(|errno| fail("look at the records of", errno.into()))?;
        let origin = (meta.st_dev, meta.st_uid);
        // From here on the directories above may be closed to this process.
        let place = place.from_within();
        let poller = Poller::new().map_err(|errno| fail("wait for questions at", errno.into()))?;
        control.watch(&poller).map_err(|errno| fail("wait for plugins at", errno.into()))?;
        if let Err(error) = control.open_rear(&place, &poller) {
            log_error(&"records that are removed as a whole are not written again", &error);
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
            sys::privilege::become_user(RESPONDER).map_err(|cause| fail("leave the user root at", cause))?;
        }
        sys::privilege::drop_capabilities_except(sys::privilege::NET_BIND_SERVICE)
            .map_err(|cause| fail("give up privileges at", cause))?;
        // A kernel without one of these still gets a responder.
        for confined in [confine::write_nowhere(), confine::call_only_what_is_needed()] {
            if let Err(error) = confined {
                log_error(&"the kernel confines the responder less than it could", &error);
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

    /// Opens sockets in the namespaces of containers that have none, because the previous
    /// responder was killed. Failures are logged, and reported to the runtime by the next
    /// CHECK of the container.
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
                    // A container that is gone needs no sockets; that is no
                    // error.
                    let Some(netns) = netns else { return Ok(None) };
                    Sockets::open(&netns, name, key).and_then(Sockets::lead).map(Some)
                });
                match sockets {
                    Ok(None) => {}
                    Ok(Some((udp, tcp))) => {
                        let origin = Origin::Container(slot, key.clone());
                        opened.push(Listener { udp, tcp, origin, presence: Presence::of(attached) });
                    }
                    Err(error) => log_error(&format_args!("sockets of {}", key.container), &error.msg),
                }
            }
        }
        for listener in opened {
            if let Err(error) = self.take_in(listener) {
                log_error(&"sockets of a container", &error);
            }
        }
    }
}

/// Changes to the directory of the records. Its path may be closed to this process later.
fn enter(place: &Place) -> sys::Result<()> {
    let dir = place.networks_dir();
    sys::file::create_dir(&dir, 0o750)?;
    std::env::set_current_dir(&dir)
        .map_err(|cause| sys::Error::new("enter", dir.display().to_string(), cause))
}

fn take_lock(place: &Place) -> sys::Result<File> {
    place.make_private()?;
    let path = place.responder_lock();
    sys::file::try_lock(&path, 0o600)?.ok_or_else(|| {
        let cause = io::Error::new(io::ErrorKind::WouldBlock, "another responder lives");
        sys::Error::new("lock", path.display().to_string(), cause)
    })
}

/// Raises the limit of open files to the hard limit, for queries in flight. Returns the limit.
fn raise_descriptors() -> u64 {
    let Ok((now, most)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    // The soft limit must do.
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_or(now, |()| most)
}
