//! Records that were removed as a whole, with their directory, while their responder lives: it is another user than root
//! where root started it, and cannot write them again. The next plugin does, from its memory.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use cni::Error;

use crate::control::client::{self, ask_connected};
use crate::control::{self, Answer, Ask, Entry};
use crate::place::is_system_root;
use crate::record::{FILE_MAX, Place};

/// The longest list of records, in bytes: one that the responder's memory has room for.
const LIST_MAX: u64 = 64 << 20;
/// O_TMPFILE (open(2)): nobody else can have it.
const NAMELESS: i32 = nix::fcntl::OFlag::O_TMPFILE.bits();

/// Whether there may be something to take back: no records, and a responder that answers by some.
#[must_use]
pub fn is_due(place: &Place) -> bool {
    !place.networks_dir().exists() && client::at_rear(place).is_some()
}

/// Writes the records again where [`is_due`], and has the responder go on with them. Callers hold the place's lock.
///
/// # Errors
/// The responder does not answer, or the kernel refused; the next call tries again.
pub fn restore(place: &Place) -> Result<(), Error> {
    if place.networks_dir().exists() {
        return Ok(());
    }
    let Some(responder) = client::at_rear(place) else { return Ok(()) };
    let list =
        OpenOptions::new().read(true).write(true).custom_flags(NAMELESS).mode(0o600).open(place.dir())?;
    accepted(ask_connected(&responder, &Ask::Records, &[list.as_fd()])?)?;
    let draft = place.drafted();
    match fs::remove_dir_all(draft.networks_dir()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    write(&draft, list)?;
    admit(&draft)?;
    fs::rename(draft.networks_dir(), place.networks_dir())?;
    eprintln!("dns: {} was removed: its records are written again", place.networks_dir().display());
    settle(place, &responder)
}

fn write(place: &Place, mut list: File) -> Result<(), Error> {
    list.rewind()?;
    // What another user wrote is looked at as any input: bounded, and no name of it is part of a path.
    let mut lines = BufReader::new(list.take(LIST_MAX));
    let mut line = Vec::new();
    loop {
        line.clear();
        let length = (&mut lines).take(FILE_MAX as u64).read_until(b'\n', &mut line)?;
        if length == 0 {
            return sys::file::create_dir(&place.networks_dir(), 0o750).map_err(Error::from);
        }
        let entry: Entry = match serde_json::from_slice(&line) {
            Ok(entry) => entry,
            Err(error) => {
                eprintln!("dns: a record of the responder's cannot be read, and is left out: {error}");
                continue;
            }
        };
        if let Some(network) = &entry.network {
            place.put_network(network)?;
        }
        if let Some(attachment) = &entry.attachment {
            place.put_attachment(attachment)?;
        }
    }
}

/// Has the responder at the other end go on with the records that are there now.
///
/// # Errors
/// It does not answer, or the kernel refused.
pub fn settle(place: &Place, responder: &OwnedFd) -> Result<(), Error> {
    admit(place)?;
    let dir = sys::file::open_dir(&place.networks_dir())?;
    let plugins_lock = sys::file::open_lock(&place.plugins_lock())?;
    // One that holds it listens at the socket beside it.
    let own = match sys::file::try_lock(&place.responder_lock(), 0o600)? {
        Some(lock) => Some((OwnedFd::from(lock), control::at_path(&place.control())?)),
        None => None,
    };
    let mut handed: Vec<BorrowedFd<'_>> = vec![dir.as_fd(), plugins_lock.as_fd()];
    if let Some((lock, socket)) = &own {
        handed.extend([lock.as_fd(), socket.as_fd()]);
    }
    accepted(ask_connected(responder, &Ask::Settle, &handed)?)
}

fn admit(place: &Place) -> Result<(), Error> {
    if is_system_root() {
        place.admit()?;
    }
    Ok(())
}

fn accepted(answer: Answer) -> Result<(), Error> {
    answer.error.map_or(Ok(()), |error| Err(Error::internal(error)))
}
