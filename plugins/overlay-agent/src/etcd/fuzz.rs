//! What is held of any bytes from etcd.

use super::response::{self, Line, MemberStatus, Range, Txn};
use super::watch::{Events, collect};
use super::{KEY_MAX, VALUE_MAX, failure};

/// Any answer is read without a panic, and no record of it is larger than a record may be.
///
/// # Panics
/// One is.
pub fn answer(bytes: &[u8]) {
    if let Ok(range) = response::parse::<Range<'_>>(bytes) {
        for record in range.kvs.iter().filter_map(|pair| pair.record().ok()) {
            assert!(record.key.len() <= KEY_MAX && record.value.len() <= VALUE_MAX);
        }
    }
    if let Ok(txn) = response::parse::<Txn<'_>>(bytes) {
        let records = txn.answer().read.into_iter().flatten();
        assert!(records.into_iter().all(|record| record.value.len() <= VALUE_MAX));
    }
    let _ = response::parse::<Line<response::Lease>>(bytes);
    if let Ok(status) = response::parse::<MemberStatus>(bytes) {
        assert!(status.status().alarms.len() <= 16);
    }
    let mut events = Events::default();
    let _ = collect("member", bytes, &mut events);
    for status in [400, 401, 403, 429, 500, 503] {
        if let Some(error) = failure::of_answer("member", status, bytes) {
            assert!(error.to_string().len() < 4096);
        }
    }
}
