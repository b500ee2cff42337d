//! The lease directory `<dataDir>/<network>/`, in the reference's format, which can be shared with
//! it.
//!
//! A lease is a file with the address as its name, and with container id, CR LF and interface name
//! as its content. `last_reserved_ip.<i>` has the last address allocated from range set `i`. Every
//! operation of the reference and of ours takes the `flock` of `lock`; we hold it for the whole
//! operation. Only files with the name of an address are leases, and only directly in the
//! directory.

mod holders;

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sys::file::{self, Draft, Made, Sync};

use crate::boot::{self, EarlierLeases, Record, Roots};
use crate::index::{self, Index, Stamp};
use crate::lease::{self, Holder};

const LEASE_MODE: u32 = 0o600;
const LOCK_MODE: u32 = 0o750;
const DIR_MODE: u32 = 0o755;

/// The place of a network's leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The plugin's name, for messages.
    pub plugin: &'static str,
    /// `dataDir`
    pub data_dir: PathBuf,
    /// The network's name, checked to be a single part of a path.
    pub network: String,
    /// Whether leases of an earlier boot are dropped.
    pub reclaim: bool,
    /// Whether times of release are logged.
    pub cooldown: bool,
}

impl Place {
    /// The network's directory.
    pub fn dir(&self) -> PathBuf {
        self.data_dir.join(&self.network)
    }
}

/// The directory, open and locked.
#[derive(Debug)]
pub struct Store {
    plugin: &'static str,
    dir: PathBuf,
    handle: File,
    _lock: File,
    boot_id: Option<String>,
    /// The path of the boot record, unless leases of an earlier boot are kept.
    record: Option<PathBuf>,
    /// Whether the record has this boot.
    recorded: bool,
    /// Whether a lease of an earlier boot could not be removed; then the record is not changed.
    kept_lease: bool,
    roots: Roots,
    /// The path of the index; `None` without a private directory.
    index_path: Option<PathBuf>,
    log: Option<PathBuf>,
    owners: Owners,
    /// Whether the directory or the index changed, which requires a new stamp.
    dirty: bool,
    /// The first lease file that could not be read.
    unreadable: Option<sys::Error>,
}

/// The source of holders and their addresses.
#[derive(Debug)]
enum Owners {
    /// The index, which is complete.
    Indexed(Index),
    /// A listing of the directory by this operation.
    Listed(Vec<(u64, IpAddr)>),
    /// Only the directory: the index failed.
    Unknown,
}

impl Owners {
    fn is_empty(&self) -> bool {
        match self {
            Self::Indexed(index) => index.is_empty(),
            Self::Listed(all) => all.is_empty(),
            Self::Unknown => false,
        }
    }

    fn count(&self) -> Option<u64> {
        match self {
            Self::Indexed(index) => Some(index.count()),
            Self::Listed(all) => u64::try_from(all.len()).ok(),
            Self::Unknown => None,
        }
    }
}

impl Store {
    /// Opens the network's directory, or creates it with its parents, waits for its lock, and drops
    /// the leases of an earlier boot.
    pub fn open(roots: &Roots, place: &Place) -> Result<Self, sys::Error> {
        let dir = place.dir();
        let handle = match file::open_dir(&dir) {
            Err(error) if error.errno() == Some(nix::libc::ENOENT) => {
                file::create_dir(&dir, DIR_MODE)?;
                file::open_dir(&dir)?
            }
            opened => opened?,
        };
        let lock_path = dir.join("lock");
        let lock = file::lock(&lock_path, LOCK_MODE)?;
        let meta = handle.metadata().map_err(|cause| sys::Error::new("read", show(&dir), cause))?;
        // Named by the directory's identity, not by its path: every path to the directory must lead
        // to the same index.
        let base =
            run_dir(roots, place.plugin).map(|run| run.join(format!("{:x}-{:x}", meta.dev(), meta.ino())));
        let boot_id = roots.boot_id();
        let boot = boot_id.as_deref().map_or(0, index::key);
        let mut store = Self {
            plugin: place.plugin,
            handle,
            _lock: lock,
            record: place.reclaim.then(|| boot::record_path(&place.data_dir, &place.network)),
            recorded: false,
            kept_lease: false,
            roots: roots.clone(),
            log: base.as_ref().filter(|_| place.cooldown).map(|base| base.with_extension("rested")),
            index_path: base,
            owners: Owners::Listed(Vec::new()),
            dirty: false,
            unreadable: None,
            boot_id,
            dir,
        };
        let index = store.index_path.as_ref();
        match index.and_then(|path| Index::open(path, boot, boot::mtime_nanos(&meta))) {
            // Without leases there is nothing to reclaim and no record.
            Some((index, recorded)) if recorded || store.record.is_none() || index.is_empty() => {
                store.owners = Owners::Indexed(index);
                store.recorded = recorded;
            }
            // There is no index, or this boot was not recorded when it was written (`reclaim` was
            // off, or the disk full).
            found => {
                match (store.reclaim(&meta, &lock_path)?, found) {
                    (false, Some((index, _))) => store.owners = Owners::Indexed(index),
                    _ => store.rebuild()?,
                }
                // The record comes last: if we are killed before, the next operation drops the
                // remaining old leases.
                if !store.owners.is_empty() {
                    store.record_boot();
                }
            }
        }
        Ok(store)
    }

    fn read_record(&self) -> Option<Record> {
        Some(Record::read(self.record.clone()?, &self.roots, self.boot_id.as_deref()?, self.plugin))
    }

    /// How many leases there are; `None` without an index.
    pub fn count(&self) -> Option<u64> {
        self.owners.count()
    }

    /// The other machines that lease addresses here, as text for a message; `None` without any
    /// known ones.
    pub fn shared_with(&self) -> Option<String> {
        self.read_record()?.others()
    }

    /// Records this boot, before there is a lease for the next boot to reclaim.
    pub fn record_boot(&mut self) {
        if !self.recorded
            && !self.kept_lease
            && let Some(record) = self.read_record()
        {
            self.recorded = record.write();
            self.dirty |= self.recorded;
        }
    }

    /// Drops the leases of an earlier boot. Returns whether there may have been any.
    fn reclaim(&mut self, meta: &fs::Metadata, lock: &Path) -> Result<bool, sys::Error> {
        let Some(record) = self.read_record() else { return Ok(false) };
        let earlier = record.earlier_leases(meta, lock);
        let rebooted = matches!(earlier, EarlierLeases::All | EarlierLeases::Between(..));
        if rebooted {
            for ip in self.list()? {
                let path = self.path(ip);
                let is_earlier = earlier.contains(|| fs::symlink_metadata(&path).ok()?.modified().ok());
                if is_earlier && remove_lease(&path).is_err() {
                    // The address stays leased. The old record is kept, so that the next operation
                    // tries again.
                    self.kept_lease = true;
                    return Ok(true);
                }
            }
        }
        self.recorded = record.is_written();
        Ok(rebooted)
    }

    /// Reads every lease, removes temporary files of killed processes, and writes the index.
    fn rebuild(&mut self) -> Result<(), sys::Error> {
        let mut owners = Vec::new();
        self.unreadable = None;
        let unreadable = self.visit(|ip, text| {
            owners.push((index::key(text), ip));
            Ok(())
        })?;
        // Temporary files do no harm: a read-only store can still be read.
        let _ = file::sweep(&self.dir);
        // An index must be complete: with an unreadable lease, there is none.
        let index = self.index_path.as_ref().map(|path| Index::build(path, &owners));
        self.owners = match index {
            Some(Ok(index)) if unreadable.is_none() => Owners::Indexed(index),
            _ => Owners::Listed(owners),
        };
        self.unreadable = unreadable;
        self.dirty = true;
        Ok(())
    }

    /// Calls `each` with every lease and its trimmed text, and removes empty files, which a killed
    /// reference leaves. Continues after a file that cannot be read, and returns the first such
    /// error.
    fn visit(
        &self,
        mut each: impl FnMut(IpAddr, &str) -> Result<(), sys::Error>,
    ) -> Result<Option<sys::Error>, sys::Error> {
        let mut unreadable = None;
        for ip in self.list()? {
            match self.text(ip) {
                // If this fails, the address stays leased.
                Ok(Some(text)) if text.is_empty() => drop(file::remove(&self.path(ip))),
                Ok(Some(text)) => each(ip, &text)?,
                Ok(None) => {}
                // A directory with the name of an address occupies it, but is not a lease.
                Err(error) if error.errno() == Some(nix::libc::EISDIR) => {}
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
        }
        Ok(unreadable)
    }

    fn list(&self) -> Result<Vec<IpAddr>, sys::Error> {
        lease::addresses_in(&self.dir)
    }

    fn path(&self, ip: IpAddr) -> PathBuf {
        self.dir.join(ip.to_string())
    }

    fn text(&self, ip: IpAddr) -> Result<Option<String>, sys::Error> {
        lease::text(&self.dir, ip)
    }

    /// The holder of the address, as text for a message; `None` without a lease.
    pub fn holder_of(&self, ip: IpAddr) -> Result<Option<String>, sys::Error> {
        self.text(ip)
    }

    /// A lease file with its content, but without a name yet.
    pub fn draft<'a>(&'a self, holder: &'a Holder) -> Result<Draft<'a>, sys::Error> {
        Draft::new(&self.dir, holder.text.as_bytes(), LEASE_MODE, Sync::Now)
    }

    /// Removes the address's file if it is empty, which means that the address is free.
    pub fn clear_empty(&self, ip: IpAddr) -> Result<bool, sys::Error> {
        let path = self.path(ip);
        if lease::is_empty_file(&path) { file::remove(&path) } else { Ok(false) }
    }

    /// The last address that was allocated from the set.
    pub fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        lease::last_reserved(&self.dir, set)
    }

    /// Sets the last address that was allocated from the set.
    pub fn set_last_reserved(&mut self, set: usize, ip: IpAddr) -> Result<(), sys::Error> {
        self.dirty = true;
        // If a power cut loses this, allocation only starts over.
        file::replace_whole(
            &lease::pointer(&self.dir, set),
            ip.to_string().as_bytes(),
            LEASE_MODE,
            Sync::Later,
        )
    }

    /// Writes the names of new leases to the disk, so that they survive a power cut.
    pub fn sync(&self) -> Result<(), sys::Error> {
        file::sync_dir(&self.handle, &self.dir)
    }

    /// Ends the operation: the directory, the boot record and the index get the same time, so that
    /// the next operation can detect changes by others. An error here does not fail the operation:
    /// without the stamp, the next one reads the directory.
    pub fn commit(&mut self) {
        if !self.dirty {
            return;
        }
        self.dirty = false;
        let now = SystemTime::now();
        let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let Ok(dir_mtime) = i128::try_from(since_epoch.as_nanos()) else { return };
        if file::set_modified(&self.handle, &self.dir, now).is_err() {
            return;
        }
        if let (Some(record), true) = (&self.record, self.recorded) {
            // Without leases the record is useless, and nothing would delete it after the network
            // is removed.
            self.recorded = match self.owners.is_empty() && self.unreadable.is_none() {
                true => file::remove(record).is_err(),
                false => touch(record, now).is_ok(),
            };
        }
        if let Owners::Indexed(index) = &self.owners {
            let boot = self.boot_id.as_deref().map_or(0, index::key);
            let _ = index.stamp(Stamp { boot, dir_mtime, recorded: self.recorded });
        }
    }
}

/// The directory for state of this boot. Without it every operation reads all leases.
fn run_dir<'a>(roots: &'a Roots, plugin: &str) -> Option<&'a Path> {
    let made = file::make_private_dir(&roots.run, boot::RUN_DEPTH);
    made.inspect_err(|error| eprintln!("{plugin}: no index of leases: {error:#}")).ok().map(|()| &*roots.run)
}

fn remove_lease(path: &Path) -> Result<(), sys::Error> {
    match file::remove(path) {
        Err(error) if error.errno() == Some(nix::libc::EISDIR) => Ok(()),
        done => done.map(drop),
    }
}

fn touch(path: &Path, time: SystemTime) -> nix::Result<()> {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;
    let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let time = TimeSpec::from(since_epoch);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// Links the draft under the name of this address; false when the address is leased.
pub fn claim(draft: &mut Draft<'_>, ip: IpAddr) -> Result<bool, sys::Error> {
    Ok(draft.link(&ip.to_string())? == Made::Created)
}
