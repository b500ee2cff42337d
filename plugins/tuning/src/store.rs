//! The directory of records.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use host::{Owner, hash, notice};
use sys::file::{self, Hold, Sync};
use sys::{Error, Result};

use crate::record::Record;
use crate::text;

/// The directory.
const DIR: &str = "/run/moor/tuning";
/// The number of private directories in this path.
const DEPTH: usize = 2;
/// The lock file in it. Whoever reads what is to be set back, or sets it, holds it alone.
const LOCK: &str = ".lock";
const MODE: u32 = 0o600;
/// The longest record, in bytes: the most parameters, each with its longest values.
const LONGEST: usize = 8 << 20;

/// The records, locked while this lives.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens it; creates a missing directory.
    ///
    /// # Errors
    /// It cannot be created or locked.
    pub fn open() -> Result<Self> {
        file::make_private_dir(Path::new(DIR), DEPTH)?;
        Self::lock()
    }

    /// Opens it; `None` when nothing was ever recorded.
    ///
    /// # Errors
    /// It cannot be opened or locked.
    pub fn open_if_any() -> Result<Option<Self>> {
        match file::has_private_dir(Path::new(DIR), DEPTH)? {
            true => Self::lock().map(Some),
            false => Ok(None),
        }
    }

    fn lock() -> Result<Self> {
        let dir = PathBuf::from(DIR);
        let lock = file::lock_as(&dir.join(LOCK), MODE, Hold::Alone)?;
        Ok(Self { dir, _lock: lock })
    }

    /// The record of this container and interface, under whichever network's name; an unreadable
    /// one is reported in the log and counts as missing.
    pub fn read(&self, owner: &Owner) -> Option<Record> {
        read(&self.path(owner)).filter(|record| owner.is_in(&record.owner.label()))
    }

    /// The records of the container's other attachments in its namespace.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn siblings(&self, owner: &Owner, space: &str) -> Result<Vec<Record>> {
        let mut records = self.list(&prefix(&owner.container_id))?;
        records.retain(|record| {
            record.space == space
                && record.owner.container_id == owner.container_id
                && record.owner.ifname != owner.ifname
        });
        Ok(records)
    }

    /// All records.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn all(&self) -> Result<Vec<Record>> {
        self.list("")
    }

    fn list(&self, prefix: &str) -> Result<Vec<Record>> {
        let fail = |cause| Error::new("list", self.dir.display().to_string(), cause);
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let name = name.as_encoded_bytes();
            if name.starts_with(prefix.as_bytes()) && !name.starts_with(b".") {
                records.extend(read(&entry.path()));
            }
        }
        Ok(records)
    }

    /// Writes a whole record, and replaces an earlier one of the attachment.
    ///
    /// # Errors
    /// The file cannot be written; the earlier one is there.
    pub fn write(&self, record: &Record) -> Result<()> {
        file::write_whole(&self.path(&record.owner), text::write(record).as_bytes(), MODE, Sync::Later)
    }

    /// Removes what processes that were killed left of their writing.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn sweep(&self) -> Result<()> {
        file::sweep(&self.dir)
    }

    /// Removes the record of an attachment.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, owner: &Owner) -> Result<()> {
        file::remove(&self.path(owner)).map(drop)
    }

    /// The name is made of hashes, since a container's id may exceed the length of a filename. It
    /// excludes the network, which may have another name when the record is looked up.
    fn path(&self, owner: &Owner) -> PathBuf {
        let interface = hash(&format!("{}/{}", owner.ifname, owner.container_id));
        self.dir.join(format!("{}{interface:016x}", prefix(&owner.container_id)))
    }
}

/// Records of one container are found by their names.
fn prefix(container_id: &str) -> String {
    format!("{:016x}-", hash(container_id))
}

fn read(path: &Path) -> Option<Record> {
    let bytes = match file::read(path, LONGEST) {
        Ok(bytes) => bytes?,
        Err(error) => {
            notice(format_args!("{error:#}"));
            return None;
        }
    };
    let record = text::read(&bytes);
    if record.is_none() {
        notice(format_args!("the record {} is not understood", path.display()));
    }
    record
}
