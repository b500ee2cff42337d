//! Finding configurations in a directory.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::failure::is_name;
use crate::{ConfError, Conflist, PluginConf};

impl Conflist {
    /// Loads the network of that name from a configuration directory: the first `*.conflist` in byte order whose
    /// name matches, else the first `*.conf` or `*.json`, up-converted. Any broken file on the way is an error,
    /// also one of another network; a missing directory is an empty one.
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

    /// Loads one list, and appends the plugins of its side directory `<directory of the file>/<name>/*.conf`
    /// unless `loadOnlyInlinedPlugins` is true.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfError> {
        let path = path.as_ref();
        let mut list = Self::parse(&read(path)?).map_err(|error| error.in_file(path))?;
        // The name becomes a path here. One that ADD would refuse (empty, "..", "a/b") must not lead elsewhere;
        // the reference follows it.
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

/// The entries of a directory that are no directories and have one of these extensions, in byte order.
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

/// What follows the last dot, also when the dot is the first character: `.conflist` counts, as in the reference.
fn has_extension(name: &OsStr, extensions: &[&str]) -> bool {
    let name = name.as_bytes();
    name.iter()
        .rposition(|byte| *byte == b'.')
        .is_some_and(|dot| extensions.iter().any(|extension| name[dot + 1..] == *extension.as_bytes()))
}
