//! How a started process reports that it is ready.

use std::fs::File;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::launch::READY;

/// Whom a started process reports to: the launcher by a pipe, and systemd.
#[derive(Debug, Default)]
pub struct Report(Option<File>);

impl Report {
    /// Takes over the descriptor of `--ready-fd`: reopens it as a file by way of /proc and closes
    /// its number, so that closing the file closes the pipe.
    ///
    /// # Errors
    /// It is not open for writing.
    pub fn take(number: Option<u32>) -> io::Result<Self> {
        let Some(number) = number else { return Ok(Self(None)) };
        let file = File::options().write(true).open(format!("/proc/self/fd/{number}"))?;
        let null = || File::options().write(true).open("/dev/null");
        // It was open a moment ago, and nothing else here uses it.
        let _ = match i32::try_from(number) {
            // No socket may get the number of a standard stream.
            Ok(1) => null().map(|null| nix::unistd::dup2_stdout(null).is_ok()),
            Ok(2) => null().map(|null| nix::unistd::dup2_stderr(null).is_ok()),
            Ok(number) if number > 2 => Ok(nix::unistd::close(number).is_ok()),
            _ => Ok(false),
        };
        Ok(Self(Some(file)))
    }

    /// Reports that the process is ready, or why it cannot serve.
    pub fn send(self, started: Result<(), &str>) {
        if started.is_ok() {
            notify_systemd();
        }
        if let Some(mut ready) = self.0 {
            let line = started.map_or_else(|error| error.replace('\n', " "), |()| READY.into());
            // The reader may be gone.
            let _ = writeln!(ready, "{line}");
        }
    }
}

/// Notifies systemd, if it started this process, that it is ready (sd_notify(3)).
fn notify_systemd() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    // Nobody may be listening.
    let _ = UnixDatagram::unbound().and_then(|socket| match path.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.send_to_addr(b"READY=1", &SocketAddr::from_abstract_name(name)?),
        None => socket.send_to(b"READY=1", path),
    });
}
