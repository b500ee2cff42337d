//! Restores records that were removed together with their directory while the responder runs.
//! If root started it, it runs as another user and cannot write them. The next plugin does,
//! from the responder's memory.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use cni::Error;
use daemon::is_system_root;

use crate::control::client::{self, call_connected};
use crate::control::{self, ControlRequest, ControlResponse, Entry};
use crate::record::{REMOTE_FILE_MAX, StateDir};

/// The longest list of records, in bytes: what the responder's memory may hold.
const LIST_MAX: u64 = 64 << 20;
/// O_TMPFILE (open(2)): a file that nobody else can open.
const NAMELESS: i32 = nix::fcntl::OFlag::O_TMPFILE.bits();

/// Whether to restore: there are no records, and a responder still has some.
#[must_use]
pub fn is_due(state_dir: &StateDir) -> bool {
    !state_dir.networks_dir().exists() && client::connect_fallback(state_dir).is_some()
}

/// Writes the records again if [`is_due`], and makes the responder use them. Callers hold the
/// plugins' lock.
///
/// # Errors
/// The responder does not answer, or the kernel refused; the next call tries again.
pub fn restore(state_dir: &StateDir) -> Result<(), Error> {
    if state_dir.networks_dir().exists() {
        return Ok(());
    }
    let Some(responder) = client::connect_fallback(state_dir) else { return Ok(()) };
    let list =
        OpenOptions::new().read(true).write(true).custom_flags(NAMELESS).mode(0o600).open(state_dir.dir())?;
    accepted(call_connected(&responder, &ControlRequest::Records, &[list.as_fd()])?)?;
    let draft = state_dir.draft();
    match fs::remove_dir_all(draft.networks_dir()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    write(&draft, list)?;
    admit(&draft)?;
    fs::rename(draft.networks_dir(), state_dir.networks_dir())?;
    eprintln!("dns: {} was removed: its records are written again", state_dir.networks_dir().display());
    settle(state_dir, &responder)
}

fn write(state_dir: &StateDir, mut list: File) -> Result<(), Error> {
    list.rewind()?;
    // Another user wrote this, so it is untrusted: its size is bounded, and no name in it
    // becomes a path.
    let mut lines = BufReader::new(list.take(LIST_MAX));
    let mut line = Vec::new();
    let mut last = None;
    loop {
        line.clear();
        let length = (&mut lines).take(REMOTE_FILE_MAX as u64).read_until(b'\n', &mut line)?;
        if length == 0 {
            return sys::file::create_dir(&state_dir.networks_dir(), 0o750).map_err(Error::from);
        }
        let entry: Entry = match serde_json::from_slice(&line) {
            Ok(entry) => entry,
            Err(error) => {
                eprintln!(
                    "dns: a record from the responder's memory cannot be read, and is skipped: {error}"
                );
                continue;
            }
        };
        if let Some(network) = entry.network {
            state_dir.put_network(&network)?;
            last = Some(network.name);
        }
        if let Some(attachment) = &entry.attachment {
            state_dir.put_attachment(attachment)?;
        }
        if let (Some(network), Some((host, names))) = (&last, &entry.host)
            && let Err(error) = state_dir.put_remote(network, host, names)
        {
            eprintln!("dns: names of another host are not written again: {error}");
        }
    }
}

/// Makes a responder use the records that are in `state_dir` now.
///
/// # Errors
/// It does not answer, or the kernel refused.
pub fn settle(state_dir: &StateDir, responder: &OwnedFd) -> Result<(), Error> {
    admit(state_dir)?;
    let dir = sys::file::open_dir(&state_dir.networks_dir())?;
    let plugins_lock = sys::file::open_lock(&state_dir.plugins_lock())?;
    // Only the responder that holds this lock listens at the socket beside it.
    let own = match sys::file::try_lock(&state_dir.responder_lock(), 0o600)? {
        Some(lock) => Some((OwnedFd::from(lock), control::at_path(&state_dir.control())?)),
        None => None,
    };
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![dir.as_fd(), plugins_lock.as_fd()];
    if let Some((lock, socket)) = &own {
        descriptors.extend([lock.as_fd(), socket.as_fd()]);
    }
    accepted(call_connected(responder, &ControlRequest::Settle, &descriptors)?)
}

fn admit(state_dir: &StateDir) -> Result<(), Error> {
    if is_system_root() {
        state_dir.let_responder_read()?;
    }
    Ok(())
}

fn accepted(answer: ControlResponse) -> Result<(), Error> {
    answer.error.map_or(Ok(()), |error| Err(Error::internal(error)))
}
