//! A network namespace as a record has it.

use std::fs;
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

    /// Whether it is at its path still.
    pub fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| found.ino() == self.inode)
    }
}
