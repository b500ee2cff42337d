//! A program of the host's, run to its end within a bounded time: no shell, its input and output in memory files, so
//! that neither side can block the other.

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

/// The most bytes of its standard error that are kept.
const MOST_STDERR: usize = 4 << 10;
/// How often it is looked whether a program that has closed its standard error has ended, in milliseconds.
const LOOK_EVERY: u16 = 5;
/// Where a host's administrative programs are, for runtimes that are started with a shorter PATH.
const SYSTEM_DIRS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// What became of a program.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// The program's file: as the PATH has it, or in one of the directories that such programs are in.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    // A relative directory would be looked for wherever the runtime happens to be.
    dirs.filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// Runs it with these words and this input. A program that has not ended in time is killed.
///
/// # Errors
/// It is not there, could not be started, or did not end in time.
pub fn run(name: &str, args: &[&str], input: &str, time: Duration) -> Result<Finished> {
    let failed = |error: io::Error| Error::new("run", name, error);
    let program = find(name).ok_or_else(|| failed(ErrorKind::NotFound.into()))?;
    finish(&program, args, input, Instant::now() + time).map_err(failed)
}

fn finish(program: &Path, args: &[&str], input: &str, deadline: Instant) -> io::Result<Finished> {
    let mut stdin = memory()?;
    stdin.write_all(input.as_bytes())?;
    stdin.rewind()?;
    let mut stdout = memory()?;
    let mut command = Command::new(program);
    command.args(args).stdin(stdin).stdout(stdout.try_clone()?).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let ended = attend(&mut child, deadline);
    let (status, stderr) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
    };
    stdout.rewind()?;
    let mut said = Vec::new();
    stdout.read_to_end(&mut said)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Finished { status, stdout: text(&said), stderr: text(&stderr) })
}

fn memory() -> io::Result<File> {
    Ok(memfd_create("moor", MFdFlags::MFD_CLOEXEC)?.into())
}

/// Listens to its standard error until it is closed, which is when the program ends, and then for the end itself.
fn attend(child: &mut Child, deadline: Instant) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut pipe = child.stderr.take();
    if let Some(pipe) = &pipe {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    let mut heard = Vec::new();
    loop {
        if pipe.is_none()
            && let Some(status) = child.try_wait()?
        {
            return Ok((status, heard));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "it did not end in time and was killed"));
        }
        // A program may close its standard error and go on; only then is it looked for again and again.
        let most = if pipe.is_some() { left } else { left.min(Duration::from_millis(LOOK_EVERY.into())) };
        let mut waiting: Vec<PollFd<'_>> =
            pipe.iter().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        let time = PollTimeout::try_from(most).unwrap_or(PollTimeout::MAX);
        match poll(&mut waiting, time) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(open) = &mut pipe
            && listen(open, &mut heard)?
        {
            pipe = None;
        }
    }
}

/// Takes what is there; says whether that was all.
fn listen(pipe: &mut ChildStderr, heard: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 1024];
    match pipe.read(&mut buffer) {
        Ok(0) => Ok(true),
        Ok(count) => {
            let room = MOST_STDERR.saturating_sub(heard.len());
            heard.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
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
    fn a_program_hears_its_input_whole_and_is_heard_whole() {
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
