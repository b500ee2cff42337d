//! `moor lab`: a host to play with, of which nothing is left.

pub mod init;
mod switches;

use std::ffi::OsString;
use std::fs;

use clap::Args;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::helper::{Role, Start, shell};
use crate::space::refused;
use crate::supervise::{Orphans, wait_for};

const EXAMPLES: &str = "Examples:\n  \
    moor lab\n  \
    moor lab -- sh -c 'moor network create front && moor run --network front -- ip addr'";

/// A host to play with, also without root: own namespaces, an empty /run and /var/lib/cni, a copy of the
/// conflists; nothing of it is left, and its network has no outside
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct LabArgs {
    /// The command and its arguments, instead of $SHELL
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command, or a shell, in a lab.
pub fn run(context: &Context, args: LabArgs) -> Result<Exit, Failure> {
    let command = if args.command.is_empty() { vec![shell()] } else { args.command };
    start(context, &command)
}

/// Runs this process's own command line in a lab.
pub fn run_this_again(context: &Context) -> Result<Exit, Failure> {
    let again = [OsString::from("/proc/self/exe")].into_iter().chain(std::env::args_os().skip(1));
    start(context, &again.collect::<Vec<_>>())
}

fn start(context: &Context, command: &[OsString]) -> Result<Exit, Failure> {
    let failed = |failure: Failure| Failure { exit: Exit::Status(125), ..switches::explain(failure) };
    leave_host().map_err(failed)?;
    let count = OsString::from(context.dirs.len().to_string());
    let dirs = context.dirs.iter().map(|dir| dir.clone().into_os_string());
    let arguments: Vec<_> = [count].into_iter().chain(dirs).chain(command.iter().cloned()).collect();
    let mut init = Start { role: Role::Init, arguments: &arguments, inherits: None, has_terminal: true }
        .run()
        .map_err(failed)?;
    wait_for(&mut init.process, Orphans::Elsewhere)
}

/// Moves this process to namespaces of its own, in which its user is root. The pid namespace begins
/// with the next child.
fn leave_host() -> Result<(), Failure> {
    let (uid, gid) = (geteuid(), getegid());
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET;
    unshare(flags).map_err(|errno| match errno {
        Errno::ENOSPC => refused("make namespaces (the limit is reached)", errno),
        _ => refused("make namespaces", errno),
    })?;
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| refused(&format!("write {file}"), error))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}
