//! A record that replaces another.

use std::fs;
use std::path::{Path, PathBuf};

use sys::file::{self, Sync};
use sys::{Error, Result};

use super::MODE;

/// Replaces a record, which is there at every moment.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = path_of(path);
    file::remove(&draft)?;
    file::create_whole(&draft, bytes, MODE, Sync::Later)?;
    fs::rename(&draft, path).map_err(|cause| Error::new("replace", path.display().to_string(), cause))
}

/// Removes a record, and what a process that was killed left of replacing it.
pub fn remove(path: &Path) -> Result<()> {
    file::remove(&path_of(path))?;
    file::remove(path).map(drop)
}

/// The new content of a record until it has the record's name. It has one name, so that whoever
/// removes the record finds it; nobody else writes that attachment's record meanwhile.
pub fn path_of(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{}{name}", file::TEMP_PREFIX))
}
