//! Files of one writer, in a directory of many: whoever writes one is the only one that does, by a
//! lock or because nobody else has its name.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Made, Sync, TEMP_PREFIX, create_whole, remove, show};
use crate::{Error, Result};

/// Writes the file `path`, new or not: at every moment it has its old content or the new. What a
/// process leaves that is killed while it replaces one goes with [`remove_whole`] and the next
/// writing.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<()> {
    if create_whole(path, bytes, mode, sync)? == Made::Created {
        return Ok(());
    }
    let draft = draft(path);
    remove(&draft)?;
    create_whole(&draft, bytes, mode, sync)?;
    fs::rename(&draft, path).map_err(|cause| Error::new("replace", show(path), cause))
}

/// Removes the file `path` of [`write_whole`]; returns false when it did not exist.
pub fn remove_whole(path: &Path) -> Result<bool> {
    remove(&draft(path))?;
    remove(path)
}

/// The new content until it has the file's name. Its own name follows from that, so that whoever
/// removes the file finds it.
fn draft(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMP_PREFIX}{name}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_while_it_is_replaced_and_nothing_stays_of_a_killed_replacement() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        write_whole(&path, b"one", 0o600, Sync::Later).unwrap();
        std::thread::scope(|threads| {
            let write = || write_whole(&path, b"two", 0o600, Sync::Later).unwrap();
            let writer = threads.spawn(move || (0..300).for_each(|_| write()));
            while !writer.is_finished() {
                assert!(path.exists());
            }
        });
        assert_eq!(fs::read(&path).unwrap(), b"two");
        fs::write(dir.path().join(".moor-f"), "killed").unwrap();
        write_whole(&path, b"three", 0o600, Sync::Now).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        fs::write(dir.path().join(".moor-f"), "killed").unwrap();
        assert!(remove_whole(&path).unwrap());
        assert!(!remove_whole(&path).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
