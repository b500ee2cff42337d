//! Runs a program of the host within a time limit: without a shell, with input and output in memory
//! files, so that neither side can block the other.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{Error, Result};

/// The most bytes of standard error that are kept.
const STDERR_MAX: usize = 4 << 10;
/// Poll interval for a program that has closed its standard error, in milliseconds.
const POLL_MS: u16 = 5;
/// Directories of administrative programs, for runtimes that are started with a shorter PATH.
const SYSTEM_DIRS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Outcome of a program.
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Finds a program's file, on the PATH or in a directory of administrative programs.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    // A relative directory would depend on the runtime's working directory.
    dirs.filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Runs a program with these arguments and this input, and kills it when the time is over.
///
/// # Errors
/// The program was not found, could not be started, or did not end in time.
pub fn run(name: &str, args: &[&str], input: &str, time: Duration) -> Result<Finished> {
    let failed = |error: io::Error| Error::new("run", name, error);
    let program = find(name).ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
    finish(&program, args, input, Instant::now() + time).map_err(failed)
}

fn finish(program: &Path, args: &[&str], input: &str, deadline: Instant) -> io::Result<Finished> {
    let mut stdin = memory_file()?;
    stdin.write_all(input.as_bytes())?;
    stdin.rewind()?;
    let mut stdout = memory_file()?;
    let mut command = Command::new(program);
    command.args(args).stdin(stdin).stdout(stdout.try_clone()?).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let ended = wait_for_end(&mut child, deadline);
    let (status, stderr) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    stdout.rewind()?;
    let mut output = Vec::new();
    stdout.read_to_end(&mut output)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Finished { status, stdout: text(&output), stderr: text(&stderr) })
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create("moor", MFdFlags::MFD_CLOEXEC)?.into())
}

/// Reads standard error until it is closed, which usually happens when the program ends, then waits
/// for the end.
fn wait_for_end(child: &mut Child, deadline: Instant) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut pipe = child.stderr.take();
    if let Some(pipe) = &pipe {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let mut bytes = Vec::new();
    loop {
        if pipe.is_none()
            && let Some(status) = child.try_wait()?
        {
            return Ok((status, bytes));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "did not end in time and was killed"));
        }
        // Poll only a program that closed its standard error and still runs.
        let most = if pipe.is_some() { left } else { left.min(Duration::from_millis(POLL_MS.into())) };
        let mut waiting: Vec<PollFd<'_>> =
            pipe.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        let time = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, time) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(open) = &mut pipe
            && read_available(open, &mut bytes)?
        {
            pipe = None;
        }
    }
}

/// Reads what is available; returns whether the end was reached.
fn read_available(pipe: &mut ChildStderr, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 1024];
    match pipe.read(&mut buffer) {
        Ok(0) => Ok(true),
        Ok(count) => {
            let room = STDERR_MAX.saturating_sub(bytes.len());
            bytes.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
            Ok(false)
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Duration = Duration::from_secs(10);

    #[test]
    fn input_and_output_are_passed_whole() {
        let long = "line\n".repeat(200_000);
        let done = run("cat", &[], &long, SECONDS).unwrap();
        assert!(done.status.success() && done.stdout == long && done.stderr.is_empty());
        let done = run("cat", &["/nowhere"], "", SECONDS).unwrap();
        assert!(!done.status.success() && done.stderr.contains("/nowhere"));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let began = Instant::now();
        let error = run("sleep", &["60"], "", Duration::from_millis(50)).err().unwrap();
        assert!(format!("{error:#}").contains("did not end in time") && began.elapsed() < SECONDS);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run("no-such-program", &[], "", SECONDS).err().unwrap();
        assert!(error.to_string().contains("no-such-program"));
    }
}
