//! Queries of clients, and their answers.

use std::io;
use std::time::{Duration, Instant};

use sys::IpFamily;
use sys::datagram::BATCH;

use super::{ACCEPTS, BATCHES, Responder};
use crate::event_loop::{Id, fails_one_connection_only};
use crate::forward::{Client, Question, Reply};
use crate::serve::connections::Handled;
use crate::serve::listeners::Origin;
use crate::serve::log::log_error;
use crate::source::Source;
use crate::wire::{HEADER, Rcode, Received, TCP_MAX, read, refusal};
use crate::zone::{Asker, Outcome, Payer, Servers, respond};

/// How long accepting pauses when no descriptor is free.
pub(super) const TURNED_AWAY: Duration = Duration::from_millis(100);

impl Responder {
    pub(super) fn datagrams(&mut self, id: Id, now: Instant) {
        let Some((listener, links)) = self.listeners.split(id) else { return };
        for _ in 0..BATCHES {
            let count = match self.inbox.receive(&listener.udp) {
                Ok(count) => count,
                // The error of an earlier send is reported here; the next call
                // goes on.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            self.questions += count;
            let host_servers = !self.host_servers.get(now).is_empty();
            for datagram in self.inbox.iter() {
                let Some(source) = datagram.peer.ip() else { continue };
                let Some((asker, host)) = listener.origin.admit(links, &self.zone, datagram.link, source)
                else {
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
                                let payer = Payer::of(&asker, host);
                                match self.forwarder.start(&self.poller, question, payer, servers, now) {
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

    pub(super) fn accept(&mut self, id: Id, now: Instant) {
        for _ in 0..ACCEPTS {
            let Some((listener, links)) = self.listeners.split(id) else { return };
            let (stream, peer) = match listener.tcp.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if fails_one_connection_only(&error) => continue,
                // No descriptor or memory is left: the waiting connection would
                // wake us again and again.
                Err(_) => return self.turn_away(id, now),
            };
            let link = sys::datagram::link_of_connection(&stream, IpFamily::of(peer.ip())).ok().flatten();
            if let Some((asker, host)) = listener.origin.admit(links, &self.zone, link, peer.ip()) {
                let payer = Payer::of(&asker, host);
                self.connections.accept(&self.poller, stream, peer.ip(), payer, id, now);
            }
        }
    }

    /// Pauses accepting connections of a listener.
    fn turn_away(&mut self, id: Id, now: Instant) {
        if let Some(listener) = self.listeners.all.get(id)
            && self.poller.change(&listener.tcp, Source::Accept, id, false, false).is_ok()
        {
            self.turned_away.push(id);
            self.turned_away_until = Some(now + TURNED_AWAY);
        }
    }

    /// Resumes accepting connections.
    pub(super) fn turn_back(&mut self) {
        self.turned_away_until = None;
        if self.leaving.is_none()
            && let Err(errno) = self.control.listen(&self.poller, true)
        {
            log_error(&"watch the control socket", &errno);
        }
        for id in std::mem::take(&mut self.turned_away) {
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
            let asker: Option<Asker<'_>> =
                listeners.all.get(connection.listener).and_then(|listener| match &listener.origin {
                    Origin::Gateway(_, shared) => zone.asker(shared, connection.peer),
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
                            let payer = connection.payer.clone();
                            match forwarder.start(poller, question, payer, servers, now) {
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
