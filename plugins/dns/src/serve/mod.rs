//! The responder: one process with one thread for all networks of a network namespace.
//!
//! Its only state outside the record files is its sockets. It holds [`StateDir::responder_lock`]
//! while it runs, and exits when there has been no attachment for some time.

mod args;
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

use args::Args;
use daemon::ready::Report;
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
    let ready = Report::take(args.ready_fd)
        .map_err(|error| cni::Error::internal(format!("open the descriptor of --ready-fd: {error}")))?;
    let started = Responder::start(&args).map_err(|error| format!("{error:#}"));
    ready.send(started.as_ref().map(drop).map_err(String::as_str));
    let ended = started.and_then(|responder| responder.run().map_err(|error| format!("{error:#}")));
    ended.map_err(cni::Error::internal)
}
