//! The process that becomes the command: it makes the namespace, waits until that is attached, and
//! executes.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::net::UnixStream;

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::failure::{Exit, Failure};
use crate::helper::{become_command, report_ready};
use crate::space::{furnish, leave_mounts, refused, set_loopback_up};

/// Becomes the command.
pub fn run(socket: &mut UnixStream, command: &[OsString]) -> Result<Exit, Failure> {
    // The command ends with `run`, as that of a container runtime does.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| refused("ask for a signal", errno))?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| refused("make a network namespace", errno))?;
    leave_mounts()?;
    set_loopback_up()?;
    report_ready(socket)?;
    let mut text = String::new();
    let read = socket.read_to_string(&mut text);
    // Without a word of the parent the command does not run: an ADD has failed, or the parent died.
    let Some(resolv_conf) = read.ok().and_then(|_| serde_json::from_str::<Option<String>>(&text).ok()) else {
        return Ok(Exit::Status(125));
    };
    if let Err(failure) = furnish(resolv_conf.as_deref()) {
        eprintln!("moor: {failure}");
        return Ok(Exit::Status(125));
    }
    Ok(become_command(command))
}
