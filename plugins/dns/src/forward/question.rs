//! What is kept of a client's query while it is forwarded.

use super::Client;
use crate::wire::{HEADER, Query, Rcode, flag, opt_record, put_u16, truncated, u16_at};

/// The parts of a client's query that are needed to forward and to answer it.
#[derive(Debug)]
pub struct Question {
    /// Where the answer goes.
    pub client: Client,
    id: u16,
    flags: u16,
    limit: usize,
    pub(super) edns: bool,
    /// The client wants to know whether a server validated the answer (RFC 6840, section 5.8).
    validation: bool,
    /// The message for upstream servers, without its id: header, question, EDNS.
    message: Vec<u8>,
    question: usize,
}

/// An answer for a client. Its bytes are in the caller's buffer.
#[derive(Debug)]
pub struct Reply {
    /// Where it goes.
    pub client: Client,
    /// Its length in bytes.
    pub length: usize,
}

impl Question {
    /// Copies from a query. `limit`: the longest answer that the client takes.
    pub fn new(client: Client, query: &Query<'_>, limit: usize) -> Self {
        let question = query.question();
        let mut message = Vec::with_capacity(HEADER + question.len() + 11);
        message.resize(HEADER, 0);
        put_u16(&mut message, 2, query.flags() & (flag::RD | flag::AD | flag::CD));
        put_u16(&mut message, 4, 1);
        message.extend_from_slice(question);
        if let Some(edns) = query.edns {
            put_u16(&mut message, 10, 1);
            message.extend_from_slice(&opt_record(Rcode::NoError, edns.dnssec));
        }
        let (id, flags, edns) = (query.id(), query.flags(), query.edns.is_some());
        let validation = flags & flag::AD != 0 || query.edns.is_some_and(|edns| edns.dnssec);
        Self { client, id, flags, limit, edns, validation, message, question: question.len() }
    }

    pub(super) fn is_tcp(&self) -> bool {
        matches!(self.client, Client::Connection(_))
    }

    fn bytes(&self) -> &[u8] {
        self.message.get(HEADER..HEADER + self.question).unwrap_or_default()
    }

    /// The message for an upstream server, with or without EDNS.
    pub(super) fn message(&mut self, id: u16, edns: bool) -> &[u8] {
        let end = if edns { self.message.len() } else { HEADER + self.question };
        put_u16(&mut self.message, 0, id);
        put_u16(&mut self.message, 10, u16::from(edns));
        self.message.get(..end).unwrap_or_default()
    }

    /// Writes SERVFAIL; returns the length.
    pub fn fail(&self, buffer: &mut [u8]) -> usize {
        let message = if self.edns { &self.message[..] } else { &self.message[..HEADER + self.question] };
        let Some(room) = buffer.get_mut(..message.len()) else { return 0 };
        room.copy_from_slice(message);
        put_u16(room, 0, self.id);
        put_u16(room, 2, flag::QR | self.flags & flag::RD | flag::RA | Rcode::ServFail as u16);
        put_u16(room, 10, u16::from(self.edns));
        // Of EDNS only our own OPT record.
        if let Some(options) = room.get_mut(HEADER + self.question..).filter(|rest| !rest.is_empty()) {
            options.copy_from_slice(&opt_record(Rcode::NoError, false));
        }
        room.len()
    }

    /// Classifies a message from the server that got the query under `id`.
    pub(super) fn classify(&self, id: u16, message: &[u8]) -> MessageKind {
        let flags = u16_at(message, 2).unwrap_or(0);
        if u16_at(message, 0) != Some(id) || flags & (flag::QR | flag::OPCODE) != flag::QR {
            return MessageKind::Unrelated;
        }
        let code = flags & flag::RCODE;
        let odd = code == Rcode::FormErr as u16 || code == Rcode::NotImp as u16;
        let failed = odd || matches!(code, 2 | 5);
        let failure = if odd { MessageKind::NotUnderstood } else { MessageKind::Failure };
        let repeated = message.get(HEADER..HEADER + self.question);
        match u16_at(message, 4) {
            Some(1) if repeated.is_some_and(|repeated| is_same(repeated, self.bytes())) => {
                if failed {
                    failure
                } else {
                    MessageKind::Answer
                }
            }
            // Some servers do not repeat the question in an error.
            Some(0) if failed => failure,
            _ => MessageKind::Unrelated,
        }
    }

    /// Turns the server's answer in the buffer into ours.
    pub(super) fn pass_back(&self, buffer: &mut [u8]) {
        let validated = if self.validation { flag::AD } else { 0 };
        let flags = u16_at(buffer, 2).unwrap_or(0) & (flag::TC | flag::RCODE | validated);
        put_u16(buffer, 0, self.id);
        put_u16(buffer, 2, flag::QR | flag::RA | self.flags & flag::RD | flags);
        if let Some(repeated) = buffer.get_mut(HEADER..HEADER + self.question) {
            repeated.copy_from_slice(self.bytes());
        }
    }

    /// Truncates an answer that the client does not take; returns its length.
    pub(super) fn shorten(&self, buffer: &mut [u8], length: usize) -> usize {
        if length > self.limit { truncated(&mut buffer[..length], self.question) } else { length }
    }
}

/// Whether two questions differ by the case of their names only. Type and class have no case.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let end = other.len().saturating_sub(4);
    one.len() == other.len() && one[..end].eq_ignore_ascii_case(&other[..end]) && one[end..] == other[end..]
}

/// How a message relates to the query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum MessageKind {
    Unrelated,
    Failure,
    /// The server does not understand the query.
    NotUnderstood,
    Answer,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_loop::Id;
    use crate::wire::{Received, TCP_MAX, read};

    /// A message about `a`, with these flags, of that type.
    fn message(name: u8, kind: u8, flags: u16) -> Vec<u8> {
        let mut message = vec![0, 7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, name, 0, 0, kind, 0, 1];
        put_u16(&mut message, 2, flags);
        message
    }

    fn question(flags: u16) -> Question {
        let packet = message(b'a', 65, flags);
        let Received::Query(query) = read(&packet) else { panic!("not a query") };
        Question::new(Client::Connection(Id::ZERO), &query, TCP_MAX)
    }

    /// D-042: types are numbers: HTTPS (65) is no spelling of 97.
    #[test]
    fn an_answer_repeats_the_type() {
        let question = question(flag::RD);
        assert_eq!(question.classify(7, &message(b'A', 65, flag::QR)), MessageKind::Answer);
        assert_eq!(question.classify(7, &message(b'a', 97, flag::QR)), MessageKind::Unrelated);
        assert_eq!(question.classify(7, &message(b'b', 65, flag::QR)), MessageKind::Unrelated);
    }

    /// D-112: only a client that asks for it learns that the answer was validated.
    #[test]
    fn the_bit_of_validation_is_passed_to_clients_that_set_it() {
        for (flags, validated) in [(flag::RD, 0), (flag::RD | flag::AD, flag::AD)] {
            let mut question = question(flags);
            assert_eq!(u16_at(question.message(9, false), 2), Some(flags));
            let mut answer = message(b'A', 65, flag::QR | flag::AA | flag::AD);
            question.pass_back(&mut answer);
            assert_eq!(answer, message(b'a', 65, flag::QR | flag::RA | flag::RD | validated));
        }
    }
}
