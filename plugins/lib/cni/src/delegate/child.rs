//! A child process: its input is written while its outputs are read, so that neither side can block
//! the other.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::Command;
use crate::env::Env;

/// The most bytes that a delegate may print on its standard output.
pub(super) const MOST_OUTPUT: usize = 8 << 20;
/// The most bytes of its standard error that are kept; the rest is dropped.
const MOST_STDERR: usize = 64 << 10;
/// How often to try to start a program that is still being written, a second apart.
const TRIES: u32 = 6;
/// How long a delegate may take. The reference's dhcp, the slowest one in use, gives up after 208 s;
/// runtimes give up earlier, but not all of them have a limit.
pub(super) const LONGEST: Duration = Duration::from_secs(300);
/// How often to check whether a silent child has ended, in milliseconds. This only matters if its
/// own children have inherited its output.
const LOOK_EVERY: u16 = 100;

/// How a child ended, and its output.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// Why the child was killed, if it was.
    pub(super) killed: Option<Killed>,
}

/// Why a child was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Killed {
    /// It printed more than [`MOST_OUTPUT`].
    Overflow,
    /// It did not end within [`LONGEST`].
    Timeout,
}

impl Finished {
    /// The exit status or signal, as text.
    pub(super) fn describe_status(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown status".into(),
        }
    }
}

/// Runs the program to its end, with our environment, this `CNI_COMMAND`, and `stdin` byte for byte
/// (C-081). It is killed after `longest`.
pub(super) fn run(
    program: &Path,
    env: &Env,
    command: Command,
    stdin: &[u8],
    longest: Duration,
) -> io::Result<Finished> {
    let mut child = spawn(program, env, command)?;
    let finished = communicate(&mut child, stdin, Instant::now() + longest);
    if !matches!(finished, Ok(Finished { killed: None, .. })) {
        child.kill()?;
        child.wait()?;
    }
    finished
}

fn spawn(program: &Path, env: &Env, command: Command) -> io::Result<Child> {
    let mut process = std::process::Command::new(program);
    process.envs(env.set()).env("CNI_COMMAND", command.as_str());
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    spawn_retrying(&mut process, || sleep(Duration::from_secs(1)))
}

/// Starts the process; tries again after a pause while its program is being written (C-087).
fn spawn_retrying(process: &mut std::process::Command, mut pause: impl FnMut()) -> io::Result<Child> {
    let mut tries = 1;
    loop {
        match process.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && tries < TRIES => {
                tries += 1;
                pause();
            }
            outcome => return outcome,
        }
    }
}

/// Writes and reads until the child has ended and its outputs are empty or closed, or has to be
/// killed.
fn communicate(child: &mut Child, input: &[u8], deadline: Instant) -> io::Result<Finished> {
    let mut stdin = Input { pipe: nonblocking(child.stdin.take())?, rest: input };
    let mut stdout = Output::new(nonblocking(child.stdout.take())?, MOST_OUTPUT);
    let mut stderr = Output::new(nonblocking(child.stderr.take())?, MOST_STDERR);
    let mut status = None;
    let mut killed = None;
    stdin.write_some()?;
    while stdin.pipe.is_some() || stdout.pipe.is_some() || stderr.pipe.is_some() {
        let wait = if status.is_some() { PollTimeout::ZERO } else { PollTimeout::from(LOOK_EVERY) };
        let ready = {
            let waiting = [
                stdin.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)),
                stdout.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)),
                stderr.pipe.as_ref().map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)),
            ];
            let mut waiting: Vec<_> = waiting.into_iter().flatten().collect();
            poll(&mut waiting, wait)
        };
        match ready {
            Ok(0) if status.is_some() => break,
            Ok(0) => status = child.try_wait()?,
            Ok(_) => {
                stdin.write_some()?;
                stdout.read_some()?;
                stderr.read_some()?;
                if stdout.overflowed {
                    killed = Some(Killed::Overflow);
                }
            }
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if status.is_none() && Instant::now() >= deadline {
            killed = Some(Killed::Timeout);
        }
        if killed.is_some() {
            break;
        }
    }
    if status.is_none() && killed.is_none() {
        status = end_of(child, deadline)?;
        killed = status.is_none().then_some(Killed::Timeout);
    }
    let status = status.unwrap_or_default();
    Ok(Finished { status, stdout: stdout.bytes, stderr: stderr.bytes, killed })
}

/// The end of a child that has closed its outputs: usually it is about to exit. `None` when the
/// deadline comes first.
fn end_of(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_micros(20);
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() >= deadline {
            return Ok(status);
        }
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(LOOK_EVERY.into()));
    }
}

/// Makes our end of a pipe non-blocking; the child's end stays as it is.
fn nonblocking<P: AsFd>(pipe: Option<P>) -> io::Result<Option<P>> {
    if let Some(pipe) = &pipe {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    }
    Ok(pipe)
}

/// The child's standard input; closed when everything is written, or when the child has closed its
/// end.
struct Input<'i> {
    pipe: Option<ChildStdin>,
    rest: &'i [u8],
}

impl Input<'_> {
    fn write_some(&mut self) -> io::Result<()> {
        while let Some(pipe) = &mut self.pipe {
            if self.rest.is_empty() {
                self.pipe = None;
                break;
            }
            match pipe.write(self.rest) {
                Ok(count) => self.rest = self.rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.pipe = None,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// One of the child's outputs.
struct Output<P> {
    pipe: Option<P>,
    bytes: Vec<u8>,
    most: usize,
    /// The child printed more than `most` bytes.
    overflowed: bool,
}

impl<P: Read> Output<P> {
    fn new(pipe: Option<P>, most: usize) -> Self {
        Self { pipe, bytes: Vec::new(), most, overflowed: false }
    }

    /// Reads at most one buffer: an endless output must not keep us from the other streams.
    fn read_some(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut buffer = [0; 16 << 10];
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                let room = self.most - self.bytes.len();
                self.overflowed |= count > room;
                self.bytes.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, copy};

    use super::*;

    fn run_shell(script: &str, longest: Duration) -> Finished {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("delegate");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        run(&program, &Env::default(), Command::Add, b"{}", longest).unwrap()
    }

    #[test]
    fn a_delegate_that_does_not_end_is_killed() {
        let start = Instant::now();
        for script in ["exec sleep 60", "exec sleep 60 >&- 2>&-"] {
            let finished = run_shell(script, Duration::from_millis(300));
            assert_eq!(finished.killed, Some(Killed::Timeout), "{script}");
        }
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_delegate_that_ends_is_not_killed() {
        for script in ["echo '{}'", "exec >&- 2>&-; sleep 0.2; exit 3", "sleep 60 & exit 0"] {
            assert_eq!(run_shell(script, LONGEST).killed, None, "{script}");
        }
    }

    /// C-087
    #[test]
    fn a_busy_program_is_tried_six_times() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("true");
        copy("/bin/true", &program).unwrap();

        let writer = File::options().append(true).open(&program).unwrap();
        let mut pauses = 0;
        let error = spawn_retrying(&mut std::process::Command::new(&program), || pauses += 1).unwrap_err();
        assert_eq!((error.kind(), pauses), (ErrorKind::ExecutableFileBusy, 5));

        let mut writer = Some(writer);
        let mut child =
            spawn_retrying(&mut std::process::Command::new(&program), || drop(writer.take())).unwrap();
        assert!(child.wait().unwrap().success());
    }
}
