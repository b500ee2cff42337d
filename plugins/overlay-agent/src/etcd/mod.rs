//! The client of etcd, by its JSON gateway (`POST /v3/...`): reads, transactions, leases, watches.
//!
//! Every call is bounded in time, and so is what a response may make this process hold. Members are
//! tried in a random order that is kept; the one that answered last is asked first. Certificates and
//! the password are read again when their files changed.
//!
//! A request that may have been done although no answer came (a transaction, sent to a member that
//! then fell silent) is not sent to another member: the caller reads what is there now.

mod backoff;
mod client;
mod error;
mod failure;
pub mod fuzz;
mod identity;
mod login;
mod members;
mod request;
mod resolve;
mod response;
mod tls;
mod watch;

pub use backoff::Backoff;
pub use client::{Answer, Client, Whole};
pub use error::{Attempt, Error, Refusal};
pub use request::{Comparison, Operation, Txn};
pub use response::{Header, LeftOut, Record, Status, TxnAnswer};
pub use watch::{Event, Events, Stopper, Watch, WatchEnd};

/// The longest key that is taken from etcd, in bytes.
pub const KEY_MAX: usize = 1 << 10;
/// The longest value that is taken from etcd, in bytes.
pub const VALUE_MAX: usize = 64 << 10;
/// The most records of a read.
pub const RECORDS_MAX: usize = 20_000;
/// The most operations of a transaction, in each of its three lists: etcd's own default.
pub const OPERATIONS_MAX: usize = 128;
/// The most bytes of keys and values of a read, together.
const WHOLE_MAX: usize = 64 << 20;
/// The longest response, and the longest line of a watch, in bytes. etcd cuts a watch's responses
/// at 2 MiB, before base64.
const RESPONSE_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests;
