//! The daemon: one process with one thread that keeps the leases of all attachments. It asks for
//! more time, and takes an address off its link when its time is over.
//!
//! Its only state outside the records is exchanges in progress, so it can be killed and started
//! again at any time. It opens a packet socket in a container's namespace for one exchange only: an
//! open socket would keep the namespace alive.

mod args;
mod connections;
mod leases;
mod link;
mod listen;
mod run;
mod step;

use std::ffi::{CStr, OsString};
use std::fmt::Display;
use std::io::Write;

use args::Args;
use daemon::launch::detach_from_caller;
use daemon::ready::Report;
use run::Running;

/// The name of the process (comm, proc(5)).
const PROCESS_NAME: &CStr = c"moor-dhcp";

/// Runs the daemon: the command `daemon [flags]`.
///
/// # Errors
/// Another daemon is running there, or the kernel refused.
pub fn main(arguments: &[OsString]) -> Result<(), cni::Error> {
    // This process goes on.
    sys::memory::use_system_allocator();
    let args = Args::read(arguments)?;
    if args.ready_fd.is_some() {
        detach_from_caller(PROCESS_NAME);
    }
    let ready = Report::take(args.ready_fd)
        .map_err(|error| cni::Error::internal(format!("open the descriptor of -ready-fd: {error}")))?;
    let started = Running::start(args).map_err(|error| format!("{error:#}"));
    ready.send(started.as_ref().map(drop).map_err(String::as_str));
    let ended = started.and_then(|running| running.run().map_err(|error| format!("{error:#}")));
    ended.map_err(cni::Error::internal)
}

/// Prints a line of the log: standard error, which the journal keeps.
fn log(line: &dyn Display) {
    // A log that cannot be written to stops nothing.
    let _ = writeln!(std::io::stderr(), "dhcp: {line}");
}
