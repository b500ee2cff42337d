//! Peak memory of the processes of a call, read from each at its end.
//!
//! `ru_maxrss` is no use: across an exec the kernel keeps the larger peak of the old and the new
//! image, so the child of a big process never has a small one. A traced process stops once more as
//! it exits, and its own peak can be read then.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc::{PTRACE_EVENT_EXEC, PTRACE_EVENT_EXIT};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The hidden subcommand: executes the program, traced by its parent. Returns only if that fails.
pub fn become_traced(program: &Path, arguments: &[OsString]) -> Result<bool> {
    ptrace::traceme().context("ask to be traced")?;
    Err(Command::new(program).args(arguments).exec()).with_context(|| format!("start {}", program.display()))
}

/// Runs a command that begins with [`become_traced`] and returns whether it exited with 0, and the
/// peak resident memory of the largest of its processes, in KiB.
///
/// Other children of the caller may end meanwhile: they are not reaped.
pub fn of(mut command: Command) -> Result<(bool, u64)> {
    let child = command.spawn().context("start a traced process")?;
    let first = Pid::from_raw(child.id().try_into()?);
    match waitpid(first, None)? {
        WaitStatus::Stopped(..) => {}
        other => bail!("a traced process did not stop at its start: {other:?}"),
    }
    let followed = Options::PTRACE_O_EXITKILL
        | Options::PTRACE_O_TRACEEXIT
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE;
    ptrace::setoptions(first, followed).context("follow a traced process")?;
    resume(first, None)?;
    let (mut peak, mut succeeded, mut born) = (0, None, vec![first]);
    let mut living = born.clone();
    while !living.is_empty() {
        match waitpid(None, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::PtraceEvent(pid, _, PTRACE_EVENT_EXIT)) => {
                peak = peak.max(high_water(pid)?);
                resume(pid, None)?;
            }
            Ok(WaitStatus::PtraceEvent(pid, _, PTRACE_EVENT_EXEC)) => resume(pid, None)?,
            // A process or thread is created, and known before its parent can end.
            Ok(WaitStatus::PtraceEvent(pid, ..)) => {
                let child = Pid::from_raw(ptrace::getevent(pid).context("read a child's id")?.try_into()?);
                // Its first stop may have come before this event.
                if !born.contains(&child) {
                    living.push(child);
                }
                resume(pid, None)?;
            }
            // A new process or thread stops before its first instruction; that stop is not its own.
            Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)) if !born.contains(&pid) => {
                born.push(pid);
                if !living.contains(&pid) {
                    living.push(pid);
                }
                resume(pid, None)?;
            }
            Ok(WaitStatus::Stopped(pid, signal)) => resume(pid, Some(signal))?,
            Ok(WaitStatus::Exited(pid, code)) => {
                living.retain(|other| *other != pid);
                if pid == first {
                    succeeded = Some(code == 0);
                }
            }
            Ok(WaitStatus::Signaled(pid, ..)) => {
                living.retain(|other| *other != pid);
                if pid == first {
                    succeeded = Some(false);
                }
            }
            Ok(_) => {}
            Err(Errno::ECHILD) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("wait for traced processes"),
        }
    }
    ensure!(peak > 0, "no peak was read from a traced process");
    Ok((succeeded.context("the end of a traced process was not observed")?, peak))
}

fn resume(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::cont(pid, signal) {
        // Another thread of its process has ended it meanwhile.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).context("continue a traced process"),
    }
}

/// `VmHWM` of proc(5): KiB. 0 for a process that has released its memory.
pub fn high_water(pid: Pid) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).context("read a traced process's status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let Some(line) = line else { return Ok(0) };
    let number = line.split_whitespace().next().context("VmHWM has no number")?;
    number.parse().context("VmHWM is not a number")
}
