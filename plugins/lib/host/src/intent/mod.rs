//! Records of the packet rules of attachments, by which they are restored after a flush.
//!
//! There is one file per attachment and plugin. ADD writes it as its last step, DEL removes it as
//! its first: so a record only exists for an attachment with a finished ADD and without a started
//! DEL, even if either is killed. (The rules of a killed ADD are found by their owner, which needs
//! no record.)
//!
//! From the first change of its rules to that of its record, ADD and DEL hold the records' lock
//! shared; a reapply, which restores everything, holds it exclusively. So it restores nothing that
//! a DEL is about to delete, and misses nothing that an ADD is about to record.
//!
//! The directory is in `/run`: it goes with the kernel state that it describes.

mod guard;
mod record;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha512};
use sys::file::{self, Hold, Sync};
use sys::{Error, Result, clock};

use crate::head::Head;
use crate::{Owner, Removal, notice};

pub use guard::Guard;
pub use record::Record;

/// The directory of records.
const DIR: &str = "/run/moor/intent";
/// The number of private directories in this path.
const DEPTH: usize = 2;
/// The lock file in the directory; nothing is written to it. (Not the directory itself: if it was
/// once open to other users, one of them may hold its lock for ever.)
const LOCK: &str = ".lock";
const MODE: u32 = 0o600;
/// The longest record, in bytes: as many ports as one attachment may publish
/// ([`crate::rules::published::ELEMENTS_MAX`]), of both families, each on a line of its own.
const LONGEST: usize = 2 << 20;

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The attaching plugin's: masquerade and MAC filter.
    Bridge,
    /// The port-publishing plugin's.
    Portmap,
    /// For masquerade by iptables. A reapply does not restore iptables rules; but their chain is
    /// named after the network, which may have another name when they are deleted.
    Iptables,
    /// For connections that bypass the rules, of whichever plugin.
    FastPath,
    /// For addresses that chains of iptables accept. A reapply does not restore them.
    Accepted,
    /// For sources of a zone of firewalld.
    Zone,
    /// The firewall plugin's.
    Firewall,
}

impl By {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Portmap => "portmap",
            Self::Iptables => "iptables",
            Self::FastPath => "fastpath",
            Self::Accepted => "accepted",
            Self::Zone => "zone",
            Self::Firewall => "firewall",
        }
    }

    /// Whether the rules have their owner's label, by which they are found without a record.
    const fn is_labelled(self) -> bool {
        matches!(self, Self::Bridge | Self::Portmap | Self::FastPath | Self::Firewall)
    }
}

/// Records with the time that each was written, and the errors of unreadable ones.
pub type Dated = (Vec<(Record, u64)>, Vec<Error>);

/// The directory, locked while this lives.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    _lock: File,
}

impl Records {
    /// Opens it for an ADD, which is about to create rules; creates a missing directory.
    ///
    /// # Errors
    /// The directory cannot be created or locked.
    pub fn open() -> Result<Self> {
        Self::open_at(Path::new(DIR))
    }

    /// Opens it for any other use; `None` when nothing was ever recorded.
    ///
    /// # Errors
    /// The directory cannot be opened or locked.
    pub fn open_if_any() -> Result<Option<Self>> {
        Self::open_if_any_at(Path::new(DIR))
    }

    fn open_at(dir: &Path) -> Result<Self> {
        file::make_private_dir(dir, DEPTH)?;
        Self::lock(dir, Hold::Shared)
    }

    fn open_if_any_at(dir: &Path) -> Result<Option<Self>> {
        Self::lock_if_any(dir, Hold::Shared)
    }

    /// Opens the directory exclusively, after all others are done.
    pub(crate) fn open_alone_if_any() -> Result<Option<Self>> {
        Self::lock_if_any(Path::new(DIR), Hold::Alone)
    }

    fn lock_if_any(dir: &Path, hold: Hold) -> Result<Option<Self>> {
        match file::has_private_dir(dir, DEPTH)? {
            true => Self::lock(dir, hold).map(Some),
            false => Ok(None),
        }
    }

    fn lock(dir: &Path, hold: Hold) -> Result<Self> {
        let lock = file::lock_as(&dir.join(LOCK), MODE, hold)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Writes a whole record, and replaces the same plugin's earlier one of the attachment.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, by: By, record: &Record) -> Result<()> {
        let path = self.path(by, &record.owner);
        let text = text::write(record, clock::since_boot()?);
        // The file has no name until it is whole: a killed process leaves nothing.
        file::write_whole(&path, text.as_bytes(), MODE, Sync::Later)
    }

    /// Reads the record of an attachment, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or is malformed.
    pub fn read(&self, by: By, owner: &Owner) -> Result<Option<Record>> {
        read(&self.path(by, owner)).map(|found| found.map(|(record, _)| record))
    }

    /// What any release can read of the record of an attachment; `None` also for what cannot be
    /// read at all.
    pub(crate) fn head(&self, by: By, owner: &Owner) -> Option<Head> {
        head(&self.path(by, owner))
    }

    /// Removes the record of an attachment that is gone, and returns it. That of another network's
    /// attachment of the same interface stays while that is alive. An unreadable record restores
    /// nothing: it is reported in the log, and removed too.
    ///
    /// # Errors
    /// It cannot be removed; or it is unknown whether the other attachment is alive, and then it
    /// stays.
    pub fn take(&self, by: By, removal: &Removal) -> Result<Option<Record>> {
        let (record, owner) = match self.read(by, removal.owner()) {
            Ok(record) => {
                let owner = record.as_ref().map(|record| record.owner.clone());
                (record, owner)
            }
            Err(error) => {
                notice(format_args!("{}: {error:#}", by.name()));
                (None, self.head(by, removal.owner()).map(|head| head.owner))
            }
        };
        if let Some(owner) = owner
            && !removal.takes(&owner.label())?
        {
            return Ok(None);
        }
        file::remove_whole(&self.path(by, removal.owner()))?;
        Ok(record)
    }

    /// Removes the record written by an ADD that is being undone.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_own(&self, by: By, owner: &Owner) -> Result<()> {
        match self.head(by, owner) {
            Some(head) if head.owner != *owner => Ok(()),
            _ => file::remove_whole(&self.path(by, owner)).map(drop),
        }
    }

    /// Whether there is a record of another attachment.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn has_others(&self, by: By, owner: &Owner) -> Result<bool> {
        let own = self.path(by, owner);
        Ok(self.paths()?.iter().any(|path| *path != own && is_of(path, by)))
    }

    /// The records of a network's attachments except these; unreadable ones are reported in the
    /// log.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn all_but(&self, by: By, network: &str, valid: &HashSet<Owner>) -> Result<Vec<Record>> {
        self.stale(by, network, valid).map(|(records, _)| records)
    }

    /// As [`Records::all_but`], and the owners of unreadable ones that show it.
    fn stale(&self, by: By, network: &str, valid: &HashSet<Owner>) -> Result<(Vec<Record>, Vec<Owner>)> {
        let (mut records, mut owners) = (Vec::new(), Vec::new());
        for path in self.paths()?.iter().filter(|path| is_of(path, by)) {
            match read(path) {
                Ok(found) => records.extend(found.map(|(record, _)| record)),
                Err(error) => {
                    eprintln!("{}: {error:#}", by.name());
                    owners.extend(head(path).map(|head| head.owner));
                }
            }
        }
        let is_stale = |owner: &Owner| owner.network == network && !valid.contains(owner);
        records.retain(|record| is_stale(&record.owner));
        owners.retain(is_stale);
        Ok((records, owners))
    }

    /// The readable records of one kind.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn of(&self, by: By) -> Result<Vec<Record>> {
        let paths = self.paths()?.into_iter().filter(|path| is_of(path, by));
        Ok(paths.filter_map(|path| read(&path).ok().flatten()).map(|(record, _)| record).collect())
    }

    /// All records, latest first, and the errors of unreadable ones.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn all(&self) -> Result<(Vec<Record>, Vec<Error>)> {
        let (records, unreadable) = self.dated()?;
        Ok((records.into_iter().map(|(record, _)| record).collect(), unreadable))
    }

    /// As [`Records::all`], each with the time it was written: nanoseconds since boot.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn dated(&self) -> Result<Dated> {
        let mut records = Vec::new();
        let mut unreadable = Vec::new();
        for path in self.paths()? {
            match read(&path) {
                Ok(found) => records.extend(found),
                Err(error) => unreadable.push(error),
            }
        }
        records.sort_by_key(|(_, written)| std::cmp::Reverse(*written));
        Ok((records, unreadable))
    }

    /// The files of records, in the order of their names, without our temporary ones.
    fn paths(&self) -> Result<Vec<PathBuf>> {
        let fail = |cause| Error::new("list", self.dir.display().to_string(), cause);
        let mut paths = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                paths.push(entry.path());
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }

    /// The name is a hash, since a container's id may exceed the length of a filename. It excludes
    /// the network, which may have another name when the record is looked up. (A namespace has one
    /// interface of a name, so two networks' records of one interface never both belong to living
    /// attachments.)
    fn path(&self, by: By, owner: &Owner) -> PathBuf {
        let mut hash = Sha512::new();
        hash.update(&owner.ifname);
        hash.update("/");
        hash.update(&owner.container_id);
        let mut name = format!("{}-", by.name());
        for byte in hash.finalize().iter().take(16) {
            // Writing to a string does not fail.
            let _ = write!(name, "{byte:02x}");
        }
        self.dir.join(name)
    }
}

/// Whether a file is a record of this plugin.
fn is_of(path: &Path, by: By) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(by.name()));
    name.is_some_and(|rest| rest.starts_with('-'))
}

/// Removes records and then what they describe, so that it is not restored in between. The second
/// step runs even if the first fails, and then the first error is returned.
///
/// # Errors
/// Those of both steps.
pub fn withdraw<T>(
    unrecord: impl FnOnce(&Records) -> Result<()>,
    delete: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let records = Records::open_if_any();
    let unrecorded = match &records {
        Ok(Some(records)) => unrecord(records),
        _ => Ok(()),
    };
    let deleted = delete()?;
    records?;
    unrecorded?;
    Ok(deleted)
}

/// The number of records that are removed in one hold of the lock.
const AT_ONCE: usize = 512;

/// Removes the records of a network's attachments except these, and releases the lock now and then.
/// An unreadable one is reported in the log. It stays if it does not show its owner, or if it alone
/// names what is to be deleted.
///
/// # Errors
/// They cannot be listed, or one cannot be removed.
pub fn remove_all_but(by: By, network: &str, valid: &HashSet<Owner>) -> Result<()> {
    let (stale, mut owners) = match Records::open_if_any()? {
        Some(records) => records.stale(by, network, valid)?,
        None => return Ok(()),
    };
    if !by.is_labelled() {
        owners.clear();
    }
    owners.extend(stale.into_iter().map(|record| record.owner));
    for some in owners.chunks(AT_ONCE) {
        if let Some(records) = Records::open_if_any()? {
            some.iter().try_for_each(|owner| records.remove_own(by, owner))?;
        }
    }
    Ok(())
}

fn head(path: &Path) -> Option<Head> {
    Head::of(&file::read(path, LONGEST).ok()??)
}

/// Reads a record and the time it was written.
fn read(path: &Path) -> Result<Option<(Record, u64)>> {
    let Some(bytes) = file::read(path, LONGEST)? else { return Ok(None) };
    let fail = |fault| {
        let cause = io::Error::new(io::ErrorKind::InvalidData, fault);
        Error::new("read the record", path.display().to_string(), cause)
    };
    text::read(&bytes).map(Some).map_err(fail)
}
