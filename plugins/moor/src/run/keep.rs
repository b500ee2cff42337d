//! `--keep`: a name for the namespace.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::failure::Failure;
use crate::space::refused;

use super::attach::Join;

/// Where `ip netns` keeps its names.
const NAMED: &str = "/run/netns";

/// The namespace under its name.
pub struct Kept {
    id: String,
    path: PathBuf,
}

impl Kept {
    /// Binds the namespace at the container's id.
    pub fn bind(namespace: &str, id: &str) -> Result<Self, Failure> {
        let path = Path::new(NAMED).join(id);
        let failed = |error| refused(&format!("name the namespace {}", path.display()), error);
        fs::create_dir_all(NAMED).map_err(failed)?;
        OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        let kept = Self { id: id.to_owned(), path: path.clone() };
        match mount(Some(namespace), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>) {
            Ok(()) => Ok(kept),
            Err(errno) => {
                // The file is ours and empty; the first error counts.
                let _ = fs::remove_file(&path);
                Err(failed(errno.into()))
            }
        }
    }

    /// The path.
    pub fn path(&self) -> String {
        self.path.display().to_string()
    }

    /// Reports what is kept, and how it ends.
    pub fn report(self, joins: &[Join]) {
        eprintln!("moor: kept {} with its attachments; this removes them:", self.path.display());
        for join in joins.iter().rev() {
            eprintln!("  moor network disconnect -f {} {}", join.list.name, self.id);
        }
        eprintln!("  ip netns delete {}", self.id);
    }

    /// Removes the name.
    pub fn remove(self) {
        let removed = umount2(&self.path, MntFlags::MNT_DETACH).map_err(std::io::Error::from);
        if let Err(error) = removed.and_then(|()| fs::remove_file(&self.path)) {
            eprintln!("moor: remove {}: {error}", self.path.display());
        }
    }
}
