//! Addresses of containers as sources of a zone of firewalld, which accepts or refuses their
//! packets. They are of firewalld's runtime configuration, which a reload forgets: records
//! ([`crate::intent`]) restore them.
//!
//! firewalld has no owners, so a record also holds which sources this suite made. A source that was
//! there before is an administrator's, and stays.

mod client;
mod heal;
mod sources;

use std::fs::File;
use std::path::Path;

use sys::{Result, file};

pub use client::{is_running, require};
pub use heal::mend;
pub(crate) use heal::regain;
pub use sources::{Sources, withdraw, withdraw_all_but};

/// Held from reading a zone to changing it, so that the records and the zone agree; nothing is
/// written to it. Whoever holds it waits for firewalld, for a bounded time.
const LOCK: &str = "/run/moor/firewalld.lock";

fn lock() -> Result<File> {
    file::make_private_dir(Path::new(file::RUN_DIR), 1)?;
    file::lock(Path::new(LOCK), 0o600)
}
