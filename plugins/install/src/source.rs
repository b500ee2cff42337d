//! What is installed: the executables of the image.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::digest::Digest;

/// The plugins, each a copy of [`ALL`]: were they links to it, another installer that writes
/// through one name would write to all.
pub const NAMES: [&str; 22] = [
    "bandwidth",
    "bridge",
    "cluster",
    "dhcp",
    "dns",
    "dnsname",
    "dummy",
    "firewall",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "overlay",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tap",
    "tuning",
    "vlan",
    "vrf",
];
/// All plugins in one file.
const ALL: &str = "moor-plugins";
/// Executables with one name each; the agent before `overlay`, which starts it.
const OTHERS: [&str; 2] = ["overlay-agent", "moor"];
/// Several times the largest, in bytes.
const EXECUTABLE_MAX: usize = 64 << 20;

/// A file's content.
pub struct Content {
    pub bytes: Vec<u8>,
    pub digest: Digest,
}

impl Content {
    /// Takes the bytes.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes }
    }

    /// Reads a file of at most `limit` bytes, which must have some.
    pub fn read(path: &Path, limit: usize) -> Result<Self> {
        let bytes = sys::file::read(path, limit)?;
        let bytes = bytes.with_context(|| format!("{} is missing", path.display()))?;
        ensure!(!bytes.is_empty(), "{} is empty", path.display());
        Ok(Self::new(bytes))
    }
}

/// The executables, each with the names that it is installed under.
pub struct Executables(Vec<(Vec<String>, Content)>);

impl Executables {
    /// Reads them from the image's directory. With `only`, a few plugins; their file then has no name
    /// of its own, and the agent and the tool stay away unless they are of use.
    pub fn read(from: &Path, only: &[String]) -> Result<Self> {
        let read = |name: &str| Content::read(&from.join(name), EXECUTABLE_MAX);
        let is_wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
        let mut all = Vec::new();
        if is_wanted("overlay") {
            all.push((vec![OTHERS[0].to_owned()], read(OTHERS[0])?));
        }
        let plugins = NAMES.into_iter().filter(|name| is_wanted(name)).map(str::to_owned);
        let plugins = plugins.chain(only.is_empty().then(|| ALL.to_owned()));
        all.push((plugins.collect(), read(ALL)?));
        if only.is_empty() {
            all.push((vec![OTHERS[1].to_owned()], read(OTHERS[1])?));
        }
        Ok(Self(all))
    }

    /// Each name and its content.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.0.iter().flat_map(|(names, content)| names.iter().map(move |name| (name.as_str(), content)))
    }

    /// Whether there is one of that name.
    pub fn has(&self, name: &str) -> bool {
        self.files().any(|(file, _)| file == name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn image() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in [ALL, OTHERS[0], OTHERS[1]] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        dir
    }

    #[test]
    fn everything_is_installed_or_the_plugins_that_are_named() {
        let dir = image();
        let all = Executables::read(dir.path(), &[]).unwrap();
        assert_eq!(all.files().count(), NAMES.len() + 3);
        assert!(
            all.files().filter(|(_, content)| content.bytes == b"moor-plugins").count() == NAMES.len() + 1
        );
        let names = |only: &[&str]| {
            let only: Vec<_> = only.iter().map(|name| (*name).to_owned()).collect();
            let few = Executables::read(dir.path(), &only).unwrap();
            few.files().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&["portmap", "bridge"]), ["bridge", "portmap"]);
        assert_eq!(names(&["overlay"]), ["overlay-agent", "overlay"]);
    }

    #[test]
    fn an_image_without_a_file_is_refused() {
        let dir = image();
        fs::write(dir.path().join("moor"), "").unwrap();
        let error = Executables::read(dir.path(), &[]).err().unwrap();
        assert!(error.to_string().ends_with("moor is empty"), "{error:#}");
        fs::remove_file(dir.path().join("moor")).unwrap();
        let error = Executables::read(dir.path(), &[]).err().unwrap();
        assert!(error.to_string().ends_with("moor is missing"), "{error:#}");
    }
}
