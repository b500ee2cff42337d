//! Questions of clients, and their answers.

use std::io;
use std::time::Instant;

use host::datagram::BATCH;

use super::{ACCEPTS, BATCHES, Responder};
use crate::forward::{Client, Question, Reply};
use crate::serve::Id;
use crate::serve::connections::Handled;
use crate::serve::listeners::Origin;
use crate::wire::{HEADER, Rcode, Received, TCP_MAX, read, refusal};
use crate::zone::{Asker, Outcome, Servers, respond};

impl Responder {
    pub(super) fn datagrams(&mut self, id: Id, now: Instant) {
        let Some((listener, links)) = self.listeners.split(id) else { return };
        let container = listener.origin.container().map(|_| id);
        for _ in 0..BATCHES {
            let count = match self.inbox.receive(&listener.udp) {
                Ok(count) => count,
                // What went wrong with an answer before is told here; the next call goes on.
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => continue,
                Err(_) => return,
            };
            self.questions += count;
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

    pub(super) fn accept(&mut self, id: Id, now: Instant) {
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

    pub(super) fn connection(&mut self, id: Id, now: Instant) {
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
    pub(super) fn deliver(&mut self, reply: &Reply, now: Instant) {
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
}
