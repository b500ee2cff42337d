//! What is sent: bodies in JSON, keys and values in base64, 64-bit numbers as strings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::error::Error;

/// What must hold for a transaction to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The revision at which the key was created; 0: nothing has this key.
    CreateRevision(Vec<u8>, i64),
    /// The revision at which the key was changed last.
    ModRevision(Vec<u8>, i64),
    /// The key's value.
    Value(Vec<u8>, Vec<u8>),
    /// The key's lease; 0: none.
    Lease(Vec<u8>, i64),
}

/// An operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Writes a value, under a lease unless that is 0.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// The lease.
        lease: i64,
    },
    /// Deletes a key.
    Delete(Vec<u8>),
    /// Deletes all keys with this prefix.
    DeletePrefix(Vec<u8>),
    /// Reads a key.
    Get(Vec<u8>),
    /// Reads all keys with this prefix, at most this many.
    List(Vec<u8>, usize),
}

/// A transaction: if all comparisons hold the first operations are done, else the second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// The comparisons.
    pub compare: Vec<Comparison>,
    /// What is done if all hold.
    pub then: Vec<Operation>,
    /// What is done if not.
    pub otherwise: Vec<Operation>,
}

impl Txn {
    /// Its body.
    pub(super) fn body(&self) -> Result<Value, Error> {
        let longest = self.compare.len().max(self.then.len()).max(self.otherwise.len());
        if longest > super::OPERATIONS_MAX {
            return Err(Error::TooManyOperations(longest));
        }
        Ok(json!({
            "compare": self.compare.iter().map(Comparison::body).collect::<Vec<_>>(),
            "success": self.then.iter().map(Operation::body).collect::<Vec<_>>(),
            "failure": self.otherwise.iter().map(Operation::body).collect::<Vec<_>>(),
        }))
    }
}

impl Comparison {
    fn body(&self) -> Value {
        let (target, key, member, value) = match self {
            Self::CreateRevision(key, number) => ("CREATE", key, "create_revision", number.to_string()),
            Self::ModRevision(key, number) => ("MOD", key, "mod_revision", number.to_string()),
            Self::Value(key, value) => ("VALUE", key, "value", encode(value)),
            Self::Lease(key, number) => ("LEASE", key, "lease", number.to_string()),
        };
        json!({"target": target, "result": "EQUAL", "key": encode(key), member: value})
    }
}

impl Operation {
    fn body(&self) -> Value {
        match self {
            Self::Put { key, value, lease } => json!({"request_put": put(key, value, *lease)}),
            Self::Delete(key) => json!({"request_delete_range": {"key": encode(key)}}),
            Self::DeletePrefix(prefix) => json!({"request_delete_range": under(prefix)}),
            Self::Get(key) => json!({"request_range": {"key": encode(key)}}),
            Self::List(prefix, most) => {
                let mut range = under(prefix);
                range.insert("limit".into(), most.to_string().into());
                json!({"request_range": range})
            }
        }
    }
}

/// Base64, as the gateway wants it.
pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A put.
pub(super) fn put(key: &[u8], value: &[u8], lease: i64) -> Value {
    json!({"key": encode(key), "value": encode(value), "lease": lease.to_string()})
}

/// The keys with this prefix.
fn under(prefix: &[u8]) -> Map<String, Value> {
    from(prefix, prefix)
}

/// The keys with this prefix, from `first` on.
fn from(first: &[u8], prefix: &[u8]) -> Map<String, Value> {
    // A range without a first key begins at the zero byte.
    let first = if first.is_empty() { &[0] } else { first };
    Map::from_iter([
        ("key".to_owned(), encode(first).into()),
        ("range_end".to_owned(), encode(&end_of(prefix)).into()),
    ])
}

/// The first key behind all keys with this prefix; a zero byte is the end of everything.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0]
}

/// A page of the keys with this prefix, from `first` on, at this revision (0: the newest).
pub(super) fn page(first: &[u8], prefix: &[u8], most: usize, revision: i64) -> Value {
    let mut range = from(first, prefix);
    range.insert("limit".into(), most.to_string().into());
    range.insert("revision".into(), revision.to_string().into());
    range.into()
}

/// The key with this prefix that was changed last.
pub(super) fn newest(prefix: &[u8]) -> Value {
    let mut range = under(prefix);
    for (member, value) in [("limit", "1"), ("sort_order", "DESCEND"), ("sort_target", "MOD")] {
        range.insert(member.into(), value.into());
    }
    range.insert("keys_only".into(), true.into());
    range.into()
}

/// A watch of the keys with this prefix, of the changes from this revision on.
pub(super) fn watch(prefix: &[u8], revision: i64) -> Value {
    let mut create = under(prefix);
    create.insert("start_revision".into(), revision.to_string().into());
    create.insert("progress_notify".into(), true.into());
    create.insert("fragment".into(), true.into());
    json!({"create_request": create})
}
