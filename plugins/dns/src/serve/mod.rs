//! The responder: one process with one thread for all networks of a network namespace.
//!
//! Its only state outside the record files is its sockets. It holds [`StateDir::responder_lock`]
//! while it runs, and exits when there has been no attachment for some time.

mod args;
mod confine;
mod connections;
mod control;
mod listeners;
mod log;
mod pace;
mod presence;
mod reexec;
mod responder;
mod watch;

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use args::Args;
use responder::Responder;

#[cfg(doc)]
use crate::record::StateDir;

/// Runs the responder: the command `serve --place DIR [--grace SECONDS] [--ready-fd N]`. It
/// exits when there has been no attachment for the grace period.
///
/// `--ready-fd`: a descriptor that gets one line once queries are answered: `ok`, or the error.
///
/// # Errors
/// Another responder is running there, the records cannot be listed, or the kernel refused. An
/// address that cannot be bound is reported to the plugin that asks for its network instead.
pub fn main(arguments: &[OsString]) -> Result<(), cni::Error> {
    // This process goes on.
    sys::memory::use_system_allocator();
    let args = Args::read(arguments)?;
    let ready = args.ready_fd.map(take_descriptor).transpose()?;
    let started = Responder::start(&args).map_err(|error| format!("{error:#}"));
    if started.is_ok() {
        notify_systemd();
    }
    if let Some(mut ready) = ready {
        let line = started.as_ref().map_or_else(|error| error.replace('\n', " "), |_| "ok".into());
        // The reader may be gone.
        let _ = writeln!(ready, "{line}");
    }
    let ended = started.and_then(|responder| responder.run().map_err(|error| format!("{error:#}")));
    ended.map_err(cni::Error::internal)
}

/// Notifies systemd, if it started this process, that queries are answered (sd_notify(3)).
fn notify_systemd() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // Nobody may be listening.
    let _ = UnixDatagram::unbound().and_then(|socket| match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.send_to_addr(b"READY=1", &SocketAddr::from_abstract_name(name)?),
        None => socket.send_to(b"READY=1", path),
    });
}

/// Reopens the descriptor as a file by way of /proc and closes its number, so that closing the
/// file closes the pipe.
fn take_descriptor(number: u32) -> Result<File, cni::Error> {
    let file = File::options()
        .write(true)
        .open(format!("/proc/self/fd/{number}"))
        .map_err(|error| cni::Error::internal(format!("open --ready-fd {number}: {error}")))?;
    let null = || File::options().write(true).open("/dev/null");
    // It was open a moment ago, and nothing else here uses it.
    let _ = match i32::try_from(number) {
        // No socket may get the number of a standard stream.
        Ok(1) => null().map(|null| nix::unistd::dup2_stdout(null).is_ok()),
        Ok(2) => null().map(|null| nix::unistd::dup2_stderr(null).is_ok()),
        Ok(number) if number > 2 => Ok(nix::unistd::close(number).is_ok()),
        _ => Ok(false),
    };
    Ok(file)
}
