//! Devices of the host that containers have for a while, and how each comes back.
//!
//! A device must never be lost, whenever a process is killed, and whatever the container does to
//! it. So what the host has to know is in three places:
//!
//! - a record, written before the device moves: its owner, and its state on the host;
//! - the device's alias: its name on the host, as the reference writes it, so that the reference's
//!   DEL returns our devices, and ours the reference's;
//! - the device's index in the container, which is a hash of its owner
//!   ([`Owner::link_index`]): a container can rename its link and change its alias, but not its
//!   index, and the link keeps it when the kernel returns it from a dead namespace.
//!
//! The alias is the mark of an unfinished return: it gets its old text back last, and then the
//! record goes. So the next ADD, DEL, GC or STATUS finishes what a killed process began.

mod adopted;
mod found;
mod give_back;
mod record;
mod taken;
mod text;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sys::file::{self, Hold, Sync};
use sys::{Error, Result};

use crate::{Owner, hash};

pub use adopted::{Hint, adopt_on_host};
pub use give_back::{give_back, give_back_all_but, repair};
pub use record::{Device, Record};
pub use taken::{holder, take};

/// The directory of records.
const DIR: &str = "/run/moor/device";
/// The number of private directories in this path.
const DEPTH: usize = 2;
/// The lock file in it. Whoever moves a device holds it alone.
const LOCK: &str = ".lock";
const MODE: u32 = 0o600;
/// The longest record, in bytes: some thousand routes.
const LONGEST: usize = 1 << 20;

/// The directory of records, locked while this lives.
#[derive(Debug)]
pub struct Devices {
    dir: PathBuf,
    _lock: File,
}

impl Devices {
    /// Opens it; creates a missing directory.
    ///
    /// # Errors
    /// It cannot be created or locked.
    pub fn open() -> Result<Self> {
        file::make_private_dir(Path::new(DIR), DEPTH)?;
        Self::lock()
    }

    /// Opens it; `None` when no device was ever moved.
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
        // What processes left that were killed while they wrote; the next one tries again.
        let _ = file::sweep(&dir);
        Ok(Self { dir, _lock: lock })
    }

    /// The record of this container and interface, under whichever network's name; an unreadable
    /// one is reported in the log and counts as missing.
    pub fn read(&self, owner: &Owner) -> Option<Record> {
        read(&self.path(owner)).filter(|record| owner.is_in(&record.owner.label()))
    }

    /// All records that can be read.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn all(&self) -> Result<Vec<Record>> {
        let fail = |cause| Error::new("list", self.dir.display().to_string(), cause);
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
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
        let path = self.path(&record.owner);
        let text = text::write(record);
        file::write_whole(&path, text.as_bytes(), MODE, Sync::Later)
    }

    /// Removes the record of an attachment.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, owner: &Owner) -> Result<()> {
        file::remove(&self.path(owner)).map(drop)
    }

    /// The name is a hash, since a container's id may exceed the length of a filename. It excludes
    /// the network, which may have another name when the record is looked up.
    fn path(&self, owner: &Owner) -> PathBuf {
        self.dir.join(format!("{:016x}", hash(&format!("{}/{}", owner.ifname, owner.container_id))))
    }
}

fn read(path: &Path) -> Option<Record> {
    let bytes = match file::read(path, LONGEST) {
        Ok(bytes) => bytes?,
        Err(error) => {
            crate::notice(format_args!("{error:#}"));
            return None;
        }
    };
    let record = text::read(&bytes);
    if record.is_none() {
        crate::notice(format_args!("the record {} is not understood", path.display()));
    }
    record
}
