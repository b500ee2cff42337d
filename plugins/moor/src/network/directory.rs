//! The configuration directory while it is changed: locked against other tools, and never with half
//! a file.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::stat::{Mode, umask};
use sys::file::{self, Draft, Hold, Made, Sync};

use crate::failure::Failure;

/// How long each lock is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);
/// F_WRLCK (asm-generic/fcntl.h) and SEEK_SET (linux/fs.h), as wide as a record lock has them.
const WRITE_LOCK: libc::c_short = 1;
const FROM_START: libc::c_short = 0;

/// A directory that nobody else changes.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    _others: Vec<File>,
}

impl Directory {
    /// Locks the directory, and creates it if it is missing; also by the locks of nerdctl and podman
    /// where these are there.
    pub fn lock(path: &Path) -> Result<Self, Failure> {
        file::create_dir(path, 0o755).map_err(Failure::from)?;
        let handle = file::open_dir(path)?;
        file::lock_bounded(&handle, path, Hold::Alone, PATIENCE)?;
        let mut others = Vec::new();
        if let Some(nerdctl) = open_lock(&path.join(".nerdctl.lock"))? {
            file::lock_bounded(&nerdctl, &path.join(".nerdctl.lock"), Hold::Alone, PATIENCE)?;
            others.push(nerdctl);
        }
        if let Some(podman) = open_lock(&path.join("cni.lock"))? {
            lock_record(&podman, &path.join("cni.lock"))?;
            others.push(podman);
        }
        Ok(Self { path: path.to_owned(), handle, _others: others })
    }

    /// Writes a new file, whole and readable by all.
    pub fn create(&self, name: &str, text: &[u8]) -> Result<(), Failure> {
        // What a killed process has left here has a name that no runtime reads.
        file::sweep(&self.path)?;
        let before = umask(Mode::from_bits_truncate(0o022));
        let made = Draft::new(&self.path, text, 0o644, Sync::Now).and_then(|mut draft| draft.link(name));
        umask(before);
        match made? {
            Made::Created => Ok(file::sync_dir(&self.handle, &self.path)?),
            Made::Exists => {
                Err(Failure::refused(format!("{} is there already", self.path.join(name).display())))
            }
        }
    }

    /// Removes a file of the directory.
    pub fn remove(&self, file: &Path) -> Result<(), Failure> {
        file::remove(file)?;
        Ok(file::sync_dir(&self.handle, &self.path)?)
    }
}

/// Opens a lock that another tool has made; what is no regular file is not one.
fn open_lock(path: &Path) -> Result<Option<File>, Failure> {
    let opened = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    match opened {
        Ok(file) if file.metadata().is_ok_and(|about| about.is_file()) => Ok(Some(file)),
        Ok(_) => Ok(None),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(sys::Error::new("open the lock", path.display().to_string(), cause).into()),
    }
}

/// Podman's lock is a record lock, which `flock` does not see. One of the open file conflicts with
/// it, and no other descriptor of this process can release it.
fn lock_record(file: &File, path: &Path) -> Result<(), Failure> {
    let whole = libc::flock { l_type: WRITE_LOCK, l_whence: FROM_START, l_start: 0, l_len: 0, l_pid: 0 };
    let began = Instant::now();
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&whole)) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN | Errno::EACCES) if began.elapsed() < PATIENCE => sleep(PAUSE),
            Err(Errno::EAGAIN | Errno::EACCES) => {
                let waited = PATIENCE.as_secs();
                let text = format!("lock {}: still held after {waited} s, by podman", path.display());
                return Err(Failure::refused(text));
            }
            Err(cause) => return Err(sys::Error::new("lock", path.display().to_string(), cause).into()),
        }
    }
}
