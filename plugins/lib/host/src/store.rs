//! A directory of records that one process at a time has, one record for each attachment.

use std::fs::{self, File};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use sys::file::{self, Hold, Sync};
use sys::{Error, Result};

use crate::head::Head;
use crate::{Owner, hash, notice};

/// The number of private directories in the path of a directory of records.
const DEPTH: usize = 2;
/// The lock file in it. Whoever reads what is to be restored, or restores it, holds it alone.
const LOCK: &str = ".lock";
const MODE: u32 = 0o600;

/// A record of an attachment.
pub trait Stored: Sized {
    /// The directory of these records, below `/run/moor`.
    const DIR: &'static str;
    /// The longest record, in bytes.
    const LONGEST: usize;
    /// The version that is written, and the newest that is read.
    const VERSION: u32 = 1;

    /// The attachment.
    fn owner(&self) -> &Owner;

    /// The record as text.
    fn print(&self) -> String;

    /// The record that this text is; `None` when it is no record.
    fn parse(text: &[u8]) -> Option<Self>;
}

/// The records of one kind, locked while this lives.
#[derive(Debug)]
pub struct Store<R> {
    dir: PathBuf,
    _lock: File,
    records: PhantomData<R>,
}

impl<R: Stored> Store<R> {
    /// Opens it; creates a missing directory.
    ///
    /// # Errors
    /// It cannot be created or locked.
    pub fn open() -> Result<Self> {
        file::make_private_dir(Path::new(R::DIR), DEPTH)?;
        Self::lock(Path::new(R::DIR))
    }

    /// Opens it; `None` when nothing was ever recorded.
    ///
    /// # Errors
    /// It cannot be opened or locked.
    pub fn open_if_any() -> Result<Option<Self>> {
        match file::has_private_dir(Path::new(R::DIR), DEPTH)? {
            true => Self::lock(Path::new(R::DIR)).map(Some),
            false => Ok(None),
        }
    }

    fn lock(dir: &Path) -> Result<Self> {
        let lock = file::lock_as(&dir.join(LOCK), MODE, Hold::Alone)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock, records: PhantomData })
    }

    /// The record of this container and interface, under whichever network's name; an unreadable
    /// one is reported in the log and counts as missing.
    pub fn read(&self, owner: &Owner) -> Option<R> {
        read(&self.path(owner)).filter(|record: &R| owner.is_in(&record.owner().label()))
    }

    /// The owner on record of this container and interface, also of an unreadable record.
    pub fn owner(&self, owner: &Owner) -> Option<Owner> {
        Head::of(&file::read(&self.path(owner), R::LONGEST).ok()??).map(|head| head.owner)
    }

    /// All records that can be read.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn all(&self) -> Result<Vec<R>> {
        self.list("")
    }

    /// The records of this container.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn of_container(&self, container_id: &str) -> Result<Vec<R>> {
        let mut records = self.list(&prefix(container_id))?;
        records.retain(|record| record.owner().container_id == container_id);
        Ok(records)
    }

    fn list(&self, prefix: &str) -> Result<Vec<R>> {
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
    pub fn write(&self, record: &R) -> Result<()> {
        file::write_whole(&self.path(record.owner()), record.print().as_bytes(), MODE, Sync::Later)
    }

    /// Removes the record of an attachment.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, owner: &Owner) -> Result<()> {
        file::remove_whole(&self.path(owner)).map(drop)
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

fn read<R: Stored>(path: &Path) -> Option<R> {
    let bytes = match file::read(path, R::LONGEST) {
        Ok(bytes) => bytes?,
        Err(error) => {
            notice(format_args!("{error:#}"));
            return None;
        }
    };
    if let Err(newer) = file::ensure_known(&bytes, R::VERSION) {
        notice(format_args!("the record {} is not understood: {newer}", path.display()));
        return None;
    }
    let record = R::parse(&bytes);
    if record.is_none() {
        notice(format_args!("the record {} is not understood", path.display()));
    }
    record
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Line(Owner);

    impl Stored for Line {
        const DIR: &'static str = "/run/moor/none";
        const LONGEST: usize = 100;

        fn owner(&self) -> &Owner {
            &self.0
        }

        fn print(&self) -> String {
            self.0.label()
        }

        fn parse(text: &[u8]) -> Option<Self> {
            let text = std::str::from_utf8(text).ok()?;
            let mut parts = text.strip_prefix("moor/")?.splitn(3, '/');
            Some(Self(Owner::new(parts.next()?, "c1", parts.next()?)))
        }
    }

    #[test]
    fn a_record_is_found_by_container_and_interface_and_a_killed_write_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::<Line>::lock(dir.path()).unwrap();
        let owner = Owner::new("net", "c1", "eth0");
        store.write(&Line(owner.clone())).unwrap();
        assert_eq!(store.read(&Owner::new("other", "c1", "eth0")), Some(Line(owner.clone())));
        assert_eq!(store.read(&Owner::new("net", "c1", "eth1")), None);
        assert_eq!(store.of_container("c1").unwrap().len(), 1);
        assert_eq!(store.of_container("c2").unwrap().len(), 0);
        let name = store.path(&owner).file_name().unwrap().to_string_lossy().into_owned();
        fs::write(dir.path().join(format!("{}{name}", file::TEMP_PREFIX)), "half").unwrap();
        store.remove(&owner).unwrap();
        assert_eq!(store.all().unwrap(), []);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the lock alone");
    }

    #[test]
    fn of_a_newer_record_the_owner_is_known_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::<Line>::lock(dir.path()).unwrap();
        let (own, other) = (Owner::new("net", "c1", "eth0"), Owner::new("other", "c1", "eth0"));
        fs::write(store.path(&own), "v 2\nowner net eth0 c1\nquux\n").unwrap();
        assert_eq!(store.read(&own), None);
        assert_eq!(store.owner(&other), Some(own.clone()));
        assert_eq!(store.all().unwrap(), []);
        fs::write(store.path(&own), "garbage").unwrap();
        assert_eq!(store.owner(&own), None);
        assert_eq!(store.owner(&Owner::new("net", "c2", "eth0")), None);
    }
}
