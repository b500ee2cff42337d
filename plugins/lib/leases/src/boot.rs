//! Leases of an earlier boot.
//!
//! Leases survive a reboot, containers do not. The boot record `<dataDir>/.moor/<network>.boot` has
//! this machine's id and the boot id of our last operation. (It is outside of the network
//! directory, of which the reference reads every file.) Its modification time is the time of that
//! operation, and equal to the modification time that the operation gave to the network directory.
//! The first locked operation with another boot id drops the leases of the earlier boot:
//!
//! - The directory still has the record's time: it has not changed since, so all leases are of the
//!   earlier boot. This does not depend on the clock. It is the case on every node without the
//!   reference.
//! - Otherwise the reference was used too, perhaps after the reboot, and its leases may be live. A
//!   lease that is not younger than the record existed at our last operation; one that is older
//!   than this boot existed before it. Both are dropped. Both rules are needed: the first alone
//!   would keep leases of the reference from between our last operation and the reboot, the second
//!   alone depends on the precision of the boot time. If the clock is evidently wrong (before the
//!   record, or a lease older than the store itself), leases stay until DEL or GC.
//!
//! Without a record, the reference has used the store until now. Its leases may be live, so they
//! are adopted; the next boot drops them. The same holds for a record without a machine id, of an
//! older version. A `dataDir` on a tmpfs loses record and leases together. The record is deleted
//! with the network's last lease.
//!
//! **Machines that share a `dataDir`** each have a line in the record. A lease does not name its
//! machine, so if there is a line of another machine, or this machine has no id, no lease counts as
//! one of an earlier boot. GC collects nothing then: it only gets the attachments of one machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sys::file::{self, Newer, Sync};

/// How many trailing directories of [`Roots::run`] are private.
pub const RUN_DEPTH: usize = 2;

/// Paths of the kernel's files and of the state of this boot; tests use others.
#[derive(Clone, Debug)]
pub struct Roots {
    /// State that is lost at a reboot.
    pub run: PathBuf,
    /// The boot id (Documentation/admin-guide/sysctl/kernel.rst, random).
    pub boot_id: PathBuf,
    /// The machine's id (machine-id(5)).
    pub machine_id: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            run: "/run/moor/host-local".into(),
            boot_id: "/proc/sys/kernel/random/boot_id".into(),
            machine_id: "/etc/machine-id".into(),
        }
    }
}

impl Roots {
    /// The id of this boot; `None` when it cannot be read: then nothing is reclaimed.
    pub fn boot_id(&self) -> Option<String> {
        line_of(&self.boot_id).filter(|id| !id.is_empty())
    }

    /// The id of this machine; [`NO_MACHINE`] if it has none, or none yet (`uninitialized`).
    fn machine_id(&self) -> String {
        let is_id = |id: &String| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        line_of(&self.machine_id).filter(is_id).unwrap_or_else(|| NO_MACHINE.into())
    }
}

fn line_of(path: &Path) -> Option<String> {
    Some(String::from_utf8(file::read(path, 128).ok()??).ok()?.trim().to_owned())
}

/// Time since the boot, suspended time included (proc(5), uptime).
pub fn uptime() -> Option<Duration> {
    let bytes = file::read(Path::new("/proc/uptime"), 128).ok()??;
    let text = String::from_utf8(bytes).ok()?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

/// The path of the boot record.
pub fn record_path(data_dir: &Path, network: &str) -> PathBuf {
    data_dir.join(".moor").join(format!("{network}.boot"))
}

/// Which leases are of an earlier boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlierLeases {
    /// None: the record is of this boot.
    None,
    /// There is no record of this machine alone: all leases are adopted.
    FirstContact,
    /// All leases are of an earlier boot.
    All,
    /// Leases with a modification time in this window are of an earlier boot.
    Between(SystemTime, SystemTime),
}

/// The boot record: a line `<machine> <boot>` for each machine that has used the network's
/// directory, with its last boot. Further words of a line are a newer release's, as is all of a
/// record that begins with a version.
#[derive(Debug)]
pub struct Record {
    plugin: &'static str,
    path: PathBuf,
    /// Whether no other user can have written it.
    private: bool,
    /// This machine's line.
    own: (String, String),
    text: String,
    /// Why the text says nothing to this release.
    newer: Option<Newer>,
}

/// The newest version that is read, as what has no version counts.
const VERSION: u32 = 1;
/// The name of a machine without an id.
const NO_MACHINE: &str = "-";
/// In bytes; far more than the lines of the machines that share a directory.
const RECORD_MAX: usize = 64 << 10;

impl Record {
    /// Reads the record of a network if it can be trusted, and creates its directory.
    pub fn read(path: PathBuf, roots: &Roots, boot_id: &str, plugin: &'static str) -> Self {
        let made = path.parent().map(|dir| file::make_private_dir(dir, 1)).transpose();
        let private = made
            .inspect_err(|error| eprintln!("{plugin}: leases of an earlier boot stay: {error:#}"))
            .is_ok();
        let bytes = if private { file::read(&path, RECORD_MAX).ok().flatten() } else { None };
        let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
        let newer = file::ensure_known(text.as_bytes(), VERSION).err();
        Self { plugin, path, private, own: (roots.machine_id(), boot_id.to_owned()), text, newer }
    }

    /// Machines and boots. A line of an older version has only a boot: if it is this boot, the line
    /// is this machine's; otherwise it may be another machine's, and is skipped.
    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let (machine, boot) = &self.own;
        self.text.lines().filter_map(move |line| {
            words(line).or_else(|| (line == boot).then_some((machine.as_str(), line)))
        })
    }

    /// The other machines that use the directory, as text for a message; `None` without any.
    /// Those of a newer record may be any.
    pub fn others(&self) -> Option<String> {
        if let Some(newer) = self.newer {
            return Some(format!("{} is not understood: {newer}", self.path.display()));
        }
        let (own, _) = &self.own;
        let others: Vec<&str> = self.lines().map(|(machine, _)| machine).filter(|of| of != own).collect();
        let first = others.first()?;
        Some(format!("{} has leases of {} other machines ({first})", self.path.display(), others.len()))
    }

    /// Compares the record with this boot and the network directory's modification time.
    pub fn earlier_leases(&self, dir: &fs::Metadata, lock: &Path) -> EarlierLeases {
        let (machine, boot_id) = &self.own;
        let plugin = self.plugin;
        if let Some(newer) = self.newer {
            eprintln!("{plugin}: leases of an earlier boot stay: record {}: {newer}", self.path.display());
            return EarlierLeases::FirstContact;
        }
        match self.lines().find(|(of, _)| of == machine) {
            None => return EarlierLeases::FirstContact,
            Some((_, boot)) if boot == boot_id => return EarlierLeases::None,
            Some(_) if machine == NO_MACHINE => {
                eprintln!("{plugin}: leases of an earlier boot stay: this machine has no /etc/machine-id");
                return EarlierLeases::FirstContact;
            }
            Some(_) => {}
        }
        if let Some(others) = self.others() {
            eprintln!("{plugin}: leases of an earlier boot stay: {others}");
            return EarlierLeases::FirstContact;
        }
        let Ok(recorded) = fs::metadata(&self.path) else { return EarlierLeases::FirstContact };
        if mtime_nanos(&recorded) == mtime_nanos(dir) {
            return EarlierLeases::All;
        }
        let now = SystemTime::now();
        let last = recorded.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let born = fs::metadata(lock).and_then(|lock| lock.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let booted = uptime().and_then(|up| now.checked_sub(up)).unwrap_or(SystemTime::UNIX_EPOCH);
        if now < last {
            EarlierLeases::Between(now, SystemTime::UNIX_EPOCH)
        } else {
            EarlierLeases::Between(born, last.max(booted))
        }
    }

    /// Writes this machine's line with this boot, unless the record has it; the other lines stay.
    /// Returns whether the line is there: without it the next boot reclaims nothing.
    pub fn write(&self) -> bool {
        if self.is_written() {
            return true;
        }
        if self.newer.is_some() {
            return false;
        }
        let (machine, boot) = &self.own;
        let others = self.lines().filter(|(of, _)| of != machine);
        let others: String = others.map(|(machine, boot)| format!("{machine} {boot}\n")).collect();
        let text = format!("{machine} {boot}\n{others}");
        self.private && file::replace_whole(&self.path, text.as_bytes(), 0o600, Sync::Now).is_ok()
    }

    /// Whether the record has this machine's line with this boot.
    pub fn is_written(&self) -> bool {
        let (machine, boot) = &self.own;
        self.text.lines().any(|line| words(line) == Some((machine, boot)))
    }
}

/// The machine and the boot of a line.
fn words(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split(' ');
    Some((words.next()?, words.next()?))
}

impl EarlierLeases {
    /// Whether a lease with this modification time is of an earlier boot.
    pub fn contains(self, lease: impl FnOnce() -> Option<SystemTime>) -> bool {
        match self {
            Self::None | Self::FirstContact => false,
            Self::All => true,
            Self::Between(from, to) => lease().is_some_and(|time| from <= time && time <= to),
        }
    }
}

/// The modification time in nanoseconds since the epoch.
pub fn mtime_nanos(meta: &fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}
