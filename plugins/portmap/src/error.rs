//! Errors as the runtime sees them.

use cni::Error;
use host::rules::published::Refusal;

/// The error for the runtime, with advice after a refusal.
pub fn refusal(error: sys::Error) -> Error {
    match error.reason() {
        None => error.into(),
        Some(Refusal::TooMany(_) | Refusal::TooManyMoved(_)) => Error::invalid_config(error.to_string()),
        Some(Refusal::NoneFree(_) | Refusal::AddressInUse { .. }) => Error::internal(error.to_string()),
        Some(Refusal::Taken { .. }) => Error::internal(error.to_string())
            .details("choose another host port, or delete that container; if it is gone, its DEL or a GC frees the port"),
    }
}
