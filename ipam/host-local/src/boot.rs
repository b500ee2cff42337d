//! Leases of an earlier boot.
//!
//! Leases outlive a reboot, containers do not. Beside the network directory (never inside: the reference reads all of
//! it) stands a record, `<dataDir>/.moor/<network>.boot`, with this machine's id and the boot id of our last operation;
//! its modification time is the time of that operation, and the very time which the operation gave to the network
//! directory. The first locked operation under another boot id drops the leases of the earlier boot:
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
//! will drop them. The same goes for a record without a machine's id, as older versions wrote it. A `dataDir` on a tmpfs
//! loses record and leases together, and the record goes with the network's last lease.
//!
//! **Machines that share a `dataDir`** each have a line in the record. A lease does not name its machine, so where there
//! is another's line, or this machine has no id, no lease is taken for one of an earlier boot; nor does GC, which hears
//! of one machine's attachments, collect any.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sys::file::{self, Sync};

/// How many directories of [`Roots::run`] are private.
pub const RUN_DEPTH: usize = 2;

/// The kernel's own files, and where state of this boot goes. Tests put others in their place.
#[derive(Clone, Debug)]
pub struct Roots {
    /// State that dies with this boot.
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
    /// The id of this boot; `None` when it cannot be read, which means: reclaim nothing.
    pub fn boot_id(&self) -> Option<String> {
        line_of(&self.boot_id).filter(|id| !id.is_empty())
    }

    /// The id of this machine; [`NO_MACHINE`] where it has none, or none yet (`uninitialized`).
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

/// The record's place.
pub fn record_path(data_dir: &Path, network: &str) -> PathBuf {
    data_dir.join(".moor").join(format!("{network}.boot"))
}

/// Which leases the record condemns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The record is of this boot.
    Current,
    /// There is no record of this machine alone: adopt what is there.
    FirstContact,
    /// All leases are of an earlier boot.
    All,
    /// Leases with a modification time in this window are of an earlier boot.
    Between(SystemTime, SystemTime),
}

/// The machines that have used a network's directory, each with its last boot: a line for each, `<machine> <boot>`.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    /// Whether nobody else can have written it.
    private: bool,
    /// This machine's line.
    own: (String, String),
    text: String,
}

/// Stands for the machine where there is no id.
const NO_MACHINE: &str = "-";
/// Far above the machines that share a directory, in bytes.
const RECORD_MAX: usize = 64 << 10;

impl Record {
    /// Reads the record of a network, if there is one that can be believed; its directory is made.
    pub fn read(path: PathBuf, roots: &Roots, boot_id: &str) -> Self {
        let made = path.parent().map(|dir| file::make_private_dir(dir, 1)).transpose();
        let private = made
            .inspect_err(|error| eprintln!("host-local: leases of an earlier boot stay: {error:#}"))
            .is_ok();
        let bytes = if private { file::read(&path, RECORD_MAX).ok().flatten() } else { None };
        let text = String::from_utf8(bytes.unwrap_or_default()).unwrap_or_default();
        Self { path, private, own: (roots.machine_id(), boot_id.to_owned()), text }
    }

    /// Machines and boots. A line of an older version is a boot alone: in this boot, this machine wrote it; else it may be
    /// anybody's, and is left out.
    fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        let (machine, boot) = &self.own;
        self.text.lines().filter_map(move |line| {
            line.split_once(' ').or_else(|| (line == boot).then_some((machine.as_str(), line)))
        })
    }

    /// The other machines that use the directory, for a person to read; `None` when there are none.
    pub fn others(&self) -> Option<String> {
        let (own, _) = &self.own;
        let others: Vec<&str> = self.lines().map(|(machine, _)| machine).filter(|of| of != own).collect();
        let first = others.first()?;
        Some(format!("{} has leases of {} other machines ({first})", self.path.display(), others.len()))
    }

    /// Reads it against this boot and the network directory's modification time.
    pub fn verdict(&self, dir: &fs::Metadata, lock: &Path) -> Verdict {
        let (machine, boot_id) = &self.own;
        match self.lines().find(|(of, _)| of == machine) {
            None => return Verdict::FirstContact,
            Some((_, boot)) if boot == boot_id => return Verdict::Current,
            Some(_) if machine == NO_MACHINE => {
                eprintln!("host-local: leases of an earlier boot stay: this machine has no /etc/machine-id");
                return Verdict::FirstContact;
            }
            Some(_) => {}
        }
        if let Some(others) = self.others() {
            eprintln!("host-local: leases of an earlier boot stay: {others}");
            return Verdict::FirstContact;
        }
        let Ok(recorded) = fs::metadata(&self.path) else { return Verdict::FirstContact };
        if mtime_nanos(&recorded) == mtime_nanos(dir) {
            return Verdict::All;
        }
        let now = SystemTime::now();
        let last = recorded.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let born = fs::metadata(lock).and_then(|lock| lock.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let booted = uptime().and_then(|up| now.checked_sub(up)).unwrap_or(SystemTime::UNIX_EPOCH);
        if now < last {
            Verdict::Between(now, SystemTime::UNIX_EPOCH)
        } else {
            Verdict::Between(born, last.max(booted))
        }
    }

    /// Writes this boot for this machine, unless that is what it holds; the others' lines stay. Whether it is there:
    /// without it nothing is reclaimed at the next boot.
    pub fn write(&self) -> bool {
        if self.is_written() {
            return true;
        }
        let (machine, boot) = &self.own;
        let others = self.lines().filter(|(of, _)| of != machine);
        let others: String = others.map(|(machine, boot)| format!("{machine} {boot}\n")).collect();
        let text = format!("{machine} {boot}\n{others}");
        self.private && file::replace_whole(&self.path, text.as_bytes(), 0o600, Sync::Now).is_ok()
    }

    /// Whether it holds this boot for this machine.
    pub fn is_written(&self) -> bool {
        let (machine, boot) = &self.own;
        self.text.lines().any(|line| line.split_once(' ') == Some((machine, boot)))
    }
}

impl Verdict {
    /// Whether a lease of this modification time is to be dropped.
    pub fn condemns(self, lease: impl FnOnce() -> Option<SystemTime>) -> bool {
        match self {
            Self::Current | Self::FirstContact => false,
            Self::All => true,
            Self::Between(from, to) => lease().is_some_and(|time| from <= time && time <= to),
        }
    }
}

/// The modification time in nanoseconds since the epoch.
pub fn mtime_nanos(meta: &fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}
