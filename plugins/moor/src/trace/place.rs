//! The files of a recorder in a directory of plugins: `.moor-trace` holds the originals by their
//! names, and what the recorder has to know. The recorder itself has the plugin's name.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::files;

/// The directory, below that of the plugins.
const DIR: &str = ".moor-trace";
/// The largest state that is read, in bytes.
const STATE_MAX: u64 = 64 * 1024;
/// The kernel's mark of a program whose file has no name any more.
const DELETED: &str = " (deleted)";

/// What a recorder has to know.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct State {
    /// The log.
    pub log: PathBuf,
    /// When it ends: seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

impl State {
    /// Whether its time is over.
    pub fn is_over(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.until.is_some_and(|until| now >= until)
    }
}

/// A directory of plugins.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory.
    pub dir: PathBuf,
}

impl Place {
    /// The directory of originals.
    pub fn hidden(&self) -> PathBuf {
        self.dir.join(DIR)
    }

    /// The original of a plugin.
    pub fn original(&self, plugin: &OsStr) -> PathBuf {
        self.hidden().join(plugin)
    }

    /// The recorder's file.
    pub fn recorder(&self) -> PathBuf {
        self.hidden().join(".recorder")
    }

    /// The file of the state.
    pub fn state_file(&self) -> PathBuf {
        self.hidden().join(".state")
    }

    /// The state; none when nothing is recorded here.
    pub fn state(&self) -> Option<State> {
        serde_json::from_slice(&files::read(&self.state_file(), STATE_MAX).ok()?).ok()
    }

    /// The plugins that are recorded here, in order.
    pub fn originals(&self) -> io::Result<Vec<std::ffi::OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.hidden())? {
            let name = entry?.file_name();
            if !name.as_encoded_bytes().starts_with(b".") {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// Whether both names are of one file; a symbolic link is a file of its own.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let file = |path: &Path| fs::symlink_metadata(path).map(|about| (about.dev(), about.ino())).ok();
    file(one).is_some_and(|one| file(other) == Some(one))
}

/// The file to execute for an original: a symbolic link leads on from the directory of plugins.
pub fn executable(place: &Place, original: &Path) -> io::Result<PathBuf> {
    if fs::symlink_metadata(original)?.is_symlink() {
        return Ok(place.dir.join(fs::read_link(original)?));
    }
    Ok(original.to_owned())
}

/// The directory and the name of this executable, also when its file has been replaced.
pub fn of_this_process() -> Option<(Place, std::ffi::OsString, bool)> {
    let exe = fs::read_link("/proc/self/exe").ok()?;
    let name = exe.file_name()?.to_str()?;
    let (name, deleted) = name.strip_suffix(DELETED).map_or((name, false), |name| (name, true));
    Some((Place { dir: exe.parent()?.to_owned() }, name.into(), deleted))
}
