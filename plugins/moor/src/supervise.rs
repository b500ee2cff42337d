//! Waits for the end of a command, and hands signals to it.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd, siginfo};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use sys::process::Process;

use crate::failure::{Exit, Failure};
use crate::space::refused;

/// The signals that are handed on.
const HANDED_ON: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
/// signal(7): a status above this one is that of a signal.
const SIGNALLED: i32 = 128;
/// linux/siginfo.h: the kernel sent it, here the terminal.
const SI_KERNEL: i32 = 0x80;

/// Whether orphans become children of this process, which then has to wait for them, too.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Orphans {
    /// Another process gets them.
    Elsewhere,
    /// This is the first process of its pid namespace.
    Here,
}

/// Waits for the end of the command; signals that this process gets meanwhile are the command's.
pub fn wait_for(command: &mut Child, orphans: Orphans) -> Result<Exit, Failure> {
    let failed = |errno: Errno| refused("wait for the command", errno);
    let process = Process::open(command.id()).map_err(|error| Failure::refused(error.to_string()))?;
    let mut mask = SigSet::empty();
    HANDED_ON.into_iter().for_each(|signal| mask.add(signal));
    if orphans == Orphans::Here {
        mask.add(Signal::SIGCHLD);
    }
    mask.thread_block().map_err(failed)?;
    let signals =
        SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
    if let Some(process) = process {
        while !has_ended(&process, &signals).map_err(failed)? {
            while let Some(signal) = signals.read_signal().map_err(failed)? {
                hand_on(&signal, &process);
            }
            if orphans == Orphans::Here {
                reap_orphans(command);
            }
        }
    }
    let status = command.wait().map_err(|error| refused("wait for the command", error));
    mask.thread_unblock().map_err(failed)?;
    status.map(exit)
}

/// Waits until the command has ended or a signal is there.
fn has_ended(process: &Process, signals: &SignalFd) -> Result<bool, Errno> {
    let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds = [watch(process.as_fd()), watch(signals.as_fd())];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) => Ok(fds[0].any().unwrap_or(false)),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The terminal sends a signal to every process of the group, so the command has it already.
fn hand_on(signal: &siginfo, process: &Process) {
    let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
    let known = Signal::try_from(number).ok().filter(|signal| HANDED_ON.contains(signal));
    if let Some(known) = known.filter(|_| signal.ssi_code != SI_KERNEL) {
        // A command of another user cannot be signalled; it goes on then.
        let _ = process.signal(known);
    }
}

fn reap_orphans(command: &Child) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(ended) = waitid(Id::All, peek) {
        let pid = match ended {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => pid,
            _ => return,
        };
        if u32::try_from(pid.as_raw()).is_ok_and(|pid| pid == command.id()) || waitpid(pid, None).is_err() {
            return;
        }
    }
}

fn exit(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| SIGNALLED + signal));
    Exit::Status(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}
