//! For the fuzzer: any bytes from the bus.

use crate::message;

/// Any bytes are a message or a fault.
///
/// # Panics
/// A message is longer than it may be.
pub fn message(bytes: &[u8]) {
    if let Some(head) = bytes.first_chunk()
        && let Ok(length) = message::length(head)
    {
        assert!((message::HEAD..=message::LONGEST).contains(&length), "{length}");
        // What is longer than its header says is a fault, so the fuzzer reads what the bus would.
        let _ = message::read(bytes.get(..length).unwrap_or(bytes));
    }
}
