//! Executes another build of this program, which inherits the agent's lock and the control socket:
//! it answers who waits there. The host's lease is in a file, and lives on; the kernel's entries are
//! untouched.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use sys::{Error, Result};

use super::args::Args;
use super::start::Inherited;

/// The executable to become: the descriptor that came with the request, or the file at the path. It
/// must be root's or this user's, and nobody else's to write.
///
/// # Errors
/// It cannot be opened, or others may write it.
pub fn executable(path: &str, descriptors: Vec<OwnedFd>) -> io::Result<OwnedFd> {
    let file = match descriptors.into_iter().next() {
        Some(descriptor) => File::from(descriptor),
        None => File::open(path)?,
    };
    let meta = file.metadata()?;
    let is_ours = meta.uid() == 0 || meta.uid() == nix::unistd::geteuid().as_raw();
    if !meta.is_file() || !is_ours || meta.permissions().mode() & 0o022 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may write the file, or own it"));
    }
    Ok(file.into())
}

/// Executes it; returns only on failure.
pub fn exec(executable: &OwnedFd, args: &Args, kept: [BorrowedFd<'_>; 2]) -> io::Error {
    let hand_over = || -> io::Result<()> {
        let (write, read) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let numbers = kept.map(|kept| kept.as_raw_fd());
        let rights = [ControlMessage::ScmRights(&numbers)];
        sendmsg::<()>(write.as_raw_fd(), &[IoSlice::new(b"kept")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        nix::unistd::dup2_stdin(read)?;
        Ok(())
    };
    if let Err(error) = hand_over() {
        return error;
    }
    let mut arguments = vec![b"overlay-agent".to_vec(), b"serve".to_vec(), b"--inherit".to_vec()];
    let mut add = |name: &str, value: &[u8]| arguments.extend([name.as_bytes().to_vec(), value.to_vec()]);
    add("--settings", args.settings.as_os_str().as_bytes());
    add("--state", args.state.as_os_str().as_bytes());
    if let Some(run) = &args.run {
        add("--run", run.as_os_str().as_bytes());
    }
    if let Some(grace) = args.grace {
        add("--grace", grace.as_secs().to_string().as_bytes());
    }
    add("--free-for", args.free_for.as_secs().to_string().as_bytes());
    let arguments: Vec<CString> =
        arguments.into_iter().map(CString::new).filter_map(std::result::Result::ok).collect();
    match nix::unistd::fexecve(executable, &arguments, &[] as &[CString]) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Receives the lock and the control socket from standard input.
///
/// # Errors
/// Standard input is not such a socket.
pub fn take() -> Result<Inherited> {
    let fail = |cause: io::Error| Error::new("take over", "the sockets of a previous agent", cause);
    let mut buffer = [0; 16];
    let packet = sys::passing::receive(&io::stdin().as_fd(), &mut buffer).map_err(fail)?;
    let mut descriptors = packet.descriptors.into_iter();
    let null = File::open("/dev/null").map_err(fail)?;
    nix::unistd::dup2_stdin(null).map_err(|errno| fail(errno.into()))?;
    match (descriptors.next(), descriptors.next()) {
        (Some(lock), Some(socket)) => Ok((lock, socket)),
        _ => Err(fail(io::ErrorKind::UnexpectedEof.into())),
    }
}
