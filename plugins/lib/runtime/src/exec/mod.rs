//! Running one plugin: bounded in time and in output, with nothing that can deadlock.

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

/// The most a plugin may print on standard output, and on standard error, in bytes.
pub const MAX_OUTPUT: usize = 8 << 20;

/// How long a killed child may take to die before we leave it to its fate: only one that hangs in the kernel does.
const DEATH: Duration = Duration::from_secs(5);
/// How often an executable that is being written is tried, and how long apart (C-087).
const BUSY_TRIES: u32 = 6;
const BUSY_PAUSE: Duration = Duration::from_secs(1);
const CHUNK: usize = 64 << 10;

/// What one run of an executable left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// All of its standard output.
    pub stdout: Vec<u8>,
    /// All of its standard error.
    pub stderr: Vec<u8>,
    /// From before the start to the end.
    pub duration: Duration,
    /// It ended, but a process it left behind still holds its standard output or error. We do not wait for that
    /// process; runtimes built on libcni would.
    pub left_open: bool,
}

impl Output {
    /// The end in libcni's words: `exit status 1`, `signal: killed`.
    pub fn status_text(&self) -> String {
        status_text(self.status)
    }
}

/// Runs `program` with exactly this environment and standard input, and waits for its end until `deadline`; then
/// this one child, not what it has started, is killed with SIGKILL, as a runtime does.
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
    let talked = run.talk(&mut child, stdin, deadline);
    let stop = match talked {
        Ok(stop) => stop,
        Err(source) => {
            // Without our ears the child would block or run on unseen: it must not outlive this call.
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

/// Why the conversation with the child ended.
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
    /// Feeds standard input and drains both outputs until the child has ended, the time is up, or it has said too
    /// much. Does not reap the child.
    fn talk(&mut self, child: &mut Child, stdin: &[u8], deadline: Instant) -> io::Result<Stop> {
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
            // The notice is looked at first and the pipes are drained after it: all that the child has written
            // is in them now.
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

/// A pipe that ends when the child has ended. The child stays unreaped, so its id cannot pass to another process
/// before we have killed or reaped it ourselves.
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
    /// Nobody holds the other end any more, or more has come than is allowed.
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

/// Writes what fits. True when there is nothing left to write: all is written, or the child reads no more (which is
/// its right: VERSION never reads).
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

/// Kills and reaps. `None` when the child does not die in time.
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
