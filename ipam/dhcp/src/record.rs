//! Records of leases: one file for each attachment, which appears whole. The plugin and the daemon
//! keep nothing else.
//!
//! ADD writes a record before it asks for the offered address, so that DEL finds what a killed ADD
//! got. DEL marks it before it releases the address, so that the daemon does not renew it any more.
//! The directory is in `/run`: it goes with the links.

#[cfg(test)]
pub mod tests;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};
use sys::NetNs;
use sys::file::{self, Hold, Sync};

use crate::terms::Terms;

/// The directory of records, below the root of the daemon's host.
const DIR: &str = "/run/moor/dhcp";
/// Private directories in this path.
const DEPTH: usize = 2;
/// How names of records end, by family.
const SUFFIX: &str = ".lease";
const SUFFIX6: &str = ".lease6";
const LOCK: &str = ".lock";
const MODE: u32 = 0o600;
/// The version that is written, and the newest that is read. Records of before it was written are
/// of the first.
pub const VERSION: u32 = 1;
/// The longest record, in bytes: one with all routes that a grant may have.
const LONGEST: usize = 64 << 10;
/// The shortest time between two renewals.
const RENEWAL_MIN: Duration = Duration::from_millis(500);
/// How long the daemon waits for a plugin that writes.
const PATIENCE: Duration = Duration::from_millis(200);

/// The state of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// ADD is asking for the offered address.
    Offered,
    /// The address is leased.
    Bound,
    /// The time is over, or the server refused to extend it: the address is not used.
    Lost,
    /// DEL is giving it back.
    Releasing,
}

/// A network namespace, as it is recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode, which is reused when it is gone.
    pub inode: u64,
    /// Its cookie, which is not reused before the next boot (Linux 5.14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

impl Namespace {
    /// The namespace with a netlink socket in it.
    ///
    /// # Errors
    /// It cannot be examined.
    pub fn of(netns: &NetNs, socket: &impl AsFd) -> sys::Result<Self> {
        Ok(Self { inode: netns.inode()?, cookie: NetNs::cookie_of_socket(socket.as_fd()) })
    }

    /// Whether it is this one.
    pub fn is(self, netns: &NetNs) -> bool {
        netns.inode().is_ok_and(|inode| inode == self.inode)
    }
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`]
    #[serde(default = "first_version")]
    pub v: u32,
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container: String,
    /// The link's name at the time of ADD.
    pub ifname: String,
    /// The path of the namespace.
    pub netns: PathBuf,
    /// The namespace.
    pub namespace: Namespace,
    /// The index of the link in it.
    pub index: u32,
    /// The daemon's socket.
    pub socket: PathBuf,
    /// The state.
    pub state: State,
    /// The client, and the address with its parameters.
    #[serde(flatten)]
    pub terms: Terms,
    /// When it was granted or offered, in nanoseconds since boot.
    pub since: u64,
    /// The metric of its routes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
}

impl Record {
    /// A time after the grant, since boot; `None` is never.
    fn after(&self, seconds: u32) -> Option<Duration> {
        let ends = self.terms.times().end.is_some();
        ends.then(|| Duration::from_nanos(self.since) + Duration::from_secs(seconds.into()))
    }

    /// When the server is asked for more time: not at once, whatever it grants.
    pub fn t1(&self) -> Option<Duration> {
        let earliest = Duration::from_nanos(self.since) + RENEWAL_MIN;
        self.after(self.terms.times().t1).map(|t1| t1.max(earliest))
    }

    /// When every server is asked.
    pub fn t2(&self) -> Option<Duration> {
        self.after(self.terms.times().t2)
    }

    /// When the address may not be used any more.
    pub fn end(&self) -> Option<Duration> {
        self.after(self.terms.times().end?)
    }

    /// How long new connections use the address from now on.
    pub fn preferred_left(&self, now: Duration) -> Option<Duration> {
        Some(self.after(self.terms.times().preferred?)?.saturating_sub(now))
    }

    /// For messages: the attachment.
    pub fn owner(&self) -> String {
        format!("{}/{} of {}", self.network, self.ifname, self.container)
    }

    /// The name of its file.
    pub fn name(&self) -> String {
        let [v4, v6] = names(&self.network, &self.container, &self.ifname);
        if self.terms.is_v6() { v6 } else { v4 }
    }

    /// For messages: the address.
    pub fn address(&self) -> String {
        self.terms.net().map(|net| net.ip().to_string()).unwrap_or_default()
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        file::ensure_known(bytes, VERSION).ok()?;
        let record: Self = serde_json::from_slice(bytes).ok()?;
        let short = |text: &str, longest: usize| !text.is_empty() && text.len() <= longest;
        let sound = record.terms.is_sound()
            && short(&record.network, 4096)
            && short(&record.container, 4096)
            && short(&record.ifname, 15)
            && record.netns.is_absolute();
        sound.then_some(record)
    }
}

fn first_version() -> u32 {
    1
}

/// The names of an attachment's records, of IPv4 and of IPv6: container ids may be longer than names
/// of files.
pub fn names(network: &str, container: &str, ifname: &str) -> [String; 2] {
    let digest = Sha512::digest(format!("{network}/{ifname}/{container}"));
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    [SUFFIX, SUFFIX6].map(|suffix| format!("{hex}{suffix}"))
}

/// The directory of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The directory below a root, which is put before its path as text.
    pub fn below(root: &str) -> Self {
        Self { dir: PathBuf::from(format!("{root}{DIR}")) }
    }

    /// The directory at this path.
    #[cfg(test)]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Its path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Creates it if it is missing.
    ///
    /// # Errors
    /// It belongs to another user, or the kernel refused.
    pub fn make(&self) -> sys::Result<()> {
        file::make_private_dir(&self.dir, DEPTH)
    }

    /// Whether it is there, and private.
    ///
    /// # Errors
    /// It belongs to another user, or the kernel refused.
    pub fn exists(&self) -> sys::Result<bool> {
        file::has_private_dir(&self.dir, DEPTH)
    }

    /// Waits until no other process changes records.
    ///
    /// # Errors
    /// Another process holds the lock for long.
    pub fn lock(&self) -> sys::Result<File> {
        file::lock(&self.dir.join(LOCK), MODE)
    }

    /// As [`Store::lock`], for a process that must not wait for long.
    fn lock_soon(&self) -> sys::Result<File> {
        let path = self.dir.join(LOCK);
        let lock = file::open_lock(&path)?;
        file::lock_bounded(&lock, &path, Hold::Alone, PATIENCE)?;
        Ok(lock)
    }

    /// A record; `None` if there is none, or if it is malformed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn read(&self, name: &str) -> sys::Result<Option<Record>> {
        Ok(file::read(&self.dir.join(name), LONGEST)?.and_then(|bytes| Record::of_bytes(&bytes)))
    }

    /// Why a file that is there is no record; `None` if it is one, or there is none.
    pub fn fault(&self, name: &str) -> Option<String> {
        let bytes = file::read(&self.dir.join(name), LONGEST).ok()??;
        let why = match file::ensure_known(&bytes, VERSION) {
            Err(newer) => newer.to_string(),
            Ok(()) if Record::of_bytes(&bytes).is_none() => "it is malformed".to_owned(),
            Ok(()) => return None,
        };
        Some(format!("the record {} is not understood: {why}", self.dir.join(name).display()))
    }

    /// The names of all records.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn names(&self) -> sys::Result<Vec<String>> {
        let fail = |cause| sys::Error::new("list", self.dir.display().to_string(), cause);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(fail)? {
            let name = entry.map_err(fail)?.file_name().into_string().unwrap_or_default();
            if (name.ends_with(SUFFIX) || name.ends_with(SUFFIX6)) && !name.starts_with('.') {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Writes a record. Callers hold the lock.
    ///
    /// # Errors
    /// The kernel refused; the old record is unchanged.
    pub fn write(&self, record: &Record) -> sys::Result<()> {
        // Strings and numbers always serialize.
        let bytes = serde_json::to_vec(record).unwrap_or_default();
        file::replace_whole(&self.dir.join(record.name()), &bytes, MODE, Sync::Later)
    }

    /// Writes the record of a lease that goes on, if no plugin has marked or removed it. Returns
    /// whether it did.
    ///
    /// # Errors
    /// A plugin holds the lock for long, or the kernel refused.
    pub fn update(&self, record: &Record) -> sys::Result<bool> {
        let _lock = self.lock_soon()?;
        let goes_on = |held: Record| {
            held.namespace == record.namespace && matches!(held.state, State::Bound | State::Lost)
        };
        if !self.read(&record.name())?.is_some_and(goes_on) {
            return Ok(false);
        }
        self.write(record).map(|()| true)
    }

    /// Removes a record. Callers hold the lock.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove(&self, name: &str) -> sys::Result<bool> {
        file::remove(&self.dir.join(name))
    }
}
