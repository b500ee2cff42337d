//! Starting: anew, or as successor of another executable with its sockets.

use std::fs::File;
use std::io;
use std::time::Instant;

use daemon::{confine, is_system_root};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sys::datagram::{Inbox, Outbox};

use super::{CHECK_INTERVAL, RESOLV_CONF, Responder, write_lock_file};
use crate::container::{self, Sockets};
use crate::control::at_path;
use crate::forward::{Forwarder, HostServers};
use crate::record::{Key, Mode, RESPONDER, StateDir};
use crate::serve::args::Args;
use crate::serve::connections::Connections;
use crate::serve::control::Control;
use crate::serve::listeners::{Listener, Listeners, Origin};
use crate::serve::log::log_error;
use crate::serve::pace::Pace;
use crate::serve::presence::Presence;
use crate::serve::reexec::Inherited;
use crate::serve::watch::Watch;
use crate::source::Poller;
use crate::wire::{QUERY_MAX, TCP_MAX, UDP_MAX};
use crate::zone::{Slot, Zone};

impl Responder {
    /// Takes the lock, reads the records, opens the sockets, and drops privileges.
    pub(in crate::serve) fn start(args: &Args) -> sys::Result<Self> {
        let state_dir = StateDir::at(&args.state_dir);
        let fail = |op, cause: io::Error| sys::Error::new(op, args.state_dir.display().to_string(), cause);
        let mut inherited = Inherited::default();
        if args.inherit {
            inherited = Inherited::take().map_err(|cause| fail("take over the sockets of", cause))?;
        }
        let mut lock = match inherited.lock.take() {
            Some(lock) => File::from(lock),
            None => take_lock(&state_dir)?,
        };
        write_lock_file(&mut lock);
        let descriptors = raise_descriptors();
        let mut control = Control::of_socket(match inherited.control.take() {
            Some(socket) => socket,
            None => at_path(&state_dir.control())?,
        });
        // A previous executable that ran as root has dropped the capability to change
        // its user.
        let root = !args.inherit && is_system_root();
        if root {
            state_dir.let_responder_read()?;
        }
        let plugins_lock = match inherited.plugins_lock.take() {
            // A previous executable's working directory is the directory of the
            // records.
            Some(lock) => lock.into(),
            None => {
                enter(&state_dir)?;
                sys::file::open_lock(&state_dir.plugins_lock())?
            }
        };
        let meta = nix::sys::stat::stat(".").map_err(|errno| fail("inspect the records of", errno.into()))?;
        let origin = (meta.st_dev, meta.st_uid);
        // From here on the directories above may be closed to this process.
        let state_dir = state_dir.from_within();
        let poller = Poller::new().map_err(|errno| fail("wait for queries at", errno.into()))?;
        control.watch(&poller).map_err(|errno| fail("wait for plugins at", errno.into()))?;
        if let Err(error) = control.open_fallback(&state_dir, &poller) {
            log_error(&"removed records cannot be restored", &error);
        }
        let now = Instant::now();
        let mut responder = Self {
            args: args.clone(),
            state_dir,
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
            queries: 0,
            pace: Pace::new(now),
            scratch: vec![0; TCP_MAX].into(),
            unbound: false,
            empty_since: None,
            next_check: now + CHECK_INTERVAL,
            successor: None,
            paused: Vec::new(),
            paused_until: None,
        };
        responder.forwarder.limit(descriptors);
        responder.load()?;
        responder.inherit(inherited).map_err(|errno| fail("continue with the sockets of", errno.into()))?;
        responder.reopen();
        responder.apply_records(now);
        if root {
            sys::privilege::become_user(RESPONDER).map_err(|cause| fail("drop the user root at", cause))?;
        }
        sys::privilege::drop_capabilities_except(sys::privilege::NET_BIND_SERVICE)
            .map_err(|cause| fail("drop capabilities at", cause))?;
        // A kernel without one of these still gets a responder.
        for confined in [confine::forbid_file_writes(&[]), confine::forbid_other_system_calls(&[])] {
            if let Err(error) = confined {
                log_error(&"the kernel cannot confine the responder fully", &error);
            }
        }
        Ok(responder)
    }

    fn inherit(&mut self, inherited: Inherited) -> nix::Result<()> {
        for (udp, tcp) in inherited.gateways {
            if let Ok(address) = udp.local_addr() {
                let origin = Origin::Gateway(address, Vec::new());
                let presence = Presence::default();
                self.listeners.insert(&self.poller, Listener { udp, tcp, origin, presence })?;
            }
        }
        for (network, key, udp, tcp) in inherited.containers {
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
                    Sockets::open(&netns, name, key).and_then(Sockets::redirect).map(Some)
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
            if let Err(error) = self.adopt_listener(listener) {
                log_error(&"sockets of a container", &error);
            }
        }
    }
}

/// Changes to the directory of the records. Its path may be closed to this process later.
fn enter(state_dir: &StateDir) -> sys::Result<()> {
    let dir = state_dir.networks_dir();
    sys::file::create_dir(&dir, 0o750)?;
    std::env::set_current_dir(&dir)
        .map_err(|cause| sys::Error::new("enter", dir.display().to_string(), cause))
}

fn take_lock(state_dir: &StateDir) -> sys::Result<File> {
    state_dir.make_private()?;
    let path = state_dir.responder_lock();
    sys::file::lock_of_daemon(&path, 0o600)?.ok_or_else(|| {
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
