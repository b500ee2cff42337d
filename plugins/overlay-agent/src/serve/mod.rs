//! The command `serve`: one process with three threads for all networks of a network namespace.
//!
//! It holds `agent.lock` while it runs. Killed at any moment, it leaves files and records from which
//! the next one goes on.

mod args;
mod connections;
mod listen;
mod reexec;
mod run;
mod start;

use std::ffi::{CStr, OsString};

use daemon::launch::detach_from_caller;
use daemon::ready::Report;

use args::Args;
use run::Running;

/// The name of the process (comm, proc(5)).
pub const PROCESS_NAME: &CStr = c"moor-overlay";

/// Runs the agent: `serve [--settings FILE] [--state DIR] [--run DIR] [--ready-fd N] [--grace SECONDS]`.
///
/// `--ready-fd`: a descriptor that gets one line once plugins are answered: `ok`, or the error.
/// `--grace`: the agent ends when there has been no attachment and no lease on the host for so long,
/// and takes the host's records out of etcd first. Without it, and so by default, it stays: a host that
/// only sometimes has containers keeps its blocks, and hosts that publish ports need no container.
///
/// # Errors
/// Another agent is running there, the files cannot be used, or the kernel refused.
pub fn main(arguments: &[OsString]) -> Result<(), String> {
    let args = Args::read(arguments)?;
    if args.ready_fd.is_some() {
        detach_from_caller(PROCESS_NAME);
    }
    let ready =
        Report::take(args.ready_fd).map_err(|error| format!("open the descriptor of --ready-fd: {error}"))?;
    let started = start::start(args).map_err(|error| format!("{error:#}"));
    ready.send(started.as_ref().map(drop).map_err(String::as_str));
    started.and_then(|running: Running| running.run().map_err(|error| format!("{error:#}")))
}
