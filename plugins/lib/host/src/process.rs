//! What a process that outlives its caller must leave behind.

use std::fs;
use std::io;

use crate::{Error, Result, sys};

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
    match sys::close_at_exec(STDERR + 1) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => one_by_one(),
        done => done,
    }
    .map_err(|error| Error::new("keep", "descriptors from programs that are started", error))
}

/// Has signals do again what they do by default, where the caller of this program ignored them (as nohup(1) and many
/// a daemon do), but for SIGPIPE, which no program of ours wants.
pub fn heed_signals() {
    (1..=LAST_SIGNAL).filter(|signal| *signal != libc::SIGPIPE).for_each(sys::heed_signal);
}

fn one_by_one() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let number = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(fd) = number.filter(|fd| i64::from(*fd) > i64::from(STDERR)) {
            // The listing's own is in the list.
            let _ = sys::close_one_at_exec(fd);
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
