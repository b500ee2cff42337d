//! The records' reader: the responder, which is a user of its own where root started it.
//!
//! The place's directory is root's alone. Those of the records have the responder's group, and hand it on to what is made
//! in them (set-group-id); it has the first of them as its working directory.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use super::Place;
use super::file::{DIR_MODE, FILE_MODE};

/// The user and the group of a responder that root started: a number that systemd leaves to nobody (its "Users, Groups,
/// UIDs and GIDs"), below those of its dynamic users.
pub const RESPONDER: u32 = 61053;

const SET_GROUP_ID: u32 = 0o2000;
/// Records are three directories deep.
const DEPTH: usize = 3;

impl Place {
    /// Makes the directory of the records where it is missing, and lets the responder read all that is in it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn admit(&self) -> sys::Result<()> {
        let dir = self.networks_dir();
        sys::file::create_dir(&dir, DIR_MODE)?;
        admit(&dir, DEPTH)
            .map_err(|cause| sys::Error::new("let the responder read", dir.display().to_string(), cause))
    }
}

fn admit(path: &Path, depth: usize) -> io::Result<()> {
    let meta = match fs::symlink_metadata(path) {
        // Draft of a plugin that was killed meanwhile.
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        meta => meta?,
    };
    let mode = match (meta.is_dir(), meta.is_file()) {
        (true, _) => SET_GROUP_ID | DIR_MODE,
        (_, true) => FILE_MODE,
        // Nothing of ours.
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
