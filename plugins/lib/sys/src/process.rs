//! Detaching a long-lived process from its caller, and handles of other processes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::time::Instant;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

use crate::{Error, Result, calls, wait};

/// signal(7): the last of the standard signals.
const LAST_SIGNAL: i32 = 31;
/// Descriptors up to this one are passed to every program.
const STDERR: u32 = 2;

/// Marks all descriptors above standard error as close-on-exec. A pipe that a child kept open would
/// make its reader wait for the child, and an inherited lock would never be released.
///
/// # Errors
/// The kernel is older than Linux 5.11, and `/proc` is not mounted.
pub fn close_descriptors_on_exec() -> Result<()> {
    match calls::close_at_exec(STDERR + 1) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => mark_one_by_one(),
        done => done,
    }
    .map_err(|error| Error::new("set close-on-exec on", "open descriptors", error))
}

/// A descriptor that this process was started with, by its number; closed on exec.
///
/// # Errors
/// None is open with that number.
pub fn inherited_descriptor(number: i32) -> Result<OwnedFd> {
    calls::duplicate(number).map_err(|error| Error::new("take over", format!("descriptor {number}"), error))
}

/// Another process, pinned: the handle never refers to a later process with the same pid.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    pid: u32,
}

impl Process {
    /// Opens the process that has this pid now; `None` when there is none. Examine the process
    /// after opening it, so that both see the same one.
    ///
    /// # Errors
    /// The kernel refused, or is older than Linux 5.3.
    pub fn open(pid: u32) -> Result<Option<Self>> {
        let number = i32::try_from(pid).unwrap_or(0);
        match calls::pidfd_open(number) {
            Ok(pidfd) => Ok(Some(Self { pidfd, pid })),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EINVAL)) => Ok(None),
            Err(error) => Err(Error::new("open", format!("process {pid}"), error)),
        }
    }

    /// The pid.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; an ended process gets none.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match calls::pidfd_send_signal(self.pidfd.as_fd(), signal as i32) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                Err(Error::new("signal", format!("process {}", self.pid), error))
            }
            _ => Ok(()),
        }
    }

    /// Waits until the process has ended; `false` when the deadline comes first.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn has_ended(&self, deadline: Instant) -> Result<bool> {
        wait::readable(&self.pidfd, deadline)
            .map_err(|error| Error::new("wait for", format!("process {}", self.pid), error))
    }
}

/// Readable once the process has ended.
impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Has the kernel kill the process of `command` when this thread ends, also between its start and
/// the execution of its program.
pub fn end_with_this_thread(command: &mut Command) {
    let parent = getpid();
    calls::prepare_in_child(command, move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // When it has ended already, nobody sends the signal any more.
        if getppid() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    });
}

/// Restores the default action of signals that the caller of this program ignored (as nohup(1) and
/// many daemons do), except SIGPIPE, which our programs ignore.
pub fn restore_default_signals() {
    (1..=LAST_SIGNAL).filter(|signal| *signal != libc::SIGPIPE).for_each(calls::restore_default_signal);
}

fn mark_one_by_one() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(fd) = number.filter(|fd| i64::from(*fd) > i64::from(STDERR)) {
            // The directory handle's own descriptor is in the listing too.
            let _ = calls::close_one_at_exec(fd);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn a_process_is_signalled_and_awaited_by_descriptor() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap().unwrap();
        assert!(!process.has_ended(Instant::now()).unwrap());
        process.signal(Signal::SIGTERM).unwrap();
        assert!(process.has_ended(Instant::now() + std::time::Duration::from_secs(5)).unwrap());
        child.wait().unwrap();
        process.signal(Signal::SIGTERM).unwrap();
        assert!(Process::open(child.id()).unwrap().is_none() && Process::open(u32::MAX).unwrap().is_none());
    }

    /// D-053; both implementations, as old kernels have only the second.
    #[test]
    fn child_programs_inherit_no_descriptors() {
        for mark in
            [close_descriptors_on_exec, || mark_one_by_one().map_err(|error| Error::new("mark", "", error))]
        {
            let file = File::open("/dev/null").unwrap();
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            mark().unwrap();
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            assert!(!Command::new("test").args(["-e", &path]).status().unwrap().success());
            // The descriptor is open in this process.
            assert!(file.metadata().is_ok());
        }
    }
}
