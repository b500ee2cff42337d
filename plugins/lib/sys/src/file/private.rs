//! Directories that no other user can enter. Anybody who can open a file or a directory can hold
//! its `flock` and block everyone else, and anybody who can write into a directory can replace its
//! entries.
//!
//! A directory is private when this process's user owns it, with all rights for the owner and none
//! for others. That also proves that the same user put its entries there. A directory found with
//! wider modes (made by an older version, or under a umask of 0) is closed first, then cleared of
//! what others may have put or opened there, and only then gets its final mode. Meanwhile the
//! sticky bit marks it, so that no process trusts it half done.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;

use nix::unistd::geteuid;

use super::show;
use crate::{Error, Result};

/// The mode of a private directory, and of the directories in it.
const DIR_MODE: u32 = 0o700;
/// A directory that is being cleared: for the owner only, with the sticky bit as a mark.
const CLEARING: u32 = 0o1700;
/// The mode bits that are compared; inherited bits (set-group-id) do not matter.
const BITS: u32 = 0o1777;
const OTHERS: u32 = 0o077;
const WRITABLE: u32 = 0o022;
/// The mode of directories above the private ones.
const PARENTS_MODE: u32 = 0o755;

/// State that lives as long as the kernel objects it describes; this directory and those in it are
/// private.
pub const RUN_DIR: &str = "/run/moor";

/// Makes sure that the directory `path` and the `depth - 1` directories above it exist and are
/// private. Directories further up are not checked, and are created with mode 0755 if missing.
///
/// # Errors
/// A directory cannot be created; or it belongs to another user, or is not a directory, and is not
/// trusted.
pub fn make_private_dir(path: &Path, depth: usize) -> Result<()> {
    for dir in from_the_top(path, depth) {
        if look(dir)?.is_none() {
            make(dir)?;
        }
    }
    Ok(())
}

/// As [`make_private_dir`], but creates nothing: false when a directory is missing.
///
/// # Errors
/// A directory cannot be examined or closed; or it belongs to another user, or is not a directory.
pub fn has_private_dir(path: &Path, depth: usize) -> Result<bool> {
    for dir in from_the_top(path, depth) {
        if look(dir)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn from_the_top(path: &Path, depth: usize) -> impl Iterator<Item = &Path> {
    let mut dirs: Vec<&Path> = path.ancestors().take(depth.max(1)).collect();
    dirs.reverse();
    dirs.into_iter()
}

/// The common case, which only checks; `None` when nothing has that name.
fn look(dir: &Path) -> Result<Option<()>> {
    match fs::symlink_metadata(dir) {
        Ok(meta) if is_private(&meta) => Ok(Some(())),
        Ok(_) => close(dir).map(Some),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::new("read", show(dir), cause)),
    }
}

fn is_private(meta: &Metadata) -> bool {
    meta.is_dir() && meta.mode() & BITS == DIR_MODE && is_ours(meta)
}

fn is_ours(meta: &Metadata) -> bool {
    static USER: OnceLock<u32> = OnceLock::new();
    meta.uid() == *USER.get_or_init(|| geteuid().as_raw())
}

fn make(dir: &Path) -> Result<()> {
    let mut made = fs::DirBuilder::new().mode(DIR_MODE).create(dir);
    if made.as_ref().is_err_and(|cause| cause.kind() == io::ErrorKind::NotFound)
        && let Some(parent) = dir.parent()
    {
        super::create_dir(parent, PARENTS_MODE)?;
        made = fs::DirBuilder::new().mode(DIR_MODE).create(dir);
    }
    match made {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::new("create directory", show(dir), cause))
        }
        // Another process may have created it first, or the umask may have removed the owner's
        // rights.
        _ => look(dir).and_then(|found| {
            found.ok_or_else(|| {
                Error::new("create directory", show(dir), io::Error::from_raw_os_error(libc::ENOENT))
            })
        }),
    }
}

/// Makes an existing directory private, by its descriptor, so that it cannot be swapped meanwhile.
fn close(dir: &Path) -> Result<()> {
    let opened =
        OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(dir).map_err(
            |cause| match cause.raw_os_error() {
                Some(libc::ENOTDIR | libc::ELOOP) => refused(dir, "it is no directory"),
                _ => Error::new("open directory", show(dir), cause),
            },
        )?;
    let meta = opened.metadata().map_err(|cause| Error::new("read", show(dir), cause))?;
    if !is_ours(&meta) {
        return Err(refused(dir, &format!("it belongs to user {}", meta.uid())));
    }
    if meta.mode() & (OTHERS | CLEARING & !DIR_MODE) != 0 {
        set_mode(&opened, dir, CLEARING)?;
        clear(dir)?;
        eprintln!("{} was open to other users (mode {:04o}): closed it", dir.display(), meta.mode() & 0o7777);
    }
    set_mode(&opened, dir, DIR_MODE)
}

fn set_mode(opened: &File, dir: &Path, mode: u32) -> Result<()> {
    opened
        .set_permissions(Permissions::from_mode(mode))
        .map_err(|cause| Error::new("change the mode of", show(dir), cause))
}

/// Removes what others may have put into a directory, written to, or locked. Our own subdirectories
/// are checked when they are used.
fn clear(dir: &Path) -> Result<()> {
    let fail = |cause| Error::new("list", show(dir), cause);
    for entry in fs::read_dir(dir).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let Some(meta) = gone_or(fs::symlink_metadata(&path)).map_err(fail)? else { continue };
        let ours = is_ours(&meta);
        let kind = meta.file_type();
        let removed = match (ours, kind.is_dir()) {
            (true, true) => continue,
            (true, false) if kind.is_socket() || kind.is_file() && is_sound(&meta) => continue,
            (_, false) => fs::remove_file(&path),
            (false, true) => fs::remove_dir(&path),
        };
        match gone_or(removed) {
            Ok(_) => {}
            Err(_) if !ours => return Err(refused(&path, &format!("it belongs to user {}", meta.uid()))),
            Err(cause) => return Err(Error::new("remove", show(&path), cause)),
        }
    }
    Ok(())
}

/// Whether nobody else can have written to a file or, if it is a lock (which is empty, and created
/// again), hold it.
fn is_sound(file: &Metadata) -> bool {
    file.mode() & WRITABLE == 0 && (file.len() > 0 || file.mode() & OTHERS == 0)
}

/// Maps "not found" to `None`: another process has removed it meanwhile.
fn gone_or<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

fn refused(path: &Path, why: &str) -> Error {
    let cause = io::Error::new(io::ErrorKind::PermissionDenied, format!("{why}; look at it, then remove it"));
    Error::new("trust", show(path), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn created_directories_are_private_and_parents_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("run/moor/intent");
        assert!(!has_private_dir(&inner, 2).unwrap());
        make_private_dir(&inner, 2).unwrap();
        assert_eq!((mode(&inner), mode(&dir.path().join("run/moor"))), (0o700, 0o700));
        assert_ne!(mode(&dir.path().join("run")), 0o700);
        assert!(has_private_dir(&inner, 2).unwrap());
    }

    #[test]
    fn a_directory_with_wider_modes_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        for wide in [0o755, 0o777, 0o1700, 0o1777, 0o710, 0o500, 0o400] {
            let path = dir.path().join(format!("{wide:o}"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("record"), "ours").unwrap();
            set(&path.join("record"), 0o600);
            set(&path, wide);
            assert!(has_private_dir(&path, 1).unwrap());
            assert_eq!(mode(&path), 0o700, "{wide:o}");
            assert_eq!(fs::read(path.join("record")).unwrap(), b"ours");
        }
    }

    /// Other users may hold their locks.
    #[test]
    fn files_that_others_could_open_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("moor");
        fs::create_dir(&path).unwrap();
        fs::create_dir(path.join("intent")).unwrap();
        for (name, text, mode) in [("iptables.lock", "", 0o644), ("text", "x", 0o666), ("kept", "x", 0o644)] {
            fs::write(path.join(name), text).unwrap();
            set(&path.join(name), mode);
        }
        std::os::unix::fs::symlink("/etc/passwd", path.join("link")).unwrap();
        set(&path, 0o755);
        make_private_dir(&path, 1).unwrap();
        let mut left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["intent", "kept"]);
    }

    #[test]
    fn links_and_files_are_refused_as_directories() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        fs::create_dir(&real).unwrap();
        set(&real, 0o755);
        std::os::unix::fs::symlink(&real, dir.path().join("link")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for name in ["link", "file"] {
            let error = make_private_dir(&dir.path().join(name), 1).unwrap_err();
            assert!(format!("{error:#}").contains("remove it"), "{error:#}");
        }
        assert_eq!(mode(&real), 0o755);
    }

    #[test]
    fn a_directory_of_another_user_is_refused_and_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs");
        fs::create_dir(&path).unwrap();
        set(&path, 0o755);
        // Only root can change a file's owner.
        if std::os::unix::fs::chown(&path, Some(65534), None).is_ok() {
            let error = make_private_dir(&path, 1).unwrap_err();
            assert!(format!("{error:#}").contains("belongs to user 65534"), "{error:#}");
            assert_eq!(mode(&path), 0o755);
        }
    }
}
