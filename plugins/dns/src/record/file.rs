//! Reading and writing record files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use names::NAMES_MAX;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sys::file::{self, Draft, Made, Newer, Sync, TEMP_PREFIX};

use super::{Attachment, Error, FILE_MAX, Network, VERSION, encoded};

/// The file of the network itself, in its directory.
pub const NETWORK_FILE: &str = "network.json";

/// Modes of records and directories: the responder's group may read them, in a directory that
/// is private to root.
pub(super) const FILE_MODE: u32 = 0o640;
pub(super) const DIR_MODE: u32 = 0o750;

/// All records of one network.
#[derive(Debug, Default)]
pub struct NetworkRecords {
    /// The network's record; `None` if it is missing or cannot be read.
    pub network: Option<Network>,
    /// Its attachments, in any order.
    pub attachments: Vec<Attachment>,
    /// Files that cannot be read; they are left as they are.
    pub unreadable: Vec<Unreadable>,
}

/// A file that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub error: Error,
}

/// Writes a record atomically: a reader sees the old one or the new one. Callers hold the lock,
/// so a temporary file was left by a plugin that was killed.
pub(super) fn put<T: Serialize>(dir: &Path, name: &str, record: &T) -> sys::Result<()> {
    put_bounded(dir, name, record, FILE_MAX).map(drop)
}

/// The same, for a file of at most that many bytes. Returns whether it was written.
pub(super) fn put_bounded<T: Serialize>(
    dir: &Path,
    name: &str,
    record: &T,
    most: usize,
) -> sys::Result<bool> {
    let path = dir.join(name);
    let fail = |cause| sys::Error::new("write", path.display().to_string(), cause);
    let bytes = serde_json::to_vec(record).map_err(|cause| fail(io::Error::from(cause)))?;
    if bytes.len() > most {
        return Err(fail(io::ErrorKind::FileTooLarge.into()));
    }
    if matches!(file::read(&path, most), Ok(Some(old)) if old == bytes) {
        return Ok(false);
    }
    let mut draft = match Draft::new(dir, &bytes, FILE_MODE, Sync::Later) {
        Err(error) if error.is_not_found() => {
            file::create_dir(dir, DIR_MODE)?;
            Draft::new(dir, &bytes, FILE_MODE, Sync::Later)?
        }
        draft => draft?,
    };
    if draft.link(name)? == Made::Created {
        return Ok(true);
    }
    let temp = temporary(name);
    while draft.link(&temp)? == Made::Exists {
        file::remove(&dir.join(&temp))?;
    }
    fs::rename(dir.join(&temp), &path).map_err(fail)?;
    Ok(true)
}

fn temporary(name: &str) -> String {
    format!("{TEMP_PREFIX}{name}")
}

/// Removes a record, and the temporary file of a killed [`put`]. Returns whether the record was
/// there.
pub(super) fn remove(dir: &Path, name: &str) -> sys::Result<bool> {
    file::remove(&dir.join(temporary(name)))?;
    file::remove(&dir.join(name))
}

/// Removes all records but the kept ones, and all temporary files. Returns how many records
/// were removed.
pub(super) fn remove_all_but(dir: &Path, keep: impl Fn(&str) -> bool) -> sys::Result<usize> {
    let mut removed = 0;
    for path in list(dir)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !keep(name) && file::remove(&path)? {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Whether a directory has no records or does not exist.
pub(super) fn is_empty(dir: &Path) -> sys::Result<bool> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(!entries.any(|entry| entry.is_ok_and(|entry| is_record(&entry)))),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(cause) => Err(sys::Error::new("list", dir.display().to_string(), cause)),
    }
}

/// Counts the records of a directory; 0 if it does not exist.
pub(super) fn count(dir: &Path) -> sys::Result<usize> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.filter(|entry| entry.as_ref().is_ok_and(is_record)).count()),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(cause) => Err(sys::Error::new("list", dir.display().to_string(), cause)),
    }
}

/// Removes the records of a network without attachments, and its directory, unless the agent has
/// files of other hosts in it.
pub(super) fn remove_network(network: &Path, attachments: &Path) -> sys::Result<()> {
    remove_dir(attachments)?;
    remove(network, NETWORK_FILE)?;
    remove_dir_if_empty(network)
}

/// Removes a directory that has temporary files at most; another one stays.
pub(super) fn remove_dir_if_empty(dir: &Path) -> sys::Result<()> {
    match is_empty(dir)? {
        true => remove_dir(dir),
        false => Ok(()),
    }
}

/// Removes a directory that has temporary files at most.
pub(super) fn remove_dir(dir: &Path) -> sys::Result<()> {
    match fs::remove_dir(dir) {
        Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => {
            file::sweep(dir)?;
            fs::remove_dir(dir)
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
    .map_err(|cause| sys::Error::new("remove directory", dir.display().to_string(), cause))
}

/// The network's record in its directory.
pub(super) fn network(dir: &Path) -> Result<Option<Network>, Error> {
    let Some(read) = read::<Network>(&dir.join(NETWORK_FILE), FILE_MAX)? else { return Ok(None) };
    placed(dir, &encoded(&read.name))?;
    Ok(Some(read))
}

pub(super) fn attachment(path: &Path) -> Result<Option<Attachment>, Error> {
    let Some(read) = read::<Attachment>(path, FILE_MAX)? else { return Ok(None) };
    placed(path, &read.key.file_name())?;
    if read.names.is_empty() || read.names.len() > NAMES_MAX {
        return Err(Error::Malformed(format!("{} names", read.names.len())));
    }
    Ok(Some(read))
}

/// Refuses a file under a name that is not its own, such as a copy: DEL would not find it.
fn placed(path: &Path, name: &str) -> Result<(), Error> {
    if path.file_name().is_some_and(|own| own == name) {
        return Ok(());
    }
    Err(Error::Malformed(format!("its name should be {name}")))
}

/// Checks the version first: the rest of a newer record may mean anything.
pub(super) fn read<T: DeserializeOwned>(path: &Path, most: usize) -> Result<Option<T>, Error> {
    #[derive(Deserialize)]
    struct Version {
        v: u32,
    }
    let Some(bytes) = file::read(path, most)? else { return Ok(None) };
    let malformed = |error: serde_json::Error| Error::Malformed(error.to_string());
    match serde_json::from_slice(&bytes).map_err(malformed)? {
        Version { v: VERSION } => serde_json::from_slice(&bytes).map(Some).map_err(malformed),
        Version { v } if v > VERSION => Err(Error::Newer(Newer { found: v, known: VERSION })),
        Version { v } => Err(Error::Malformed(format!("there is no version {v}"))),
    }
}

pub(super) fn scan_network(dir: &Path) -> sys::Result<NetworkRecords> {
    let mut known = NetworkRecords::default();
    match network(dir) {
        Ok(network) => known.network = network,
        Err(error) => known.unreadable.push(Unreadable { path: dir.join(NETWORK_FILE), error }),
    }
    for path in list(&dir.join("att"))? {
        match attachment(&path) {
            Ok(Some(attachment)) => known.attachments.push(attachment),
            // Removed meanwhile.
            Ok(None) => {}
            Err(error) => known.unreadable.push(Unreadable { path, error }),
        }
    }
    Ok(known)
}

/// The paths in a directory, without temporary files; empty if it does not exist.
pub(super) fn list(dir: &Path) -> sys::Result<Vec<PathBuf>> {
    let fail = |cause| sys::Error::new("list", dir.display().to_string(), cause);
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(fail(cause)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if is_record(&entry) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

fn is_record(entry: &fs::DirEntry) -> bool {
    !entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes())
}
