//! What is received. Absent members are zero; 64-bit numbers are strings; unknown members are
//! ignored. Nothing here trusts a number for the size of anything.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize as Derive;
use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::{KEY_MAX, VALUE_MAX};

/// The default of etcd's quota, in bytes.
const QUOTA: u64 = 2 << 30;
/// The most of a text of others that is shown, in characters.
const SHOWN_MAX: usize = 200;

/// Who answered, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Derive)]
#[serde(default)]
pub struct Header {
    /// The id of the cluster.
    #[serde(rename = "cluster_id", deserialize_with = "unsigned")]
    pub cluster: u64,
    /// The id of the member.
    #[serde(rename = "member_id", deserialize_with = "unsigned")]
    pub member: u64,
    /// The newest revision of everything.
    #[serde(deserialize_with = "signed")]
    pub revision: i64,
}

/// A key and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// The revision at which the key was created.
    pub create_revision: i64,
    /// The revision at which the key was changed last.
    pub mod_revision: i64,
    /// The lease, or 0.
    pub lease: i64,
}

/// A record that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its key, as far as it can be shown.
    pub key: String,
    /// Why.
    pub why: String,
}

/// What a transaction found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnAnswer {
    /// Whether all comparisons held.
    pub succeeded: bool,
    /// What each operation read, in order; nothing for a put or a deletion.
    pub read: Vec<Vec<Record>>,
}

/// A member's own state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// etcd's version.
    pub version: String,
    /// The size of the database, in bytes.
    pub db_size: u64,
    /// The leader's id; 0: there is none.
    pub leader: u64,
    /// Alarms, in etcd's words.
    pub alarms: Vec<String>,
    /// Whether an alarm says that there is no space.
    pub is_full: bool,
    /// The largest size of the database, in bytes, of members that report it.
    pub quota: Option<u64>,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct Pair<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(deserialize_with = "signed")]
    create_revision: i64,
    #[serde(deserialize_with = "signed")]
    mod_revision: i64,
    #[serde(deserialize_with = "signed")]
    lease: i64,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct Range<'a> {
    pub(super) header: Header,
    #[serde(borrow)]
    pub(super) kvs: Vec<Pair<'a>>,
    pub(super) more: bool,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct Txn<'a> {
    pub(super) header: Header,
    pub(super) succeeded: bool,
    #[serde(borrow)]
    pub(super) responses: Vec<TxnPart<'a>>,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct TxnPart<'a> {
    #[serde(borrow)]
    response_range: Option<Range<'a>>,
}

/// An answer of which only the header matters.
#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct Plain {
    pub(super) header: Header,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct Lease {
    pub(super) header: Header,
    #[serde(rename = "ID", deserialize_with = "signed")]
    pub(super) id: i64,
    #[serde(rename = "TTL", deserialize_with = "signed")]
    pub(super) ttl: i64,
}

/// A line of a stream.
#[derive(Derive)]
pub(super) struct Line<T> {
    pub(super) result: Option<T>,
    pub(super) error: Option<StreamError>,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct StreamError {
    #[serde(alias = "code")]
    pub(super) grpc_code: i64,
    #[serde(rename = "http_code")]
    pub(super) http_code: i64,
    pub(super) message: String,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct Token {
    pub(super) token: String,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct MemberStatus {
    pub(super) header: Header,
    version: String,
    #[serde(rename = "dbSize", deserialize_with = "unsigned")]
    db_size: u64,
    #[serde(rename = "dbSizeQuota", deserialize_with = "unsigned")]
    quota: u64,
    #[serde(deserialize_with = "unsigned")]
    leader: u64,
    errors: Vec<String>,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct WatchLine<'a> {
    pub(super) header: Header,
    pub(super) created: bool,
    pub(super) canceled: bool,
    #[serde(deserialize_with = "signed")]
    pub(super) compact_revision: i64,
    pub(super) cancel_reason: String,
    pub(super) fragment: bool,
    #[serde(borrow)]
    pub(super) events: Vec<RawEvent<'a>>,
}

#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct RawEvent<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) kv: Pair<'a>,
}

/// The body of an error.
#[derive(Default, Derive)]
#[serde(default)]
pub(super) struct Refused {
    pub(super) code: i64,
    pub(super) message: String,
    /// What older versions call the message.
    pub(super) error: String,
}

impl Pair<'_> {
    /// Its record, or why it is not taken.
    pub(super) fn record(&self) -> Result<Record, LeftOut> {
        let key = self.key().map_err(|why| LeftOut { key: shown(&self.key), why })?;
        let left_out = |why| LeftOut { key: shown(&String::from_utf8_lossy(&key)), why };
        let value = decode(&self.value, VALUE_MAX).map_err(|why| left_out(format!("value: {why}")))?;
        let (create_revision, mod_revision, lease) = (self.create_revision, self.mod_revision, self.lease);
        Ok(Record { key, value, create_revision, mod_revision, lease })
    }

    /// Its key.
    pub(super) fn key(&self) -> Result<Vec<u8>, String> {
        decode(&self.key, KEY_MAX).map_err(|why| format!("key: {why}"))
    }

    /// Its revision.
    pub(super) fn mod_revision(&self) -> i64 {
        self.mod_revision
    }
}

impl Txn<'_> {
    /// What was found. A record that cannot be taken is as if it were not there.
    pub(super) fn answer(&self) -> TxnAnswer {
        let records = |range: &Range<'_>| range.kvs.iter().filter_map(|pair| pair.record().ok()).collect();
        let read = |part: &TxnPart<'_>| part.response_range.as_ref().map(records).unwrap_or_default();
        TxnAnswer { succeeded: self.succeeded, read: self.responses.iter().map(read).collect() }
    }
}

impl MemberStatus {
    /// What of it is of use.
    pub(super) fn status(self) -> Status {
        let is_full = self.errors.iter().any(|error| error.contains("NOSPACE"));
        let alarms = self.errors.iter().take(16).map(|error| shown(error)).collect();
        let (db_size, leader) = (self.db_size, self.leader);
        let quota = Some(self.quota).filter(|quota| *quota > 0);
        Status { version: shown(&self.version), db_size, leader, alarms, is_full, quota }
    }
}

impl Status {
    /// What people should know of the space.
    pub fn warnings(&self) -> Vec<String> {
        let alarms = self.alarms.iter().map(|alarm| format!("etcd: {alarm}"));
        let mut lines: Vec<String> = alarms.take(2).collect();
        let quota = self.quota.unwrap_or(QUOTA);
        if self.db_size > quota / 2 && !self.is_full {
            let known = if self.quota.is_some() { "" } else { ", if it is etcd's default" };
            lines.push(format!(
                "etcd: the database has {} MiB, more than half of its quota of {} MiB{known}: compact by \
                 --auto-compaction-retention, and defragment",
                self.db_size >> 20,
                quota >> 20
            ));
        }
        lines
    }
}

/// Reads a body; texts stay where they are.
pub(super) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Text of others, for a message.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(SHOWN_MAX).collect();
    if text.chars().count() > SHOWN_MAX {
        shown.push_str("...");
    }
    shown
}

fn decode(text: &str, most: usize) -> Result<Vec<u8>, String> {
    if text.len() / 4 * 3 > most + 3 {
        return Err(format!("it is longer than {most} bytes"));
    }
    let bytes = STANDARD.decode(text).map_err(|error| format!("it is not in base64: {error}"))?;
    if bytes.len() > most { Err(format!("it is longer than {most} bytes")) } else { Ok(bytes) }
}

fn signed<'de, D: Deserializer<'de>>(from: D) -> Result<i64, D::Error> {
    from.deserialize_any(Number).and_then(|number| i64::try_from(number).map_err(de::Error::custom))
}

fn unsigned<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    from.deserialize_any(Number).and_then(|number| u64::try_from(number).map_err(de::Error::custom))
}

/// A number, or a string that is one.
struct Number;

impl Visitor<'_> for Number {
    type Value = i128;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a 64-bit number, or a string of one")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<i128, E> {
        text.parse().map_err(|_| E::invalid_value(de::Unexpected::Other("a text"), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<i128, E> {
        Ok(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<i128, E> {
        Ok(number.into())
    }
}
