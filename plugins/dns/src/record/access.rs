//! Lets the responder read the records: it runs as its own user if root started it.
//!
//! The state directory is private to root. The directories below it belong to the responder's
//! group, which new files inherit (set-group-id). The responder reaches them as its working
//! directory.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use super::StateDir;
use super::file::{DIR_MODE, FILE_MODE};

/// User and group of a responder that root started: an id that systemd reserves for nobody (see
/// "Users, Groups, UIDs and GIDs" there), below those of its dynamic users.
pub const RESPONDER: u32 = 61053;

const SET_GROUP_ID: u32 = 0o2000;
/// Levels of directories and files below that of the records.
const DEPTH: usize = 3;

impl StateDir {
    /// Creates the directory of the records if missing, and gives the responder read access
    /// to all that is in it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn let_responder_read(&self) -> sys::Result<()> {
        let dir = self.networks_dir();
        sys::file::create_dir(&dir, DIR_MODE)?;
        admit(&dir, DEPTH)
            .map_err(|cause| sys::Error::new("let the responder read", dir.display().to_string(), cause))
    }
}

fn admit(path: &Path, depth: usize) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        // The draft of a plugin that was killed.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    let mode = match (meta.is_dir(), meta.is_file()) {
        (true, _) => SET_GROUP_ID | DIR_MODE,
        (_, true) => FILE_MODE,
        // Not a file of ours.
        _ => return Ok(()),
    };
    if meta.gid() != RESPONDER {
        lchown(path, None, Some(RESPONDER))?;
    }
    if meta.mode() & 0o7777 != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    if meta.is_dir() && depth > 0 {
        for entry in fs::read_dir(path)? {
            admit(&entry?.path(), depth - 1)?;
        }
    }
    Ok(())
}
