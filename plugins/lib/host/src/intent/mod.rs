//! What the packet rules of attachments are, on record: so that they can be made again after somebody flushed them.
//!
//! There is one file for each attachment and plugin. ADD writes it as the last thing it makes, DEL removes it as the
//! first: so a record is there only of an attachment whose ADD came to its end, and whose DEL has not begun, whenever
//! either of them is killed. (The rules that a killed ADD leaves are found by their owner, which needs no record.)
//!
//! From the first change of its rules to that of its record, ADD and DEL hold the records' lock shared; who makes
//! everything anew (a reapply) holds it alone. So nothing comes back that a DEL is about to delete, and nothing is
//! missing that an ADD is about to record.
//!
//! The directory is in `/run`: it goes with the kernel state that it describes.

#[cfg(test)]
mod tests;
mod text;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use netlink::Mac;
use sha2::{Digest, Sha512};
use sys::file::{self, Hold, Made, Sync};
use sys::{Error, Result, clock};

use crate::ports::{Chosen, Container};
use crate::{Namespace, Owner, Removal};

/// Where the records are.
const DIR: &str = "/run/moor/intent";
/// How many directories of this path are private.
const DEPTH: usize = 2;
/// In the directory; nothing is written to it. (Not the directory itself: one that was open to other users once may be
/// held by one of them for ever.)
const LOCK: &str = ".lock";
const MODE: u32 = 0o600;
/// The longest record, in bytes: as many ports as one attachment may publish ([`crate::rules::published::ELEMENTS_MAX`]),
/// of both families, each on a line of its own.
const LONGEST: usize = 2 << 20;

/// Who keeps a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The plugin that attaches: masquerade and MAC filter.
    Bridge,
    /// The plugin that publishes ports.
    Portmap,
    /// Who masquerades by iptables. It is no intent, since a reapply makes no rules of iptables; but their chain is named
    /// after the network, which may have another name when they are to go.
    Iptables,
}

impl By {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Portmap => "portmap",
            Self::Iptables => "iptables",
        }
    }
}

/// The packet rules of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Whose they are.
    pub owner: Owner,
    /// What it publishes.
    pub containers: Vec<Container>,
    /// The chain of iptables that its ports are in, if they are there: these are not made again.
    pub chain: Option<String>,
    /// Ports of these that were chosen for it.
    pub chosen: Vec<Chosen>,
    /// Links that have `route_localnet` because of published ports, and had not before.
    pub localnet: Vec<String>,
    /// Addresses that are masqueraded, and the subnets inside of which they are not.
    pub masquerade: Option<(Vec<IpAddr>, Vec<IpNetwork>)>,
    /// The chain of iptables by which it is masqueraded, and the addresses that lead to it.
    pub masquerade_chain: Option<(String, Vec<IpAddr>)>,
    /// A port of a bridge, and the MAC address that may come in by it.
    pub mac_filter: Option<(String, Mac)>,
    /// The container's network namespace, where no link of the host shows whether the attachment is alive.
    pub netns: Option<Namespace>,
}

impl Record {
    /// Of an attachment that has no rules yet.
    pub fn new(owner: Owner) -> Self {
        Self {
            owner,
            containers: Vec::new(),
            chain: None,
            chosen: Vec::new(),
            localnet: Vec::new(),
            masquerade: None,
            masquerade_chain: None,
            mac_filter: None,
            netns: None,
        }
    }
}

/// The directory, locked for as long as this lives.
#[derive(Debug)]
pub struct Records {
    dir: PathBuf,
    _lock: File,
}

impl Records {
    /// For an ADD, which is about to make rules; the directory is made when it is missing.
    ///
    /// # Errors
    /// The directory cannot be made or locked.
    pub fn open() -> Result<Self> {
        Self::open_at(Path::new(DIR))
    }

    /// For everybody else; `None` when nothing was ever recorded.
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

    /// The directory for oneself alone, once all others are done.
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

    /// Writes a record, whole; what the same plugin recorded of the same attachment before is replaced.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, by: By, record: &Record) -> Result<()> {
        let path = self.path(by, &record.owner);
        let text = text::write(record, clock::since_boot()?);
        // Without a name until it is whole: a killed process leaves nothing.
        while file::create_whole(&path, text.as_bytes(), MODE, Sync::Later)? == Made::Exists {
            file::remove(&path)?;
        }
        Ok(())
    }

    /// The record of an attachment, if there is one.
    ///
    /// # Errors
    /// It cannot be read, or says what no record says.
    pub fn read(&self, by: By, owner: &Owner) -> Result<Option<Record>> {
        read(&self.path(by, owner)).map(|found| found.map(|(record, _)| record))
    }

    /// Removes the record of an attachment that is gone, and returns it; that of another network's attachment of the
    /// same interface stays while that is alive. One that cannot be read makes nothing anew, and goes too.
    ///
    /// # Errors
    /// It cannot be removed; or it is not known whether the other attachment is alive, and then it stays.
    pub fn take(&self, by: By, removal: &Removal) -> Result<Option<Record>> {
        let record = self.read(by, removal.owner()).unwrap_or_default();
        if let Some(record) = &record
            && !removal.takes(&record.owner.label())?
        {
            return Ok(None);
        }
        file::remove(&self.path(by, removal.owner()))?;
        Ok(record)
    }

    /// Removes the record that an ADD has written which is being taken back.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove_own(&self, by: By, owner: &Owner) -> Result<()> {
        match self.read(by, owner) {
            Ok(Some(record)) if record.owner != *owner => Ok(()),
            _ => file::remove(&self.path(by, owner)).map(drop),
        }
    }

    /// Whether there is a record of another attachment's.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn has_others(&self, by: By, owner: &Owner) -> Result<bool> {
        let own = self.path(by, owner);
        Ok(self.paths()?.iter().any(|path| *path != own && is_of(path, by)))
    }

    /// The records of a network's attachments but these; of those that cannot be read there is a word in the log.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn all_but(&self, by: By, network: &str, valid: &HashSet<Owner>) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for path in self.paths()?.iter().filter(|path| is_of(path, by)) {
            match read(path) {
                Ok(Some((record, _)))
                    if record.owner.network == network && !valid.contains(&record.owner) =>
                {
                    records.push(record);
                }
                Ok(_) => {}
                Err(error) => eprintln!("{}: {error:#}", by.name()),
            }
        }
        Ok(records)
    }

    /// All records, those written last first, and what could not be read.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn all(&self) -> Result<(Vec<Record>, Vec<Error>)> {
        let mut records = Vec::new();
        let mut unreadable = Vec::new();
        for path in self.paths()? {
            match read(&path) {
                Ok(found) => records.extend(found),
                Err(error) => unreadable.push(error),
            }
        }
        records.sort_by_key(|(_, written)| std::cmp::Reverse(*written));
        Ok((records.into_iter().map(|(record, _)| record).collect(), unreadable))
    }

    /// The files of records, in the order of their names; not our temporary ones.
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

    /// Named by a hash, since a container's id may be longer than a file's name; not by the network, which may have
    /// another name when the record is looked for. (A namespace has one interface of a name, so two networks' records of
    /// one interface are never both of living attachments.)
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

/// Whether a file's name is one of this plugin's.
fn is_of(path: &Path, by: By) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(by.name()));
    name.is_some_and(|rest| rest.starts_with('-'))
}

/// Takes records away, and then what they describe, with nobody making it anew in between. The second is done whatever
/// comes of the first, whose error is told then.
///
/// # Errors
/// Those of the two.
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

/// How many records are removed while the directory is locked.
const AT_ONCE: usize = 512;

/// Removes the records of a network's attachments but these, and lets others go on in between. One that cannot be read
/// stays, with a line in the log.
///
/// # Errors
/// They cannot be listed, or one cannot be removed.
pub fn remove_all_but(by: By, network: &str, valid: &HashSet<Owner>) -> Result<()> {
    let stale = match Records::open_if_any()? {
        Some(records) => records.all_but(by, network, valid)?,
        None => return Ok(()),
    };
    for some in stale.chunks(AT_ONCE) {
        if let Some(records) = Records::open_if_any()? {
            some.iter().try_for_each(|record| records.remove_own(by, &record.owner))?;
        }
    }
    Ok(())
}

/// A record and when it was written.
fn read(path: &Path) -> Result<Option<(Record, u64)>> {
    let Some(bytes) = file::read(path, LONGEST)? else { return Ok(None) };
    let fail = |fault| {
        let cause = io::Error::new(io::ErrorKind::InvalidData, fault);
        Error::new("read the record", path.display().to_string(), cause)
    };
    text::read(&bytes).map(Some).map_err(fail)
}
