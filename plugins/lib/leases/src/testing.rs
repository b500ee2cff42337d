//! What tests of plugins see of the store's inside.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::boot::{self, Roots};
use crate::index::{self, Index};

/// The path of the index of a network's directory.
///
/// # Panics
/// Without that directory.
pub fn index_path(roots: &Roots, dir: &Path) -> PathBuf {
    let meta = metadata(dir);
    roots.run.join(format!("{:x}-{:x}", meta.dev(), meta.ino()))
}

/// Whether the index is valid for the next operation.
///
/// # Panics
/// Without that directory.
pub fn index_in_force(roots: &Roots, dir: &Path) -> bool {
    let boot = roots.boot_id().map_or(0, |id| index::key(&id));
    Index::open(&index_path(roots, dir), boot, boot::mtime_nanos(&metadata(dir))).is_some()
}

fn metadata(dir: &Path) -> fs::Metadata {
    fs::metadata(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}
