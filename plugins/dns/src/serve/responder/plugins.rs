//! Requests of plugins.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::unistd::{AccessFlags, access};

use super::{DRAIN_TIMEOUT, Responder, Successor};
use crate::control::{ControlRequest, ControlResponse};
use crate::event_loop::Id;
use crate::record::Key;
use crate::serve::listeners::{Listener, Origin};
use crate::serve::log::log_error;
use crate::serve::reexec::{self, KeptDescriptors};
use crate::source::Source;

impl Responder {
    pub(super) fn plugin(&mut self, id: Id, now: Instant) {
        while let Some((request, descriptors)) = self.control.receive(id, now) {
            let reads = matches!(request, ControlRequest::Sync { .. } | ControlRequest::Adopt { .. });
            let answer = match request {
                _ if reads && self.records_are_gone() => ControlResponse::detached(),
                ControlRequest::Cache { network } => {
                    let cache = self.zone.slot(&network).map(|slot| self.forwarder.figures(slot));
                    let error = cache.is_none().then(|| format!("there is no network {network}"));
                    ControlResponse { cache, ..ControlResponse::new(error) }
                }
                request => ControlResponse::new(self.execute(request, descriptors, now).err()),
            };
            self.control.answer(id, &answer);
        }
    }

    fn execute(
        &mut self,
        request: ControlRequest,
        descriptors: Vec<OwnedFd>,
        now: Instant,
    ) -> Result<(), String> {
        match request {
            ControlRequest::Hello | ControlRequest::Cache { .. } => Ok(()),
            ControlRequest::Records => {
                self.list(descriptors).map_err(|error| format!("list the records: {error}"))
            }
            ControlRequest::Settle => self.settle(descriptors, now),
            ControlRequest::Sync { network, key } => self.sync(&network, key.as_ref(), now),
            ControlRequest::Adopt { network, key } => {
                self.sync(&network, Some(&key), now)?;
                self.adopt(&network, key, descriptors)
            }
            ControlRequest::Reexec { path } => {
                let path = PathBuf::from(path);
                let executable = executable(&path, descriptors)
                    .map_err(|errno| format!("become {}: {errno}", path.display()))?;
                self.successor = Some(Successor { executable, path, deadline: now + DRAIN_TIMEOUT });
                self.listen(false);
                Ok(())
            }
        }
    }

    /// Reads records again and opens or closes sockets accordingly.
    fn sync(&mut self, network: &str, key: Option<&Key>, now: Instant) -> Result<(), String> {
        let read = self.reload(network, key, now);
        let failed = self.apply_records(now);
        read?;
        match failed.into_iter().find(|(failed, _)| failed == network) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// Takes over the sockets of a container.
    fn adopt(&mut self, network: &str, key: Key, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let of = || format!("take the sockets of {} in network {network}", key.container);
        let slot = self.zone.slot(network).ok_or_else(|| format!("{}: there is no such network", of()))?;
        if self.zone.network(slot).is_none_or(|network| network.attached(&key).is_none()) {
            return Err(format!("{}: the attachment is not recorded", of()));
        }
        let Ok([udp, tcp]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            return Err(format!("{}: expected a UDP and a TCP socket", of()));
        };
        let operation = of();
        let presence = self.presence(slot, &key);
        let origin = Origin::Container(slot, key);
        let listener = Listener { udp: udp.into(), tcp: tcp.into(), origin, presence };
        self.adopt_listener(listener).map_err(|error| format!("{operation}: {error}"))
    }

    /// Starts or stops receiving queries and accepting connections.
    pub(super) fn listen(&self, on: bool) {
        if let Err(errno) = self.control.listen(&self.poller, on) {
            log_error(&"watch the control socket", &errno);
        }
        for (id, listener) in self.listeners.all.iter() {
            for result in [
                self.poller.change(&listener.udp, Source::Datagram, id, on, false),
                self.poller.change(&listener.tcp, Source::Accept, id, on, false),
            ] {
                if let Err(errno) = result {
                    log_error(&"watch a socket", &errno);
                }
            }
        }
    }

    /// Executes the successor once no query is in flight, or at the deadline.
    pub(super) fn exec_successor(&mut self, now: Instant) {
        let busy = !(self.forwarder.is_idle() && self.connections.is_idle());
        let Some(Successor { executable, path, .. }) =
            self.successor.take_if(|successor| !busy || now >= successor.deadline)
        else {
            return;
        };
        // Requests that were sent are answered. A later request finds the connection
        // closed and goes to the successor.
        self.control.connections().into_iter().for_each(|id| self.plugin(id, now));
        if self.successor.take().is_some() {
            log_error(&"become another executable", &"requested twice; the first request counts");
        }
        let listeners = self.listeners.all.iter().map(|(_, listener)| listener);
        let kept = KeptDescriptors {
            lock: self.lock.as_fd(),
            plugins_lock: self.plugins_lock.as_fd(),
            control: self.control.socket().as_fd(),
        };
        let error = reexec::exec_successor(&executable, &self.args, &kept, listeners, &self.zone);
        log_error(&format_args!("become {}", path.display()), &error);
        self.listen(true);
    }
}

/// The executable to become: the descriptor that came with the request, or else the file at the
/// path.
fn executable(path: &Path, descriptors: Vec<OwnedFd>) -> std::io::Result<OwnedFd> {
    match descriptors.into_iter().next() {
        Some(executable) => {
            access(
                format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&executable)).as_str(),
                AccessFlags::X_OK,
            )?;
            Ok(executable)
        }
        None => {
            access(path, AccessFlags::X_OK)?;
            Ok(File::open(path)?.into())
        }
    }
}
