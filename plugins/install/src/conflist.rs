//! The conflist: which text may be installed, and whether it would be the first of its directory,
//! which containerd and CRI-O take as the network of every pod.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use runtime::{Conflist, find_plugin};

use crate::record::is_file_name;
use crate::source::Content;

/// Longer than any conflist, in bytes.
const CONFLIST_MAX: usize = 1 << 20;
/// What libcni takes for a configuration, whatever the name begins with.
const EXTENSIONS: [&[u8]; 3] = [b"conf", b"conflist", b"json"];

/// A conflist to install: its name as a file, its text, and the plugins that it asks for.
pub struct List {
    pub name: String,
    pub content: Content,
    plugins: Vec<String>,
}

impl List {
    /// Reads the file, as a runtime would.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_fit = is_file_name(name) && name.ends_with(".conflist") && !name.starts_with('.');
        ensure!(is_fit, "{}: the name of a conflist is NAME.conflist", path.display());
        let content = Content::read(path, CONFLIST_MAX)?;
        let list = Conflist::from_bytes(&content.bytes);
        let list = list.with_context(|| format!("read the conflist {}", path.display()))?;
        ensure!(!list.name.is_empty(), "{}: the network has no name", path.display());
        let mut plugins = Vec::new();
        for plugin in list.plugins {
            let ipam = plugin.object.get("ipam").and_then(|ipam| ipam.get("type")?.as_str());
            plugins.extend(ipam.filter(|ipam| !ipam.is_empty()).map(str::to_owned));
            plugins.push(plugin.plugin_type);
        }
        Ok(Self { name: name.to_owned(), content, plugins })
    }

    /// Fails if a plugin of the list is neither in `bin` nor about to be installed: containerd would
    /// start no pod.
    pub fn ensure_plugins(&self, bin: &Path, is_installed: impl Fn(&str) -> bool) -> Result<()> {
        for plugin in self.plugins.iter().filter(|plugin| !is_installed(plugin)) {
            find_plugin(plugin, &[PathBuf::from(bin)])
                .with_context(|| format!("the conflist {} names the plugin {plugin:?}", self.name))?;
        }
        Ok(())
    }

    /// Fails if the list would be the first of `net_d` and is not there yet.
    pub fn ensure_not_first(&self, net_d: &Path) -> Result<()> {
        let first = first_besides(net_d, &self.name)?;
        ensure!(
            first.is_some_and(|first| first.as_bytes() < self.name.as_bytes()),
            "{} would be the first conflist of {}, and so the network of every pod: --first allows it",
            self.name,
            net_d.display()
        );
        Ok(())
    }
}

/// The first configuration of the directory by the bytes of its name, other than `name`.
fn first_besides(net_d: &Path, name: &str) -> Result<Option<OsString>> {
    let failed = || format!("list {}", net_d.display());
    let mut first: Option<OsString> = None;
    for entry in fs::read_dir(net_d).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let found = entry.file_name();
        let extension = found.as_bytes().rsplit(|byte| *byte == b'.').next();
        let is_conf =
            found.as_bytes().contains(&b'.') && extension.is_some_and(|is| EXTENSIONS.contains(&is));
        let is_other = is_conf && found != name && !entry.file_type().with_context(failed)?.is_dir();
        if is_other && first.as_ref().is_none_or(|first| found.as_bytes() < first.as_bytes()) {
            first = Some(found);
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str =
        r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","ipam":{"type":"host-local"}}]}"#;

    fn list(dir: &Path, name: &str, text: &str) -> Result<List> {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        List::read(&path)
    }

    #[test]
    fn only_conflists_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(list(dir.path(), "10-m.conflist", LIST).unwrap().plugins, ["host-local", "bridge"]);
        for name in ["10-m.conf", ".conflist", ".m.conflist", "m"] {
            assert!(list(dir.path(), name, LIST).is_err(), "{name}");
        }
        for text in
            ["", "{", "[]", "{}", r#"{"name":"n","plugins":[]}"#, r#"{"name":"","plugins":[{"type":"a"}]}"#]
        {
            assert!(list(dir.path(), "10-m.conflist", text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_plugin_of_the_list_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let list = list(dir.path(), "10-m.conflist", LIST).unwrap();
        list.ensure_plugins(dir.path(), |_| true).unwrap();
        let error = list.ensure_plugins(dir.path(), |name| name == "bridge").unwrap_err();
        assert!(format!("{error:#}").contains("host-local"), "{error:#}");
        fs::write(dir.path().join("host-local"), "").unwrap();
        list.ensure_plugins(dir.path(), |name| name == "bridge").unwrap();
    }

    #[test]
    fn the_first_is_found_as_runtimes_do() {
        let dir = tempfile::tempdir().unwrap();
        let net_d = dir.path().join("net.d");
        fs::create_dir(&net_d).unwrap();
        let list = list(dir.path(), "10-m.conflist", LIST).unwrap();
        let is_refused = || list.ensure_not_first(&net_d).is_err();
        assert!(is_refused(), "the directory is empty");
        for name in ["10-m.conflist", "20-z.conf", "README", "00-a.conflist.bak", "00-conflist"] {
            fs::write(net_d.join(name), "").unwrap();
        }
        fs::create_dir(net_d.join("00-dir.conf")).unwrap();
        assert!(is_refused(), "all others are later, or no configurations");
        // libcni has no exception for hidden files.
        fs::write(net_d.join(".a.json"), "").unwrap();
        assert!(!is_refused());
    }
}
