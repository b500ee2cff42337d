//! Questions of clients, and their answers.

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

/// How long connections wait in the kernel when there is no descriptor for them.
pub(super) const TURNED_AWAY: Duration = Duration::from_millis(100);

impl Responder {
    pub(super) fn datagrams(&mut self, id: Id, now: Instant) {
        let Some((listener, links)) = self.listeners.split(id) else { return };
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
                // No descriptor or no memory is left: what waits would be told of again and again.
                Err(_) => return self.turn_away(id, now),
            };
            let link = sys::datagram::link_of_connection(&stream, IpFamily::of(peer.ip())).ok().flatten();
            if let Some((asker, host)) = listener.origin.admit(links, &self.zone, link, peer.ip()) {
                let payer = Payer::of(&asker, host);
                self.connections.accept(&self.poller, stream, peer.ip(), payer, id, now);
            }
        }
    }

    /// Does not listen to connections there for a moment.
    fn turn_away(&mut self, id: Id, now: Instant) {
        if let Some(listener) = self.listeners.all.get(id)
            && self.poller.change(&listener.tcp, Source::Accept, id, false, false).is_ok()
        {
            self.turned_away.push(id);
            self.turned_away_until = Some(now + TURNED_AWAY);
        }
    }

    /// Listens to connections again.
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
