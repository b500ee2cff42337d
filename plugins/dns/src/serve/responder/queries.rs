//! Queries of clients, and their answers.

use std::io;
use std::time::{Duration, Instant};

use sys::IpFamily;
use sys::datagram::BATCH;

use super::{ACCEPTS, BATCHES, Responder};
use crate::event_loop::{Id, fails_one_connection_only};
use crate::forward::{Asked, Client, Reply};
use crate::serve::connections::Handled;
use crate::serve::listeners::Origin;
use crate::serve::log::log_error;
use crate::source::Source;
use crate::wire::{HEADER, Rcode, Received, TCP_MAX, error_response, read};
use crate::zone::{Account, Outcome, Querier, Servers, respond};

/// How long accepting pauses when no descriptor is free.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Responder {
    pub(super) fn datagrams(&mut self, id: Id, now: Instant) {
        let Some((listener, links)) = self.listeners.listener_and_links(id) else { return };
        for _ in 0..BATCHES {
            let count = match self.inbox.receive(&listener.udp) {
                Ok(count) => count,
                // The error of an earlier send is reported here; the next call
                // goes on.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            self.queries += count;
            let host_servers = !self.host_servers.get(now).is_empty();
            for datagram in self.inbox.iter() {
                let Some(source) = datagram.peer.ip() else { continue };
                let Some((querier, host)) =
                    listener.origin.identify(links, &self.zone, datagram.link, source)
                else {
                    continue;
                };
                let room = self.outbox.room();
                let length = match read(datagram.bytes) {
                    Received::NotQuery => continue,
                    Received::Rejected(code, understood) => error_response(understood, code, room),
                    Received::Query(_) if datagram.truncated => {
                        error_response(&datagram.bytes[..HEADER], Rcode::FormErr, room)
                    }
                    Received::Query(query) => {
                        let limit = query.udp_limit();
                        match respond(&querier, &query, room, limit, host_servers) {
                            Outcome::Answer(length) => length,
                            Outcome::Forward(servers) => {
                                let servers = match &servers {
                                    Servers::Host => self.host_servers.get(now),
                                    Servers::Configured(servers) => servers,
                                };
                                let (client, querier) = (Client::Datagram(id, datagram.peer), &querier);
                                let account = Account::of(querier, host);
                                let asked = Asked { querier, client, account, query: &query, limit };
                                match self.forwarder.ask(&self.poller, asked, servers, room, now) {
                                    Some(length) => length,
                                    None => continue,
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

    pub(super) fn accept(&mut self, id: Id, now: Instant) {
        for _ in 0..ACCEPTS {
            let Some((listener, links)) = self.listeners.listener_and_links(id) else { return };
            let (stream, peer) = match listener.tcp.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if fails_one_connection_only(&error) => continue,
                // No descriptor or memory is left: the waiting connection would
                // wake us again and again.
                Err(_) => return self.pause_accepting(id, now),
            };
            let link = sys::datagram::link_of_connection(&stream, IpFamily::of(peer.ip())).ok().flatten();
            if let Some((querier, host)) = listener.origin.identify(links, &self.zone, link, peer.ip()) {
                let account = Account::of(&querier, host);
                self.connections.accept(&self.poller, stream, peer.ip(), account, id, now);
            }
        }
    }

    /// Pauses accepting connections of a listener.
    fn pause_accepting(&mut self, id: Id, now: Instant) {
        if let Some(listener) = self.listeners.all.get(id)
            && self.poller.change(&listener.tcp, Source::Accept, id, false, false).is_ok()
        {
            self.paused.push(id);
            self.paused_until = Some(now + ACCEPT_PAUSE);
        }
    }

    /// Resumes accepting connections.
    pub(super) fn resume_accepting(&mut self) {
        self.paused_until = None;
        if self.successor.is_none()
            && let Err(errno) = self.control.listen(&self.poller, true)
        {
            log_error(&"watch the control socket", &errno);
        }
        for id in std::mem::take(&mut self.paused) {
            if let Some(listener) = self.listeners.all.get(id)
                && let Err(errno) = self.poller.change(&listener.tcp, Source::Accept, id, true, false)
            {
                log_error(&"watch a socket", &errno);
            }
        }
    }

    pub(super) fn connection(&mut self, id: Id, now: Instant) {
        let Self { connections, poller, listeners, zone, scratch, forwarder, host_servers, .. } = self;
        connections.advance(poller, id, now, |connection, packet, done| {
            let querier: Option<Querier<'_>> =
                listeners.all.get(connection.listener).and_then(|listener| match &listener.origin {
                    Origin::Gateway(_, shared) => zone.querier(shared, connection.peer),
                    Origin::Container(slot, key) => zone.querier_in_namespace(*slot, key),
                });
            let (Some(querier), received) = (querier, read(packet)) else { return done(Handled::NotQuery) };
            let length = match received {
                Received::NotQuery => return done(Handled::NotQuery),
                Received::Rejected(code, understood) => error_response(understood, code, scratch),
                Received::Query(query) => {
                    let host = !host_servers.get(now).is_empty();
                    match respond(&querier, &query, scratch, TCP_MAX, host) {
                        Outcome::Answer(length) => length,
                        Outcome::Forward(servers) => {
                            let servers = match &servers {
                                Servers::Host => host_servers.get(now),
                                Servers::Configured(servers) => servers,
                            };
                            let (client, querier) = (Client::Connection(id), &querier);
                            let account = connection.account.clone();
                            let asked = Asked { querier, client, account, query: &query, limit: TCP_MAX };
                            match forwarder.ask(poller, asked, servers, scratch, now) {
                                Some(length) => length,
                                None => return done(Handled::Pending),
                            }
                        }
                    }
                }
            };
            done(Handled::Answer(&scratch[..length]));
        });
    }

    /// Sends the answer of an upstream server to the client.
    pub(super) fn deliver(&mut self, reply: &Reply, now: Instant) {
        let Some(answer) = self.scratch.get(..reply.length) else { return };
        match reply.client {
            Client::Datagram(listener, peer) => {
                if let (Some(listener), Some(address)) = (self.listeners.all.get(listener), peer.address()) {
                    // A datagram that cannot be sent counts as lost.
                    let _ = listener.udp.send_to(answer, address);
                }
            }
            Client::Connection(id) => self.connections.answer(&self.poller, id, answer, now),
        }
    }
}
