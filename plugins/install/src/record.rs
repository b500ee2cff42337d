//! Which files of a directory are ours: a list as `sha256sum` writes it, so that an administrator
//! can check it (`sha256sum -c .moor/SHA256SUMS` in that directory). While an install is under way
//! a name has two lines, of its old content and of its new one.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use crate::digest::Digest;

/// The subdirectory that the record is in. No runtime takes it for a plugin or a configuration.
pub const STATE: &str = ".moor";
/// Longer than any name (limits.h, NAME_MAX).
const NAME_MAX: usize = 255;

/// What we have put into a directory, or are about to: names and contents.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record(BTreeMap<String, BTreeSet<Digest>>);

impl Record {
    /// Whether a file with this name and content is ours.
    pub fn has(&self, name: &str, digest: Digest) -> bool {
        self.0.get(name).is_some_and(|digests| digests.contains(&digest))
    }

    /// Adds a file.
    pub fn add(&mut self, name: &str, digest: Digest) {
        self.0.entry(name.to_owned()).or_default().insert(digest);
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Reads the list. A line of another form is an error: what is not known to be ours would be
    /// kept for uninstall in the place of what was there before.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let mut record = Self::default();
        let text = std::str::from_utf8(text).context("not UTF-8")?;
        for (index, line) in text.lines().enumerate() {
            let parts = line.split_once("  ").and_then(|(digest, name)| Some((Digest::parse(digest)?, name)));
            let (digest, name) =
                parts.with_context(|| format!("line {} is no line of sha256sum", index + 1))?;
            ensure!(is_file_name(name), "line {}: {name:?} is no name of a file", index + 1);
            record.add(name, digest);
        }
        Ok(record)
    }

    /// The list, as [`Record::parse`] reads it.
    pub fn text(&self) -> String {
        let lines =
            self.0.iter().flat_map(|(name, digests)| digests.iter().map(move |digest| (digest, name)));
        lines.map(|(digest, name)| format!("{digest}  {name}\n")).collect()
    }
}

/// Whether the name is that of a file in a directory, and leads nowhere else.
pub fn is_file_name(name: &str) -> bool {
    let is_plain = !name.contains(['/', '\n', '\0']) && name.len() <= NAME_MAX;
    is_plain && !matches!(name, "" | "." | ".." | STATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_back() {
        let mut record = Record::default();
        record.add("bridge", Digest::of(b"old"));
        record.add("bridge", Digest::of(b"new"));
        record.add("10-moor.conflist", Digest::of(b"{}"));
        assert_eq!(Record::parse(record.text().as_bytes()).unwrap(), record);
        assert!(record.has("bridge", Digest::of(b"old")) && !record.has("bridge", Digest::of(b"{}")));
        assert_eq!(record.names().collect::<Vec<_>>(), ["10-moor.conflist", "bridge"]);
        assert_eq!(Record::parse(b"").unwrap(), Record::default());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let digest = Digest::of(b"");
        for name in ["", ".", "..", "../bridge", "/etc/passwd", ".moor", "a/b"] {
            let error = Record::parse(format!("{digest}  {name}\n").as_bytes()).unwrap_err();
            assert!(format!("{error:#}").contains("line 1"), "{name}: {error:#}");
        }
        for text in [&b"\xff"[..], b"bridge", b"abc  bridge\n"] {
            assert!(Record::parse(text).is_err());
        }
    }
}
