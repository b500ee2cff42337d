//! Atomic file writes: a file is there whole or not at all, even if the process is killed or the
//! disk is full.
//!
//! A new file is written without a name (`O_TMPFILE`), synced, and then linked: its name appears
//! together with its content, and never replaces another's file. On filesystems without nameless
//! files, a temporary name that begins with [`TEMP_PREFIX`] is used instead; the holder of the
//! directory's lock removes those of killed processes with [`sweep`].

mod kept;
mod label;
mod lock;
mod private;
mod version;

use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

use crate::{Error, Result};

pub use kept::{remove_whole, write_whole};
pub use label::{label, set_label};
pub use lock::{Hold, PATIENCE, lock, lock_as, lock_bounded, lock_of_daemon, open_lock, try_lock};
pub use private::{RUN_DIR, has_private_dir, make_private_dir};
pub use version::{Newer, ensure_known, version};

/// Prefix of our temporary files: not an address, not a link name, and hidden from `ls`.
pub const TEMP_PREFIX: &str = ".moor-";
/// Attempts to open a file in a directory that others remove and make again.
const OPEN_ATTEMPTS: usize = 8;

/// Outcome of an exclusive creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The file was created, whole, by this call.
    Created,
    /// A file of that name already existed; it is untouched.
    Exists,
}

/// When the bytes must reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Before the name appears: after a power cut the file has the old or the new content.
    Now,
    /// At the kernel's convenience. For hints: after a power cut the file may be empty.
    Later,
}

/// Content without a name. Dropped without a link, it leaves nothing.
#[derive(Debug)]
pub struct Draft<'a> {
    dir: &'a Path,
    bytes: &'a [u8],
    mode: u32,
    sync: Sync,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Nameless(File),
    Named(PathBuf),
}

impl<'a> Draft<'a> {
    /// Writes `bytes` to the filesystem of the directory `dir`; `mode` is subject to the umask.
    pub fn new(dir: &'a Path, bytes: &'a [u8], mode: u32, sync: Sync) -> Result<Self> {
        let body = match open_nameless(dir, mode) {
            Ok(mut file) => {
                write_synced(&mut file, bytes, sync)
                    .map_err(|cause| Error::new("write a new file in", show(dir), cause))?;
                Body::Nameless(file)
            }
            // EOPNOTSUPP: the filesystem lacks it; EISDIR: the kernel lacks it (open(2),
            // O_TMPFILE).
            Err(cause) if matches!(cause.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
                Body::Named(named(dir, bytes, mode, sync)?)
            }
            Err(cause) => return Err(Error::new("create a file in", show(dir), cause)),
        };
        Ok(Self { dir, bytes, mode, sync, body })
    }

    /// Links the content as `name` in the directory, unless that name exists. A draft can be linked
    /// under several names, for example until one is free; they share one file.
    pub fn link(&mut self, name: &str) -> Result<Made> {
        let target = self.dir.join(name);
        if let Body::Nameless(file) = &self.body {
            let source = format!("/proc/self/fd/{}", file.as_raw_fd());
            match linkat(AT_FDCWD, source.as_str(), AT_FDCWD, &target, AtFlags::AT_SYMLINK_FOLLOW) {
                // Without /proc an unprivileged process cannot link a nameless file.
                Err(nix::Error::ENOENT) => {
                    self.body = Body::Named(named(self.dir, self.bytes, self.mode, self.sync)?);
                }
                done => return made("create", &target, done.map_err(io::Error::from)),
            }
        }
        let Body::Named(source) = &self.body else { return Ok(Made::Exists) };
        made("create", &target, fs::hard_link(source, &target))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Body::Named(path) = &self.body {
            // If this fails, the next holder of the lock sweeps the file.
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens a file without a name in a directory; `NotFound` where the directory was removed.
fn open_nameless(dir: &Path, mode: u32) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(mode).open(dir);
    let mut opened = open();
    for _ in 1..OPEN_ATTEMPTS {
        match &opened {
            // ext4 returns EPERM for a directory that was removed after its name was resolved. It may
            // have been made again since.
            Err(cause) if cause.raw_os_error() == Some(libc::EPERM) => {
                if fs::metadata(dir)?.nlink() == 0 {
                    return Err(io::Error::from_raw_os_error(libc::ENOENT));
                }
                opened = open();
            }
            _ => break,
        }
    }
    opened
}

fn made(op: &'static str, target: &Path, done: io::Result<()>) -> Result<Made> {
    match done {
        Ok(()) => Ok(Made::Created),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => Ok(Made::Exists),
        Err(cause) => Err(Error::new(op, show(target), cause)),
    }
}

fn named(dir: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<PathBuf> {
    let path = temp_path(dir, "draft");
    write_temp(&path, bytes, mode, sync)?;
    Ok(path)
}

/// One name per process: a file of an earlier process with the same pid is overwritten.
fn temp_path(dir: &Path, role: &str) -> PathBuf {
    dir.join(format!("{TEMP_PREFIX}{role}-{}", std::process::id()))
}

fn write_temp(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(|cause| Error::new("create", show(path), cause))?;
    write_synced(&mut file, bytes, sync).map_err(|cause| {
        let _ = fs::remove_file(path);
        Error::new("write", show(path), cause)
    })
}

fn write_synced(file: &mut File, bytes: &[u8], sync: Sync) -> io::Result<()> {
    file.write_all(bytes)?;
    if sync == Sync::Now { file.sync_all() } else { Ok(()) }
}

/// Creates the file `path` with this content unless it exists: exclusive, whole or not at all. The
/// caller syncs the directory if the name must survive a power cut.
pub fn create_whole(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<Made> {
    let (dir, name) = split(path)?;
    Draft::new(dir, bytes, mode, sync)?.link(name)
}

/// Replaces the file `path`: a reader sees the old content or the new, never a part.
pub fn replace_whole(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<()> {
    let (dir, name) = split(path)?;
    let temp = temp_path(dir, name);
    write_temp(&temp, bytes, mode, sync)?;
    fs::rename(&temp, path).map_err(|cause| {
        let _ = fs::remove_file(&temp);
        Error::new("replace", show(path), cause)
    })
}

fn split(path: &Path) -> Result<(&Path, &str)> {
    match (path.parent(), path.file_name().and_then(|name| name.to_str())) {
        (Some(dir), Some(name)) => Ok((dir, name)),
        _ => Err(Error::new("create", show(path), io::Error::from(io::ErrorKind::InvalidInput))),
    }
}

/// Removes the file; returns false when it did not exist.
pub fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(cause) => Err(Error::new("remove", show(path), cause)),
    }
}

/// Returns the content of a file of at most `limit` bytes; `None` when it does not exist. A longer
/// file is an error (`FileTooLarge`), so that memory stays bounded whatever the path names.
pub fn read(path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    let fail = |cause| Error::new("read", show(path), cause);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(fail(cause)),
    };
    // Most files here are a line or two: one read is enough, without asking for the size first.
    let mut bytes = vec![0; 512.min(limit + 1)];
    let first = file.read(&mut bytes).map_err(fail)?;
    let full = first == bytes.len();
    bytes.truncate(first);
    if full {
        let rest = u64::try_from((limit + 1).saturating_sub(first)).unwrap_or(u64::MAX);
        file.take(rest).read_to_end(&mut bytes).map_err(fail)?;
    }
    if bytes.len() > limit {
        return Err(fail(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok(Some(bytes))
}

/// Opens a directory, to sync it or to read and set its times.
pub fn open_dir(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(path)
        .map_err(|cause| Error::new("open directory", show(path), cause))
}

/// Creates a directory and its parents with `mode`; existing ones are left as they are.
pub fn create_dir(path: &Path, mode: u32) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|cause| Error::new("create directory", show(path), cause))
}

/// Makes the names in a directory survive a power cut.
pub fn sync_dir(dir: &File, path: &Path) -> Result<()> {
    dir.sync_all().map_err(|cause| Error::new("sync directory", show(path), cause))
}

/// Sets the modification time of an open file or directory.
pub fn set_modified(file: &File, path: &Path, time: SystemTime) -> Result<()> {
    file.set_times(FileTimes::new().set_modified(time))
        .map_err(|cause| Error::new("set the time of", show(path), cause))
}

/// Removes the temporary files that killed processes left in a directory. Call it only with the
/// lock that all writers of the directory take.
pub fn sweep(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(|cause| Error::new("list", show(dir), cause))? {
        let entry = entry.map_err(|cause| Error::new("list", show(dir), cause))?;
        if entry.file_name().as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_created_file_has_content_and_mode_and_no_other_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("10.0.0.2");
        assert_eq!(create_whole(&path, b"one", 0o600, Sync::Now).unwrap(), Made::Created);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn creation_is_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "theirs").unwrap();
        assert_eq!(create_whole(&path, b"ours", 0o600, Sync::Now).unwrap(), Made::Exists);
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
    }

    /// ext4 says `EPERM` of such a directory, and a caller that makes it again must know it is gone.
    #[test]
    fn a_removed_directory_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let removed = dir.path().join("removed");
        fs::create_dir(&removed).unwrap();
        let open = File::open(&removed).unwrap();
        fs::remove_dir(&removed).unwrap();
        for path in [PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())), removed] {
            let error = create_whole(&path.join("x"), b"one", 0o600, Sync::Now).unwrap_err();
            assert!(error.is_not_found(), "{error:#}");
        }
    }

    #[test]
    fn a_draft_takes_the_first_free_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "theirs").unwrap();
        let mut draft = Draft::new(dir.path(), b"ours", 0o600, Sync::Now).unwrap();
        assert_eq!(draft.link("a").unwrap(), Made::Exists);
        assert_eq!(draft.link("b").unwrap(), Made::Created);
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"ours");
    }

    #[test]
    fn a_named_draft_links_exclusively_and_its_temporary_name_goes() {
        // The path taken on a filesystem without nameless files, and without /proc.
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "theirs").unwrap();
        let body = Body::Named(named(dir.path(), b"ours", 0o600, Sync::Now).unwrap());
        let mut draft = Draft { dir: dir.path(), bytes: b"ours", mode: 0o600, sync: Sync::Now, body };
        assert_eq!(draft.link("a").unwrap(), Made::Exists);
        assert_eq!(draft.link("b").unwrap(), Made::Created);
        drop(draft);
        assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"ours");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_unlinked_draft_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(Draft::new(dir.path(), b"ours", 0o600, Sync::Now).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_replaced_file_has_only_the_new_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last");
        for text in ["a longer content", "short"] {
            replace_whole(&path, text.as_bytes(), 0o600, Sync::Now).unwrap();
            assert_eq!(fs::read(&path).unwrap(), text.as_bytes());
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_replacement_keeps_the_old_file_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("last");
        fs::create_dir(&path).unwrap();
        let error = replace_whole(&path, b"new", 0o600, Sync::Later).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EISDIR));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn reading_is_bounded_and_a_missing_file_reads_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        assert_eq!(read(&path, 10).unwrap(), None);
        for size in [0, 511, 512, 513, 5000] {
            fs::write(&path, vec![b'x'; size]).unwrap();
            assert_eq!(read(&path, 5000).unwrap().map(|bytes| bytes.len()), Some(size));
        }
        assert!(read(&path, 4999).is_err());
    }

    #[test]
    fn sweep_removes_only_our_temporaries() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10.0.0.2", "lock", ".moor-draft-77", ".hidden"] {
            fs::write(dir.path().join(name), "x").unwrap();
        }
        sweep(dir.path()).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".hidden", "10.0.0.2", "lock"]);
    }
}
