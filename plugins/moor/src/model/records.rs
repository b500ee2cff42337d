//! The runtimes' records of attachments.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use runtime::{Entry, Record};

use crate::files;
use crate::output::Note;

/// The longest record that is read, in bytes: a list and a result.
const SIZE_MAX: u64 = 4 * 1024 * 1024;

/// A record and its file.
#[derive(Debug)]
pub struct Recorded {
    /// The record. Its own names count, not the file's.
    pub record: Record,
    /// The file.
    pub file: PathBuf,
    /// When it was written: seconds since 1970.
    pub at: Option<u64>,
}

/// Reads all records. A file that cannot be read is a note, and hides no other.
pub fn read(cache_dir: &Path, notes: &mut Vec<Note>) -> Vec<Recorded> {
    let dir = cache_dir.join("results");
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            notes.push(Note::about("records", &dir, format!("list: {error}")));
            return Vec::new();
        }
    };
    let mut paths = Vec::new();
    for entry in entries {
        match entry {
            // A runtime writes to such a file before it has its name.
            Ok(entry) if entry.file_name().as_encoded_bytes().starts_with(b".") => {}
            Ok(entry) => paths.push(entry.path()),
            Err(error) => notes.push(Note::about("records", &dir, format!("list: {error}"))),
        }
    }
    paths.sort();
    let mut records = Vec::with_capacity(paths.len());
    for file in paths {
        match read_file(&file) {
            Ok(Some(record)) => records.push(Recorded { record, at: written(&file), file }),
            // Removed meanwhile.
            Ok(None) => {}
            Err(reason) => notes.push(Note::about("record", &file, reason)),
        }
    }
    records
}

fn read_file(file: &Path) -> Result<Option<Record>, String> {
    let bytes = match files::read(file, SIZE_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("read: {error}")),
    };
    match Entry::from_bytes(&bytes)? {
        Entry::Legacy(_) => Err("a result of an old format, which does not name its attachment".into()),
        Entry::Record(record) => {
            let id = &record.attachment;
            let names = [&record.network, &id.container_id, &id.ifname];
            if names.iter().any(|name| name.is_empty()) {
                return Err("the record does not name its attachment".into());
            }
            Ok(Some(*record))
        }
    }
}

fn written(file: &Path) -> Option<u64> {
    let time = fs::metadata(file).ok()?.modified().ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_broken_record_is_a_note_and_two_of_one_file_name_are_told_apart_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path().join("results");
        fs::create_dir(&results).unwrap();
        let record = |network: &str, id: &str| {
            format!(
                r#"{{"kind":"cniCacheV1","networkName":"{network}","containerId":"{id}","ifName":"eth0"}}"#
            )
        };
        fs::write(results.join("a-b-c-eth0"), record("a", "b-c")).unwrap();
        fs::write(results.join("x"), record("a-b", "c")).unwrap();
        fs::write(results.join("broken"), "{").unwrap();
        fs::write(results.join("other"), r#"{"kind":"other"}"#).unwrap();
        fs::write(results.join("legacy"), r#"{"ip4":{}}"#).unwrap();
        fs::write(results.join(".1-1.tmp"), "").unwrap();
        nix::unistd::mkfifo(&results.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut notes = Vec::new();
        let records = read(dir.path(), &mut notes);
        let names: Vec<_> = records.iter().map(|one| one.record.network.as_str()).collect();
        assert_eq!(names, ["a", "a-b"]);
        assert_eq!(notes.len(), 4, "{notes:?}");
        assert!(read(&dir.path().join("none"), &mut notes).is_empty());
    }
}
