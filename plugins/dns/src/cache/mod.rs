//! Answers of upstream servers, kept for the next client that sends the same query.
//!
//! An answer is kept whole, under exactly the query that it answers ([`Scope`], name, type, and
//! the bits that change an answer). Nothing is learnt from its records. Networks share no answer
//! and no space; names of containers are looked up before, and never kept.

mod answers;
pub mod fuzz;
mod key;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::time::Duration;

use answers::{Answers, Kept};
use serde::{Deserialize, Serialize};

use crate::map::{Map, Secret};
use crate::record;
use crate::wire::{HEADER, Lifetime, Query, is_kept, put_u16, truncated};
use crate::zone::{Slot, Zone};

/// Bytes of one network's answers, with everything that keeps them.
const NETWORK_BYTES: usize = 256 << 10;
/// Bytes of all answers. Networks have equal parts of it if it is less than their sum.
const TOTAL_BYTES: usize = 4 << 20;
/// The longest answer that is kept: one of a sixteenth of a network's space.
const ANSWER_MAX: usize = 16 << 10;

/// The clients that may share an answer: those of a network for whom the same servers are
/// queried. A container with servers of its own shares none.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The queried network.
    pub slot: Slot,
    /// Its record.
    pub network: &'a record::Network,
    /// The container, if the servers are its own.
    pub owner: Option<&'a str>,
    /// The servers, in their order.
    pub servers: &'a [SocketAddr],
}

/// What a network's answers are, and were good for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// Answers that are kept; some may be past their time.
    pub answers: usize,
    /// Bytes that they take.
    pub bytes: usize,
    /// Queries that a kept answer answered.
    pub hits: u64,
    /// Queries that it could not.
    pub misses: u64,
}

/// A query that was sent on, and will be answered.
#[derive(Debug)]
pub struct Pending {
    slot: Slot,
    epoch: u64,
    hash: u64,
    key: Box<[u8]>,
    edns: bool,
}

/// The answers of one network.
#[derive(Debug)]
struct OfNetwork {
    /// Not that of another network, earlier or later.
    epoch: u64,
    name: String,
    upstreams: Option<Vec<SocketAddr>>,
    /// How many answers are kept at most.
    most: usize,
    answers: Answers,
    /// Queries that were sent on, by their hash. Only the first of identical ones may fill the
    /// cache: every further one would give a forger another id and port to guess (RFC 5452,
    /// section 5).
    pending: Map<u64, ()>,
    hits: u64,
    misses: u64,
}

/// All answers.
#[derive(Debug, Default)]
pub struct Cache {
    networks: Map<Slot, OfNetwork>,
    /// Bytes of all answers.
    bytes: usize,
    epochs: u64,
    /// The key of the current query.
    key: Vec<u8>,
}

fn hash(key: &[u8]) -> u64 {
    Secret::default().hash_one(key)
}

fn most(network: &record::Network) -> usize {
    usize::try_from(network.cache).unwrap_or(0)
}

impl OfNetwork {
    fn new(network: &record::Network, epoch: u64) -> Self {
        Self {
            epoch,
            name: network.name.clone(),
            upstreams: network.upstreams.clone(),
            most: most(network),
            answers: Answers::default(),
            pending: Map::default(),
            hits: 0,
            misses: 0,
        }
    }
}

impl Cache {
    /// Writes the kept answer to a query; returns its length. An answer of more than `limit`
    /// bytes is truncated. `now` is a time since boot.
    pub fn find(
        &mut self,
        scope: &Scope<'_>,
        query: &Query<'_>,
        limit: usize,
        buffer: &mut [u8],
        now: Duration,
    ) -> Option<usize> {
        if scope.network.cache == 0 || !is_kept(query.kind) {
            return None;
        }
        let Self { networks, bytes, epochs, key } = self;
        key::write(key, scope, query);
        let of = networks.entry(scope.slot).or_insert_with(|| {
            *epochs += 1;
            OfNetwork::new(scope.network, *epochs)
        });
        let before = of.answers.bytes();
        let written =
            of.answers.get(hash(key), key, now).and_then(|kept| write(kept, query, limit, buffer, now));
        *bytes = *bytes - before + of.answers.bytes();
        *(if written.is_some() { &mut of.hits } else { &mut of.misses }) += 1;
        written
    }

    /// Notes that a query is sent on. `None` if its answer will not be kept.
    pub fn expect(&mut self, scope: &Scope<'_>, query: &Query<'_>) -> Option<Pending> {
        let of = self.networks.get_mut(&scope.slot)?;
        if scope.network.cache == 0 || !is_kept(query.kind) {
            return None;
        }
        key::write(&mut self.key, scope, query);
        let hash = hash(&self.key);
        let first = of.pending.insert(hash, ()).is_none();
        let edns = query.edns.is_some();
        first.then(|| Pending { slot: scope.slot, epoch: of.epoch, hash, key: self.key[..].into(), edns })
    }

    fn of(&mut self, pending: &Pending) -> Option<&mut OfNetwork> {
        self.networks.get_mut(&pending.slot).filter(|of| of.epoch == pending.epoch)
    }

    /// Notes that a query is no longer pending.
    pub fn end(&mut self, pending: &Pending) {
        if let Some(of) = self.of(pending) {
            of.pending.remove(&pending.hash);
        }
    }

    /// Keeps the whole answer to a query, if its lifetime and the network's space allow it.
    pub fn keep(&mut self, pending: Pending, message: &[u8], now: Duration) {
        let quota = NETWORK_BYTES.min(TOTAL_BYTES / self.networks.len().max(1));
        let total = self.bytes;
        let Some(of) = self.of(&pending).filter(|_| message.len() <= ANSWER_MAX) else { return };
        let Some(Lifetime { seconds, ttls }) = Lifetime::read(message, pending.edns) else { return };
        let kept = Kept { message: message.into(), ttls: ttls.into(), since: now, seconds };
        let cost = kept.cost(&pending.key);
        if cost > quota {
            return;
        }
        let before = of.answers.bytes();
        of.answers.remove(pending.hash);
        of.answers.shrink(of.most.saturating_sub(1), quota - cost);
        self.bytes = total - before + of.answers.bytes();
        if self.bytes + cost > TOTAL_BYTES {
            // A network that came later makes the parts of all smaller.
            self.networks.values_mut().for_each(|of| of.answers.shrink(of.most, quota));
            self.count();
        }
        if let Some(of) = self.of(&pending) {
            of.answers.insert(pending.hash, pending.key, kept);
            self.bytes += cost;
        }
    }

    fn count(&mut self) {
        self.bytes = self.networks.values().map(|of| of.answers.bytes()).sum();
    }

    /// Drops what the records no longer allow: answers of removed networks, and of those with
    /// other servers than before. Answers on their way to these are not kept either.
    pub fn follow(&mut self, zone: &Zone) {
        self.networks.retain(|slot, of| {
            let Some(network) = zone.network(*slot).map(|network| network.record()) else { return false };
            of.most = most(network);
            of.answers.shrink(of.most, NETWORK_BYTES);
            of.most > 0 && of.name == network.name && of.upstreams == network.upstreams
        });
        self.count();
    }

    /// The figures of a network.
    pub fn figures(&self, slot: Slot) -> Figures {
        let of = |of: &OfNetwork| Figures {
            answers: of.answers.len(),
            bytes: of.answers.bytes(),
            hits: of.hits,
            misses: of.misses,
        };
        self.networks.get(&slot).map(of).unwrap_or_default()
    }
}

/// Writes a kept answer as the answer to this query; returns its length.
fn write(kept: &Kept, query: &Query<'_>, limit: usize, buffer: &mut [u8], now: Duration) -> Option<usize> {
    let question = query.question();
    let whole = kept.message.len() <= limit;
    let length = if whole { kept.message.len() } else { HEADER + question.len() };
    let room = buffer.get_mut(..length)?;
    room.copy_from_slice(kept.message.get(..length)?);
    put_u16(room, 0, query.id());
    room.get_mut(HEADER..HEADER + question.len())?.copy_from_slice(question);
    if !whole {
        return Some(truncated(room, question.len()));
    }
    // No record outlives the one with the least TTL, so all have what is left of it.
    let left = kept.left(now)?.to_be_bytes();
    for at in kept.ttls.iter().map(|at| usize::from(*at)) {
        room.get_mut(at..at + left.len())?.copy_from_slice(&left);
    }
    Some(length)
}
