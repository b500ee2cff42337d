//! `flock` with a bounded wait: the holder of a lock may be stopped, or stuck in the kernel. The
//! error names the holder, so that an administrator can end it.

use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::sys::stat::{major, minor};

use super::show;
use crate::{Error, Result};

/// How long a process waits for locks in total. Holders need milliseconds; a hundred of them in a
/// row, each syncing a slow disk, need seconds. Runtimes give up after two minutes or more.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a daemon waits for the end of the one before it.
const SUCCESSION: Duration = Duration::from_secs(2);

/// The part of [`PATIENCE`] already used, in milliseconds.
static WAITED: AtomicU64 = AtomicU64::new(0);

/// The first pause between two attempts; pauses double up to the last one. `flock` itself has no
/// timeout.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LAST_PAUSE: Duration = Duration::from_millis(10);
/// The most holders that an error names.
const HOLDERS_SHOWN: usize = 3;
/// Larger than any list of locks, in bytes.
const LOCKS_MAX: usize = 4 << 20;

/// How a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Together with other shared holders.
    Shared,
    /// Exclusively.
    Alone,
}

/// Opens the lock file, creating it with `mode`, and waits for its exclusive `flock`; closing the
/// file or ending the process releases it. A filesystem that cannot lock is an error: without a
/// lock two containers could get the same address.
///
/// # Errors
/// The file cannot be opened, or the lock is held for longer than [`PATIENCE`]: EAGAIN, with the
/// holder's name.
pub fn lock(path: &Path, mode: u32) -> Result<File> {
    lock_as(path, mode, Hold::Alone)
}

/// As [`lock`], shared or exclusive.
///
/// # Errors
/// As for [`lock`].
pub fn lock_as(path: &Path, mode: u32, hold: Hold) -> Result<File> {
    // std requires write access to create a file; the kernel and the reference do not.
    let file = opened(path, mode, OFlag::O_RDONLY)?;
    let left = PATIENCE.saturating_sub(Duration::from_millis(WAITED.load(Ordering::Relaxed)));
    lock_bounded(&file, path, hold, left)?;
    Ok(file)
}

/// Waits for the `flock` of an open file, at most for `patience`; `path` is its name, for errors.
///
/// # Errors
/// The filesystem cannot lock, or the lock is held all that time: EAGAIN, with the holder's name.
pub fn lock_bounded(file: &File, path: &Path, hold: Hold, patience: Duration) -> Result<()> {
    let began = Instant::now();
    let tried = try_for(file, hold, patience);
    let waited = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    WAITED.fetch_add(waited, Ordering::Relaxed);
    tried.map_err(|error| match error {
        TryLockError::WouldBlock => still_held(file, path, patience),
        TryLockError::Error(cause) => Error::new("lock", show(path), cause),
    })
}

/// Tries to lock an open file until `patience` is over.
fn try_for(file: &File, hold: Hold, patience: Duration) -> std::result::Result<(), TryLockError> {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        let tried = match hold {
            Hold::Shared => file.try_lock_shared(),
            Hold::Alone => file.try_lock(),
        };
        if !matches!(tried, Err(TryLockError::WouldBlock)) || began.elapsed() >= patience {
            return tried;
        }
        sleep(pause);
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// As [`lock`], but does not wait: `None` when the lock is held. The file may be written to.
///
/// # Errors
/// It cannot be opened, or the filesystem cannot lock.
pub fn try_lock(path: &Path, mode: u32) -> Result<Option<File>> {
    try_lock_for(path, mode, Duration::ZERO)
}

/// The lock of a daemon, of which there is one: `None` when another one lives. It waits for
/// [`SUCCESSION`], since one that was killed holds its lock until the kernel has closed its files,
/// which may be after its socket. The file may be written to.
///
/// # Errors
/// It cannot be opened, or the filesystem cannot lock.
pub fn lock_of_daemon(path: &Path, mode: u32) -> Result<Option<File>> {
    try_lock_for(path, mode, SUCCESSION)
}

fn try_lock_for(path: &Path, mode: u32, patience: Duration) -> Result<Option<File>> {
    let file = opened(path, mode, OFlag::O_RDWR)?;
    match try_for(&file, Hold::Alone, patience) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(cause)) => Err(Error::new("lock", show(path), cause)),
    }
}

/// Opens a lock file without taking the lock, creating it for the owner alone.
///
/// # Errors
/// The kernel refused.
pub fn open_lock(path: &Path) -> Result<File> {
    opened(path, 0o600, OFlag::O_RDONLY)
}

fn opened(path: &Path, mode: u32, access: OFlag) -> Result<File> {
    let flags = access | OFlag::O_CREAT | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, nix::sys::stat::Mode::from_bits_truncate(mode))
        .map(File::from)
        .map_err(|cause| Error::new("open the lock", show(path), cause))
}

fn still_held(file: &File, path: &Path, patience: Duration) -> Error {
    let holders = holders(file).unwrap_or_default();
    Error::Kernel {
        op: "lock",
        object: show(path),
        message: Some(format!("still held after {:.1} s by {}", patience.as_secs_f32(), named(&holders))),
        source: io::Error::from_raw_os_error(libc::EAGAIN),
    }
}

/// Returns the processes that hold a `flock` of the file, numbered as in this process's pid
/// namespace; 0 for one outside of it. `None` when the kernel's list cannot be read.
fn holders(file: &File) -> Option<Vec<u32>> {
    let meta = file.metadata().ok()?;
    let bytes = super::read(Path::new("/proc/locks"), LOCKS_MAX).ok()??;
    let list = String::from_utf8_lossy(&bytes);
    let exact = listed(&list, |device, inode| {
        device == format!("{:02x}:{:02x}", major(meta.dev()), minor(meta.dev())) && inode == meta.ino()
    });
    // Some filesystems show a file under another device number than the one they lock it by (btrfs,
    // overlayfs).
    Some(if exact.is_empty() { listed(&list, |_, inode| inode == meta.ino()) } else { exact })
}

/// Returns the pids in `/proc/locks` that hold a `flock` (`7: FLOCK  ADVISORY  WRITE 1234 00:1a:77
/// 0 EOF`). Waiters have an arrow in the second column.
fn listed(list: &str, is_it: impl Fn(&str, u64) -> bool) -> Vec<u32> {
    let pid = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        (words.next()? == "FLOCK").then_some(())?;
        let pid = words.nth(2)?.parse().ok()?;
        let (device, inode) = words.next()?.rsplit_once(':')?;
        is_it(device, inode.parse().ok()?).then_some(pid)
    };
    list.lines().filter_map(pid).collect()
}

fn named(holders: &[u32]) -> String {
    let mut text = String::new();
    for (n, pid) in holders.iter().take(HOLDERS_SHOWN).enumerate() {
        text.push_str(if n == 0 { "" } else { ", " });
        text.push_str(&process(*pid));
    }
    match holders.len().checked_sub(HOLDERS_SHOWN) {
        // Depending on its version, the kernel omits holders of other pid namespaces or lists them
        // as 0.
        None if holders.is_empty() => return process(0),
        Some(more) if more > 0 => {
            // Writing to a string does not fail.
            let _ = write!(text, " and {more} more");
        }
        _ => {}
    }
    text
}

/// Describes a process for an administrator: its pid, its name, and whether it is stopped.
fn process(pid: u32) -> String {
    if pid == 0 {
        return "a process that is not visible here (of another pid namespace, or ended)".into();
    }
    let read = |name: &str| {
        let bytes = super::read(Path::new(&format!("/proc/{pid}/{name}")), 4096).ok()??;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    };
    let Some(name) = read("comm") else { return format!("process {pid}") };
    let name = name.trim_end().escape_debug();
    // The state follows the name, which may contain parentheses (proc(5)).
    let state = read("stat").and_then(|stat| stat.rsplit_once(") ")?.1.chars().next());
    match state {
        Some('T' | 't') => format!("process {pid} ({name}), which is stopped: continue it or end it"),
        _ => format!("process {pid} ({name})"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[test]
    fn the_lock_is_compatible_with_flock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path, 0o750).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o750, 0o750);
        let other = File::open(&path).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(held);
        other.try_lock().unwrap();
    }

    #[test]
    fn a_lock_that_stays_held_fails_with_its_holders_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let _held = lock(&path, 0o600).unwrap();
        let other = File::open(&path).unwrap();
        for hold in [Hold::Alone, Hold::Shared] {
            let error = lock_bounded(&other, &path, hold, SHORT).unwrap_err();
            assert_eq!(error.errno(), Some(libc::EAGAIN));
            let pid = format!("process {} (", std::process::id());
            assert!(format!("{error:#}").contains(&pid), "{error:#}");
        }
    }

    #[test]
    fn a_daemon_waits_for_the_end_of_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_lock(&path, 0o600).unwrap().unwrap();
        assert!(try_lock(&path, 0o600).unwrap().is_none());
        let ending = std::thread::spawn(move || {
            sleep(SHORT);
            drop(held);
        });
        let own = lock_of_daemon(&path, 0o600).unwrap().unwrap();
        ending.join().unwrap();
        assert!(try_lock(&path, 0o600).unwrap().is_none());
        drop(own);
    }

    #[test]
    fn a_lock_is_taken_once_its_holder_releases_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock_as(&path, 0o600, Hold::Shared).unwrap();
        let letting_go = std::thread::spawn(move || {
            sleep(SHORT);
            drop(held);
        });
        let _both = lock_as(&path, 0o600, Hold::Shared).unwrap();
        drop(_both);
        lock(&path, 0o600).unwrap();
        letting_go.join().unwrap();
    }

    #[test]
    fn holders_are_listed_and_waiters_are_not() {
        let list = "1: FLOCK  ADVISORY  WRITE 12 00:1a:77 0 EOF\n1: -> FLOCK  ADVISORY  READ 13 00:1a:77 0 EOF\n\
                    2: POSIX  ADVISORY  WRITE 14 00:1a:77 0 EOF\n3: FLOCK  ADVISORY  READ 0 00:1a:77 0 EOF\n\
                    4: FLOCK  ADVISORY  READ 15 08:01:77 0 EOF\nrubbish\n";
        assert_eq!(listed(list, |device, inode| device == "00:1a" && inode == 77), [12, 0]);
        assert!(named(&[]).contains("not visible here"));
        assert!(named(&[0, 0, 0, 0, 0]).ends_with("and 2 more"));
    }
}
