//! The networks: every conflist of the configuration directories, in the order in which containerd
//! and CRI-O read them.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use runtime::{Conflist, PluginConf};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::context::Context;
use crate::files;
use crate::output::Note;

/// The largest conflist that is read, in bytes.
pub const SIZE_MAX: u64 = 1024 * 1024;

/// A network that a file defines.
#[derive(Clone, Debug)]
pub struct Network {
    /// SHA-256 of the name in hex, as nerdctl and podman have it.
    pub id: String,
    /// The file.
    pub file: PathBuf,
    /// The containerd namespace of nerdctl, when the file is in its directory.
    pub namespace: Option<String>,
    /// Containerd and CRI-O give this network to pods: the first file of a directory.
    pub first: bool,
    /// The file's object, with the keys that the list does not have (labels).
    pub object: Map<String, Value>,
    /// The list, with the plugins of its side directory.
    pub list: Conflist,
}

impl Network {
    /// The network's name.
    pub fn name(&self) -> &str {
        &self.list.name
    }
}

/// What the configuration directories hold.
#[derive(Debug, Default)]
pub struct Networks {
    /// The networks, in the order of directories and of the names of files.
    pub all: Vec<Network>,
    /// The files that could not be read, each with the reason. The list is complete without notes.
    pub notes: Vec<Note>,
}

impl Networks {
    /// Reads the configuration directories. A file that cannot be read is a note; a missing
    /// directory is empty.
    pub fn read(context: &Context) -> Self {
        for dir in &context.dirs {
            context.trace(&format!("reading conflists in {}", dir.display()));
        }
        Self::of(&context.dirs)
    }

    /// Reads these directories.
    pub fn of(dirs: &[PathBuf]) -> Self {
        let mut found = Self::default();
        dirs.iter().for_each(|dir| found.read_dir(dir, None));
        found
    }

    /// The network of this name; of several, that of the first file.
    pub fn named(&self, name: &str) -> Option<&Network> {
        self.all.iter().find(|network| network.name() == name)
    }

    fn read_dir(&mut self, dir: &Path, namespace: Option<&str>) {
        let Entries { files, dirs } = match entries(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(error) => return self.notes.push(Note::about("unreadable", dir, format!("list: {error}"))),
        };
        for (index, file) in files.into_iter().enumerate() {
            match read_file(&file) {
                Ok((object, list)) => self.all.push(Network {
                    id: id(&list.name),
                    namespace: namespace.map(ToOwned::to_owned),
                    first: index == 0 && namespace.is_none(),
                    object,
                    list,
                    file,
                }),
                Err(why) => self.notes.push(Note::about("unreadable", &file, why)),
            }
        }
        // nerdctl keeps the networks of a containerd namespace in a directory of its name.
        for dir in dirs.iter().filter(|_| namespace.is_none()) {
            let name = dir.file_name().map(|name| name.to_string_lossy().into_owned());
            self.read_dir(dir, name.as_deref());
        }
    }
}

/// SHA-256 of a network's name in hex: its id.
pub fn id(name: &str) -> String {
    Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names of the files that runtimes read in a directory, in byte order; a missing one is empty.
pub fn file_names(dir: &Path) -> std::io::Result<Vec<String>> {
    let files = match entries(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?.files,
    };
    let name = |file: &PathBuf| Some(file.file_name()?.to_string_lossy().into_owned());
    Ok(files.iter().filter_map(name).collect())
}

struct Entries {
    files: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
}

fn entries(dir: &Path) -> std::io::Result<Entries> {
    let (mut files, mut dirs) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            dirs.push(path);
        } else if path.extension().is_some_and(is_read) {
            files.push(path);
        }
    }
    files.sort();
    dirs.sort();
    Ok(Entries { files, dirs })
}

/// The suffixes that containerd, CRI-O and nerdctl read.
fn is_read(extension: &OsStr) -> bool {
    ["conf", "conflist", "json"].iter().any(|read| extension == *read)
}

fn read_file(file: &Path) -> Result<(Map<String, Value>, Conflist), String> {
    let bytes = files::read(file, SIZE_MAX).map_err(|error| format!("read: {error}"))?;
    let object = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let is_list = file.extension().is_some_and(|extension| extension == "conflist");
    let list = if is_list { with_side_dir(file, &bytes) } else { single(&bytes, &object) }?;
    Ok((object, list))
}

/// A `.conf` holds one plugin; containerd takes a list in a `.json`, too.
fn single(bytes: &[u8], object: &Map<String, Value>) -> Result<Conflist, String> {
    let list = object.contains_key("plugins");
    let parsed = if list { Conflist::from_bytes(bytes) } else { Conflist::from_single(bytes) };
    parsed.map_err(|error| error.to_string())
}

/// All plugins of a list may be in its side directory.
fn with_side_dir(file: &Path, bytes: &[u8]) -> Result<Conflist, String> {
    let mut list = Conflist::parse(bytes).map_err(|error| error.to_string())?;
    if !list.only_inlined && is_one_name(&list.name) {
        let side = file.parent().unwrap_or(Path::new("")).join(&list.name);
        let files = entries(&side).map(|entries| entries.files).unwrap_or_default();
        for path in files.iter().filter(|path| path.extension().is_some_and(|is| is == "conf")) {
            let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let bytes = crate::files::read(path, SIZE_MAX).map_err(|error| fault(&error))?;
            list.plugins.push(PluginConf::from_bytes(&bytes).map_err(|error| fault(&error))?);
        }
    }
    if list.plugins.is_empty() { Err("the list has no plugins".into()) } else { Ok(list) }
}

/// Whether the name leads to no other directory.
fn is_one_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\0'])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn read(files: &[(&str, &str)]) -> Networks {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let mut networks = Networks::default();
        networks.read_dir(dir.path(), None);
        networks
    }

    #[test]
    fn files_are_read_in_byte_order_and_the_first_is_the_pods() {
        let front = r#"{"cniVersion":"1.0.0","name":"front","plugins":[{"type":"bridge"}]}"#;
        let back = r#"{"cniVersion":"1.0.0","name":"back","type":"macvlan"}"#;
        let networks = read(&[("20-front.conflist", front), ("10-back.conf", back), ("a.txt", "x")]);
        let names: Vec<_> = networks.all.iter().map(|network| (network.name(), network.first)).collect();
        assert_eq!(names, [("back", true), ("front", false)]);
        assert!(networks.notes.is_empty());
        assert_eq!(&networks.named("front").unwrap().id[..12], "2d8d693177ac");
    }

    #[test]
    fn a_broken_file_is_a_note_and_hides_no_other() {
        let front = r#"{"name":"front","plugins":[{"type":"bridge"}]}"#;
        let networks = read(&[("1.conflist", "{"), ("2.conflist", front)]);
        assert_eq!(networks.all.len(), 1);
        assert!(!networks.all[0].first, "the broken file is the first");
        assert_eq!(networks.notes.len(), 1);
    }

    #[test]
    fn a_directory_is_nerdctls_namespace_and_the_lists_side_directory() {
        let front = r#"{"name":"front","plugins":[{"type":"bridge"}]}"#;
        let other = r#"{"name":"other","plugins":[{"type":"bridge"}]}"#;
        let files =
            [("a.conflist", front), ("front/x.conf", r#"{"type":"tuning"}"#), ("ns/b.conflist", other)];
        let networks = read(&files);
        let types = |network: &Network| network.list.plugins.iter().map(|p| p.plugin_type.clone()).collect();
        let types: Vec<Vec<_>> = networks.all.iter().map(types).collect();
        assert_eq!(types[0], ["bridge", "tuning"]);
        assert_eq!(networks.named("other").unwrap().namespace.as_deref(), Some("ns"));
    }
}
