//! Leases of an earlier boot.
//!
//! Leases outlive a reboot, containers do not. Beside the network directory (never inside: the reference reads all of
//! it) stands a record, `<dataDir>/.moor/<network>.boot`, with the boot id of our last operation; its modification
//! time is the time of that operation, and the very time which the operation gave to the network directory. The first
//! locked operation under another boot id drops the leases of the earlier boot:
//!
//! - The directory still has the record's time: nobody touched it since, so every lease is of the earlier boot. No
//!   clock is asked. This is every node on which we are alone.
//! - Else the reference was there too, perhaps after the reboot, and its leases may be live. Those that are no younger
//!   than the record existed at our last operation; those older than this boot existed before it: both are dropped.
//!   Both questions are needed: the first alone would keep what the reference leased between our last operation and
//!   the reboot, the second alone depends on how exactly the clock tells when the boot was. Where the clock is
//!   evidently wrong (before the record, or a lease older than the store itself), leases stay; DEL and GC remain.
//!
//! No record: a store that the reference kept until now. Its leases may be live, so they are adopted; the next boot
//! will drop them. A `dataDir` on a tmpfs loses record and leases together.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use host::file::{self, Sync};

/// How many directories of [`Roots::run`] are private.
pub const RUN_DEPTH: usize = 2;

/// The kernel's own files, and where state of this boot goes. Tests put others in their place.
#[derive(Clone, Debug)]
pub struct Roots {
    /// State that dies with this boot.
    pub run: PathBuf,
    /// The boot id (Documentation/admin-guide/sysctl/kernel.rst, random).
    pub boot_id: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self { run: "/run/moor/host-local".into(), boot_id: "/proc/sys/kernel/random/boot_id".into() }
    }
}

impl Roots {
    /// The id of this boot; `None` when it cannot be read, which means: reclaim nothing.
    pub fn boot_id(&self) -> Option<String> {
        let bytes = file::read(&self.boot_id, 128).ok()??;
        let id = String::from_utf8(bytes).ok()?.trim().to_owned();
        (!id.is_empty()).then_some(id)
    }
}

/// Time since the boot, suspended time included (proc(5), uptime).
pub fn uptime() -> Option<Duration> {
    let bytes = file::read(Path::new("/proc/uptime"), 128).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

/// The record's place.
pub fn record_path(data_dir: &Path, network: &str) -> PathBuf {
    data_dir.join(".moor").join(format!("{network}.boot"))
}

/// Which leases the record condemns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The record is of this boot.
    Current,
    /// There is no record: adopt what is there.
    FirstContact,
    /// All leases are of an earlier boot.
    All,
    /// Leases with a modification time in this window are of an earlier boot.
    Between(SystemTime, SystemTime),
}

impl Verdict {
    /// Reads the record against this boot and the network directory's modification time.
    pub fn read(record: &Path, boot_id: &str, dir: &fs::Metadata, lock: &Path) -> Self {
        let Ok(Some(bytes)) = file::read(record, 128) else { return Self::FirstContact };
        if bytes.trim_ascii() == boot_id.as_bytes() {
            return Self::Current;
        }
        let Ok(recorded) = fs::metadata(record) else { return Self::FirstContact };
        if mtime_nanos(&recorded) == mtime_nanos(dir) {
            return Self::All;
        }
        let now = SystemTime::now();
        let last = recorded.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let born = fs::metadata(lock).and_then(|lock| lock.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let booted = uptime().and_then(|up| now.checked_sub(up)).unwrap_or(SystemTime::UNIX_EPOCH);
        if now < last {
            Self::Between(now, SystemTime::UNIX_EPOCH)
        } else {
            Self::Between(born, last.max(booted))
        }
    }

    /// Whether a lease of this modification time is to be dropped.
    pub fn condemns(self, lease: impl FnOnce() -> Option<SystemTime>) -> bool {
        match self {
            Self::Current | Self::FirstContact => false,
            Self::All => true,
            Self::Between(from, to) => lease().is_some_and(|time| from <= time && time <= to),
        }
    }
}

/// Writes the record: this boot, this time. Whether it is there; without it nothing is reclaimed at the next boot.
pub fn write_record(record: &Path, boot_id: &str) -> bool {
    let dir_made = record.parent().is_some_and(|dir| file::make_private_dir(dir, 1).is_ok());
    dir_made && file::replace_whole(record, boot_id.as_bytes(), 0o600, Sync::Now).is_ok()
}

/// The modification time in nanoseconds since the epoch.
pub fn mtime_nanos(meta: &fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}
