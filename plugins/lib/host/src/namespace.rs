//! A network namespace as a record has it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

/// A container's network namespace, as a path and the inode that was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// The path.
    pub path: String,
    /// The inode's number.
    pub inode: u64,
}

impl Namespace {
    /// What is at the path; `None` when there is nothing, or the path has no place in a record.
    pub fn at(path: &str) -> Option<Self> {
        let is_word = !path.is_empty() && !path.contains(char::is_whitespace);
        let inode = fs::metadata(path).ok().filter(|_| is_word)?.ino();
        Some(Self { path: path.to_owned(), inode })
    }

    /// Whether nothing, or another namespace, is at its path. A path that this process cannot
    /// examine, such as one in a directory of another user without the capability to search it, does
    /// not show that the container is dead.
    pub fn is_gone(&self) -> bool {
        match fs::metadata(&self.path) {
            Ok(found) => found.ino() != self.inode,
            Err(error) => matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn only_an_examined_path_shows_that_a_namespace_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let file = dir.join("netns");
        fs::write(&file, "").unwrap();
        let path = |path: &std::path::Path| path.display().to_string();
        let found = Namespace::at(&path(&file)).unwrap();
        assert!(!found.is_gone());
        assert!(Namespace { inode: found.inode + 1, ..found.clone() }.is_gone());
        assert!(Namespace { path: path(&dir.join("none")), ..found.clone() }.is_gone());
        assert!(Namespace { path: path(&file.join("below")), ..found.clone() }.is_gone());
        let circle = dir.join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        assert!(!Namespace { path: path(&circle), ..found }.is_gone());
    }
}
