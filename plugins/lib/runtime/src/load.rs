//! Finds configurations in a directory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::failure::is_name;
use crate::{ConfError, Conflist, PluginConf};

impl Conflist {
    /// Loads the network of that name from a configuration directory: the first `*.conflist` with
    /// that name in byte order, otherwise the first `*.conf` or `*.json`, converted to a list. A
    /// broken file before it is an error, even of another network. A missing directory counts as
    /// empty.
    pub fn load(dir: impl AsRef<Path>, name: &str) -> Result<Self, ConfError> {
        let dir = dir.as_ref();
        let lists = files(dir, &["conflist"])?;
        for path in &lists {
            let list = Self::from_file(path)?;
            if list.name == name {
                return Ok(list);
            }
        }
        let singles = files(dir, &["conf", "json"])?;
        if lists.is_empty() && singles.is_empty() {
            return Err(ConfError::NoneFound { dir: dir.to_owned() });
        }
        for path in singles {
            let plugin = PluginConf::from_file(&path)?;
            if plugin.own_name == name {
                return Self::up_convert(plugin).map_err(|error| error.in_file(path));
            }
        }
        Err(ConfError::NotFound { dir: dir.to_owned(), name: name.to_owned() })
    }

    /// Loads one list, and appends the plugins of its side directory
    /// `<directory of the file>/<name>/*.conf` unless `loadOnlyInlinedPlugins` is true.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfError> {
        let path = path.as_ref();
        let mut list = Self::parse(&read(path)?).map_err(|error| error.in_file(path))?;
        // The name becomes a part of a path here. A name that ADD would refuse (empty, "..", "a/b")
        // must not lead to another directory, as it does in the reference.
        if !list.only_inlined && is_name(&list.name) {
            let side = path.parent().unwrap_or(Path::new("")).join(&list.name);
            for file in files(&side, &["conf"])? {
                list.plugins.push(PluginConf::from_file(&file)?);
            }
        }
        if list.plugins.is_empty() {
            return Err(ConfError::NoPlugins.in_file(path));
        }
        Ok(list)
    }
}

impl PluginConf {
    /// Loads a file that holds one plugin object.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfError> {
        let path = path.as_ref();
        Self::from_bytes(&read(path)?).map_err(|error| error.in_file(path))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfError> {
    fs::read(path).map_err(|source| ConfError::Read { path: path.to_owned(), source })
}

/// The entries of a directory with one of these extensions, in byte order, without directories.
fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, ConfError> {
    let failed = |source| ConfError::ReadDir { dir: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if has_extension(&entry.file_name(), extensions) && !entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
        }
    }
    found.sort_by(|a, b| a.as_os_str().as_bytes().cmp(b.as_os_str().as_bytes()));
    Ok(found)
}

/// The extension is the text after the last dot, even if that is the first character: as in the
/// reference, `.conflist` has one.
fn has_extension(name: &OsStr, extensions: &[&str]) -> bool {
    let name = name.as_bytes();
    name.iter()
        .rposition(|byte| *byte == b'.')
        .is_some_and(|dot| extensions.iter().any(|extension| name[dot + 1..] == *extension.as_bytes()))
}
