//! The answers of one network, in the order of their last use.
//!
//! A list by indexes and a map from hashes to them: the cost of each operation does not depend on
//! how many answers there are. Two keys with one hash replace each other.

use std::time::Duration;

use crate::event_loop::{Id, Slab};
use crate::map::Map;

/// A kept answer.
#[derive(Debug)]
pub(super) struct Kept {
    /// The message, with the first client's id and question.
    pub(super) message: Box<[u8]>,
    /// Where its TTLs are.
    pub(super) ttls: Box<[u16]>,
    /// When it arrived, by the time since boot: it counts while the machine is suspended, and
    /// nobody sets it.
    pub(super) since: Duration,
    /// How long it is kept.
    pub(super) seconds: u32,
}

#[derive(Debug)]
struct Node {
    hash: u64,
    key: Box<[u8]>,
    kept: Kept,
    newer: Option<Id>,
    older: Option<Id>,
}

/// What an answer takes beside its bytes: places in the list and the map, which grow by doubling,
/// and what an allocator adds to each of three pieces.
const OVERHEAD: usize = 2 * size_of::<(u32, Option<Node>)>() + 2 * size_of::<(u64, Id)>() + 3 * 16;

impl Kept {
    /// The whole seconds that are left of its time, if any.
    pub(super) fn left(&self, now: Duration) -> Option<u32> {
        let age = u32::try_from(now.saturating_sub(self.since).as_secs()).unwrap_or(u32::MAX);
        self.seconds.checked_sub(age).filter(|left| *left > 0)
    }

    /// The bytes that it takes under that key.
    pub(super) fn cost(&self, key: &[u8]) -> usize {
        OVERHEAD + key.len() + self.message.len() + size_of_val(&*self.ttls)
    }
}

/// The answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    nodes: Slab<Node>,
    by_hash: Map<u64, Id>,
    newest: Option<Id>,
    oldest: Option<Id>,
    bytes: usize,
}

impl Answers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The answer under that key, which becomes the newest. One past its time is removed.
    pub(super) fn get(&mut self, hash: u64, key: &[u8], now: Duration) -> Option<&Kept> {
        let id = *self.by_hash.get(&hash)?;
        let node = self.nodes.get(id).filter(|node| *node.key == *key)?;
        if node.kept.left(now).is_none() {
            self.remove(hash);
            return None;
        }
        if self.newest != Some(id) {
            self.unlink(id);
            self.link(id);
        }
        self.nodes.get(id).map(|node| &node.kept)
    }

    /// Adds an answer as the newest, in place of one with that hash.
    pub(super) fn insert(&mut self, hash: u64, key: Box<[u8]>, kept: Kept) {
        self.remove(hash);
        self.bytes += kept.cost(&key);
        let id = self.nodes.insert(Node { hash, key, kept, newer: None, older: None });
        self.by_hash.insert(hash, id);
        self.link(id);
    }

    /// Removes the answer with that hash.
    pub(super) fn remove(&mut self, hash: u64) {
        let Some(id) = self.by_hash.remove(&hash) else { return };
        self.unlink(id);
        if let Some(node) = self.nodes.remove(id) {
            self.bytes -= node.kept.cost(&node.key);
        }
    }

    /// Removes the answers that were not used for longest, until there are no more than that many
    /// and no more bytes.
    pub(super) fn shrink(&mut self, most: usize, bytes: usize) {
        while (self.len() > most || self.bytes > bytes)
            && let Some(hash) = self.oldest.and_then(|id| self.nodes.get(id)).map(|node| node.hash)
        {
            self.remove(hash);
        }
    }

    /// Makes a node without neighbours the newest.
    fn link(&mut self, id: Id) {
        let former = self.newest.replace(id);
        if let Some(node) = self.nodes.get_mut(id) {
            (node.newer, node.older) = (None, former);
        }
        match former.and_then(|former| self.nodes.get_mut(former)) {
            Some(former) => former.newer = Some(id),
            None => self.oldest = Some(id),
        }
    }

    /// Joins the neighbours of a node.
    fn unlink(&mut self, id: Id) {
        let Some(node) = self.nodes.get(id) else { return };
        let (newer, older) = (node.newer, node.older);
        match newer.and_then(|newer| self.nodes.get_mut(newer)) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match older.and_then(|older| self.nodes.get_mut(older)) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }
}
