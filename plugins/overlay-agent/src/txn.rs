//! Transactions on etcd, on keys of the cluster. The edge adds the prefix, and the lease.

use cluster::decode::encode;
use cluster::key::Key;
use serde::Serialize;

/// The most operations of a transaction. etcd takes 128, comparisons and reads of the failure
/// branch among them.
pub const OPERATIONS: usize = 100;

/// What must hold for a transaction to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Nothing has this key.
    Absent(Key),
    /// The key's newest revision is this.
    Unchanged(Key, i64),
    /// The key has this value.
    Value(Key, Vec<u8>),
}

/// What a record's life depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// Nothing.
    None,
    /// The host's lease.
    Host,
    /// A lease of its own, of this many seconds.
    New(u32),
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a record.
    Put(Key, Vec<u8>, Lease),
    /// Deletes a record.
    Delete(Key),
}

/// A transaction: if all comparisons hold, all operations are done. If not, the response has what
/// the compared keys have now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The comparisons.
    pub compares: Vec<Compare>,
    /// The operations.
    pub ops: Vec<Op>,
}

impl Compare {
    /// The key that is compared.
    pub fn key(&self) -> &Key {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) | Self::Value(key, _) => key,
        }
    }
}

impl Op {
    /// The key that is written or deleted.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, ..) | Self::Delete(key) => key,
        }
    }
}

impl Txn {
    /// Adds the condition that nothing has this key.
    pub fn absent(mut self, key: Key) -> Self {
        self.compares.push(Compare::Absent(key));
        self
    }

    /// Adds the condition that the key's newest revision is this.
    pub fn unchanged(mut self, key: Key, revision: i64) -> Self {
        self.compares.push(Compare::Unchanged(key, revision));
        self
    }

    /// Adds the condition that the key has this value.
    pub fn value(mut self, key: Key, record: &impl Serialize) -> Self {
        self.compares.push(Compare::Value(key, encode(record)));
        self
    }

    /// Adds the writing of a record.
    pub fn put(self, key: Key, record: &impl Serialize) -> Self {
        self.put_leased(key, record, Lease::None)
    }

    /// Adds the writing of a record under a lease.
    pub fn put_leased(mut self, key: Key, record: &impl Serialize, lease: Lease) -> Self {
        self.ops.push(Op::Put(key, encode(record), lease));
        self
    }

    /// Adds the deletion of a record.
    pub fn delete(mut self, key: Key) -> Self {
        self.ops.push(Op::Delete(key));
        self
    }

    /// Seconds of the lease that the transaction needs for itself.
    pub fn own_lease(&self) -> Option<u32> {
        self.ops.iter().find_map(|op| match op {
            Op::Put(_, _, Lease::New(seconds)) => Some(*seconds),
            _ => None,
        })
    }

    /// Whether there is room for this many more operations.
    pub fn has_room(&self, more: usize) -> bool {
        self.compares.len() + self.ops.len() + more <= OPERATIONS
    }
}
