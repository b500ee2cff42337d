//! What a process that outlives its caller must leave behind; and other processes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::{Error, Result, calls, wait};

/// signal(7): the last of the standard ones.
const LAST_SIGNAL: i32 = 31;
/// Descriptors that every program has.
const STDERR: u32 = 2;

/// Has the programs that this one starts begin without any descriptor but standard input, output and error: a pipe
/// that they kept open would have its reader wait for them, and a lock that they held would never be free.
///
/// # Errors
/// The kernel is older than Linux 5.11, and `/proc` is not mounted.
pub fn keep_descriptors() -> Result<()> {
    match calls::close_at_exec(STDERR + 1) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => one_by_one(),
        done => done,
    }
    .map_err(|error| Error::new("keep", "descriptors from programs that are started", error))
}

/// Another process. It is not mistaken for the next one that gets its number.
#[derive(Debug)]
pub struct Process {
    pidfd: OwnedFd,
    pid: u32,
}

impl Process {
    /// The process of that number now; look at it after this, and it is the one that was looked at. `None`: there is none.
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

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal; one that has ended gets none.
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

    /// Waits until it has ended; `false` when the deadline came first.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn has_ended(&self, deadline: Instant) -> Result<bool> {
        wait::readable(&self.pidfd, deadline)
            .map_err(|error| Error::new("wait for", format!("process {}", self.pid), error))
    }
}

/// Has signals do again what they do by default, where the caller of this program ignored them (as nohup(1) and many
/// a daemon do), but for SIGPIPE, which no program of ours wants.
pub fn heed_signals() {
    (1..=LAST_SIGNAL).filter(|signal| *signal != libc::SIGPIPE).for_each(calls::heed_signal);
}

fn one_by_one() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(fd) = number.filter(|fd| i64::from(*fd) > i64::from(STDERR)) {
            // The listing's own is in the list.
            let _ = calls::close_one_at_exec(fd);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::process::Command;

    use nix::fcntl::{FcntlArg, FdFlag, fcntl};

    use super::*;

    #[test]
    fn a_process_ends_by_its_own_descriptor() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::open(child.id()).unwrap().unwrap();
        assert!(!process.has_ended(Instant::now()).unwrap());
        process.signal(Signal::SIGTERM).unwrap();
        assert!(process.has_ended(Instant::now() + std::time::Duration::from_secs(5)).unwrap());
        child.wait().unwrap();
        process.signal(Signal::SIGTERM).unwrap();
        assert!(Process::open(child.id()).unwrap().is_none() && Process::open(u32::MAX).unwrap().is_none());
    }

    /// D-053; both ways, as old kernels have the second only.
    #[test]
    fn programs_begin_without_our_descriptors() {
        for keep in [keep_descriptors, || one_by_one().map_err(|error| Error::new("keep", "", error))] {
            let file = File::open("/dev/null").unwrap();
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
            keep().unwrap();
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            assert!(!Command::new("test").args(["-e", &path]).status().unwrap().success());
            // It is open here.
            assert!(file.metadata().is_ok());
        }
    }
}
