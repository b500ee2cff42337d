//! Runs a plugin: its time and output are limited, and it cannot deadlock.

mod error;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

pub use error::{ExecError, ResultFault, Stream};

/// The most that a plugin may print, on standard output and on standard error each, in bytes.
pub const MAX_OUTPUT: usize = 8 << 20;

/// How long to wait for the end of a killed child; only one that hangs in the kernel takes longer.
const DEATH: Duration = Duration::from_secs(5);
/// How often to try to start an executable that is being written, and the pause between (C-087).
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_secs(1);
const CHUNK: usize = 64 << 10;

/// The outcome of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The exit status.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// The time from before the start to the end.
    pub duration: Duration,
    /// Whether a process that it started still has its standard output or error open. We do not
    /// wait for that process; runtimes with libcni do.
    pub left_open: bool,
}

impl Output {
    /// The exit status in libcni's format: `exit status 1`, `signal: killed`.
    pub fn status_text(&self) -> String {
        status_text(self.status)
    }
}

/// Runs `program` with exactly this environment and standard input, and waits for its end until
/// `deadline`. After that, it kills this child with SIGKILL, but not the processes that the child
/// has started, as a runtime does.
pub fn execute(
    program: &Path,
    env: &[(OsString, OsString)],
    stdin: &[u8],
    deadline: Instant,
) -> Result<Output, ExecError> {
    let begin = Instant::now();
    if begin >= deadline {
        return Err(ExecError::NoTime { program: program.to_owned() });
    }
    let failed = |source| ExecError::Spawn { program: program.to_owned(), source };
    let mut child = spawn(program, env, deadline).map_err(failed)?;
    let mut run = Run { stdout: Vec::new(), stderr: Vec::new(), left_open: false };
    let talked = run.communicate(&mut child, stdin, deadline);
    let stop = match talked {
        Ok(stop) => stop,
        Err(source) => {
            // The child would block or continue unobserved: it must not outlive this call.
            end(&mut child);
            return Err(failed(source));
        }
    };
    let status = match stop {
        Stop::Exited => child.wait().map_err(failed)?,
        Stop::TimedOut | Stop::TooMuch(_) => match end(&mut child) {
            Some(status) => status,
            None => return Err(ExecError::Undead { program: program.to_owned() }),
        },
    };
    let Run { stdout, stderr, left_open } = run;
    let output = Output { status, stdout, stderr, duration: begin.elapsed(), left_open };
    match stop {
        Stop::Exited => Ok(output),
        Stop::TimedOut => Err(ExecError::TimedOut { program: program.to_owned(), output: Box::new(output) }),
        Stop::TooMuch(stream) => {
            Err(ExecError::TooMuchOutput { program: program.to_owned(), stream, output: Box::new(output) })
        }
    }
}

/// Why communication with the child ended.
#[derive(Clone, Copy)]
enum Stop {
    Exited,
    TimedOut,
    TooMuch(Stream),
}

struct Run {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    left_open: bool,
}

impl Run {
    /// Writes standard input and reads both outputs until the child has ended, the time is up, or
    /// it has printed too much. Does not reap the child.
    fn communicate(&mut self, child: &mut Child, stdin: &[u8], deadline: Instant) -> io::Result<Stop> {
        let exit = exit_notice(child)?;
        let mut input = child.stdin.take().map(|pipe| nonblocking(pipe.into())).transpose()?;
        let mut outputs = [
            (Stream::Stdout, child.stdout.take().map(|pipe| nonblocking(pipe.into())).transpose()?),
            (Stream::Stderr, child.stderr.take().map(|pipe| nonblocking(pipe.into())).transpose()?),
        ];
        let mut rest = stdin;
        if rest.is_empty() {
            input = None;
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Stop::TimedOut);
            }
            let exited =
                wait(&exit, input.as_ref(), outputs.iter().filter_map(|(_, pipe)| pipe.as_ref()), left)?;
            // The notice is checked before the pipes are read: they contain everything that the
            // child has written.
            for (stream, pipe) in &mut outputs {
                let all = match stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                if pipe.as_mut().map(|pipe| drain(pipe, all)).transpose()? == Some(Drained::Ended) {
                    *pipe = None;
                }
                if all.len() > MAX_OUTPUT {
                    all.truncate(MAX_OUTPUT);
                    return Ok(Stop::TooMuch(*stream));
                }
            }
            if exited {
                self.left_open = outputs.iter().any(|(_, pipe)| pipe.is_some());
                return Ok(Stop::Exited);
            }
            if let Some(pipe) = &mut input
                && feed(pipe, &mut rest)?
            {
                input = None;
            }
        }
    }
}

fn spawn(program: &Path, env: &[(OsString, OsString)], deadline: Instant) -> io::Result<Child> {
    let mut command = Command::new(program);
    command.env_clear().envs(env.iter().map(|(key, value)| (key, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tries = 1;
    loop {
        match command.spawn() {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && tries < BUSY_TRIES
                    && Instant::now() + BUSY_PAUSE < deadline =>
            {
                tries += 1;
                thread::sleep(BUSY_PAUSE);
            }
            other => return other,
        }
    }
}

/// A pipe that is closed when the child has ended. The child is not reaped, so its id cannot be
/// reused before we have killed or reaped it.
fn exit_notice(child: &Child) -> io::Result<PipeReader> {
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let (reader, writer) = io::pipe()?;
    thread::Builder::new().name("plugin-exit".into()).stack_size(64 << 10).spawn(move || {
        while let Err(nix::errno::Errno::EINTR) =
            waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
        {}
        drop(writer);
    })?;
    Ok(reader)
}

/// Waits until something can be read or written, at most `left`. True when the child has ended.
fn wait<'a>(
    exit: &PipeReader,
    input: Option<&'a File>,
    outputs: impl Iterator<Item = &'a File>,
    left: Duration,
) -> io::Result<bool> {
    let watch = |fd: BorrowedFd<'a>, events| PollFd::new(fd, events);
    let mut fds = Vec::with_capacity(4);
    fds.push(PollFd::new(exit.as_fd(), PollFlags::POLLIN));
    fds.extend(outputs.map(|file| watch(file.as_fd(), PollFlags::POLLIN)));
    fds.extend(input.map(|file| watch(file.as_fd(), PollFlags::POLLOUT)));
    // Rounded up, or the last millisecond would be a busy loop.
    let left = left + Duration::from_micros(999);
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(fds[0].any().unwrap_or(false))
}

#[derive(PartialEq, Eq)]
enum Drained {
    /// There may be more later.
    Dry,
    /// The other end is closed, or more than the limit was read.
    Ended,
}

fn drain(pipe: &mut File, all: &mut Vec<u8>) -> io::Result<Drained> {
    let mut chunk = vec![0; CHUNK];
    while all.len() <= MAX_OUTPUT {
        match pipe.read(&mut chunk) {
            Ok(0) => return Ok(Drained::Ended),
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Drained::Dry),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Drained::Ended)
}

/// Writes what the pipe accepts. True when nothing is left to write, or when the child has closed
/// its end: a plugin need not read its input, and VERSION never does.
fn feed(pipe: &mut File, rest: &mut &[u8]) -> io::Result<bool> {
    while !rest.is_empty() {
        match pipe.write(rest) {
            Ok(count) => *rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn nonblocking(fd: OwnedFd) -> io::Result<File> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(fd.into())
}

/// Kills and reaps the child; `None` when it does not end in time.
fn end(child: &mut Child) -> Option<ExitStatus> {
    // Cannot fail for a child that is not reaped yet.
    let _ = child.kill();
    let gone = exit_notice(child).and_then(|exit| wait(&exit, None, std::iter::empty(), DEATH)).ok()?;
    if gone { child.wait().ok() } else { None }
}

fn status_text(status: ExitStatus) -> String {
    if let Some(code) = status.code() {
        return format!("exit status {code}");
    }
    let signal = status.signal().unwrap_or_default();
    let name = match signal {
        1 => "hangup",
        2 => "interrupt",
        3 => "quit",
        4 => "illegal instruction",
        6 => "aborted",
        7 => "bus error",
        8 => "floating point exception",
        9 => "killed",
        11 => "segmentation fault",
        13 => "broken pipe",
        14 => "alarm clock",
        15 => "terminated",
        other => return format!("signal: signal {other}"),
    };
    let core = if status.core_dumped() { " (core dumped)" } else { "" };
    format!("signal: {name}{core}")
}
