//! The recorder: it executes the original, passes everything on as it is, and writes a line.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::getppid;
use sys::process::Process;

use crate::failure::Exit;

use super::install;
use super::line::{Caller, KEPT_MAX, Line, shown, text, utc};
use super::place::{Place, executable, of_this_process};

/// The tool's own names, which are no plugins'.
const OWN: [&str; 2] = ["moor", "moor-plugins"];
/// How often the original is looked for while `stop` moves it.
const TRIES: usize = 50;
/// Signals of a runtime or an administrator that are the original's.
const HANDED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Runs as a recorder, when this executable lies in a plugin's place.
pub fn called() -> Option<Exit> {
    let (place, name, deleted) = of_this_process()?;
    if OWN.iter().any(|own| name == *own) {
        return None;
    }
    let is_recorder = fs::symlink_metadata(place.original(&name)).is_ok() || is_this(&place.recorder());
    let was_replaced = deleted && env::var_os("CNI_COMMAND").is_some();
    (is_recorder || was_replaced).then(|| record(&place, &name))
}

fn exe() -> &'static Path {
    Path::new("/proc/self/exe")
}

fn record(place: &Place, name: &OsStr) -> Exit {
    let state = place.state().filter(|state| !state.is_over());
    if state.is_none() {
        // The first call after the time restores; when that fails, the next one tries.
        let _ = install::restore_unless_locked(place);
    }
    let began = (SystemTime::now(), Instant::now());
    let Some(state) = state else {
        let error = original(place, name, |program, arg0| Err::<(), _>(command(program, arg0).exec()));
        return failed(name, &error.err().unwrap_or_else(|| ErrorKind::NotFound.into()));
    };
    let spawned = original(place, name, |program, arg0| {
        let mut command = command(program, arg0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        sys::process::end_with_this_thread(&mut command);
        command.spawn()
    });
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(name, &error),
    };
    let mut streams = Streams::default();
    let passed = streams.pass(&mut child);
    let status = passed.and_then(|()| child.wait());
    let status = match status {
        Ok(status) => status,
        Err(error) => {
            let _ = child.kill();
            return failed(name, &error);
        }
    };
    // Without a log the call goes on unrecorded.
    let _ = line(name, &child, &streams, status, began).append(&state.log);
    end_as(status)
}

fn failed(name: &OsStr, error: &io::Error) -> Exit {
    eprintln!("moor trace: execute {}: {error}", name.display());
    Exit::Status(if error.kind() == ErrorKind::NotFound { 127 } else { 126 })
}

fn command(program: &Path, arg0: &OsStr) -> Command {
    let mut command = Command::new(program);
    command.arg0(arg0).args(env::args_os().skip(1));
    command
}

/// Starts the original: in its hidden place or, when `stop` has moved it back, in its own.
fn original<T>(
    place: &Place,
    name: &OsStr,
    mut start: impl FnMut(&Path, &OsStr) -> io::Result<T>,
) -> io::Result<T> {
    let arg0 = env::args_os().next().unwrap_or_else(|| name.to_owned());
    let mut last = ErrorKind::NotFound.into();
    for _ in 0..TRIES {
        let back = place.dir.join(name);
        let hidden = executable(place, &place.original(name)).ok();
        // This executable itself would execute itself for ever.
        let program = [hidden, Some(back)].into_iter().flatten().find(|program| !is_this(program));
        match program.map(|program| start(&program, &arg0)) {
            Some(Err(error)) if error.kind() != ErrorKind::NotFound => return Err(error),
            Some(Err(error)) => last = error,
            Some(done) => return done,
            None => std::thread::yield_now(),
        }
    }
    Err(last)
}

/// Whether the path leads to this executable.
fn is_this(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let file = |path: &Path| fs::metadata(path).map(|about| (about.dev(), about.ino())).ok();
    file(path).is_some_and(|one| file(exe()) == Some(one))
}

/// Ends as the original did.
fn end_as(status: ExitStatus) -> Exit {
    if let Some(signal) = status.signal() {
        if let Ok(signal) = Signal::try_from(signal) {
            // An ignored or blocked signal does not end this process; then its number is the status.
            let _ = raise(signal);
        }
        return Exit::Status(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    Exit::Status(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

fn line(
    name: &OsStr,
    child: &Child,
    streams: &Streams,
    status: ExitStatus,
    began: (SystemTime, Instant),
) -> Line {
    let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let caller = getppid().as_raw();
    let comm = fs::read(format!("/proc/{caller}/comm")).unwrap_or_default();
    Line {
        v: 1,
        at: utc(began.0),
        plugin: name.to_string_lossy().into_owned(),
        command: variable("CNI_COMMAND"),
        container_id: variable("CNI_CONTAINERID"),
        ifname: variable("CNI_IFNAME"),
        netns: variable("CNI_NETNS"),
        args: variable("CNI_ARGS"),
        path: variable("CNI_PATH"),
        caller: Caller { pid: caller, comm: text(&comm).trim_end().to_owned() },
        pid: child.id(),
        stdin: shown(&streams.stdin),
        stdout: shown(&streams.stdout),
        stderr: text(&streams.stderr).into_owned(),
        exit: status.code(),
        signal: status.signal(),
        took_ms: (began.1.elapsed().as_secs_f64() * 1000.0 * 100.0).round() / 100.0,
    }
}

/// What is kept of the three streams.
#[derive(Default)]
struct Streams {
    stdin: Vec<u8>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

const CHUNK: usize = 64 * 1024;

impl Streams {
    /// Passes everything on until the original has ended.
    fn pass(&mut self, child: &mut Child) -> io::Result<()> {
        let Some(process) = Process::open(child.id()).map_err(io::Error::other)? else { return Ok(()) };
        let mut mask = SigSet::empty();
        HANDED_ON.into_iter().for_each(|signal| mask.add(signal));
        mask.thread_block()?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        // Of this process's own descriptors, without their flags, which others share.
        let mut input = Some(File::from(io::stdin().as_fd().try_clone_to_owned()?));
        let mut to_child = child.stdin.take().map(|pipe| nonblocking(pipe.into())).transpose()?;
        let mut out = child.stdout.take().map(|pipe| nonblocking(pipe.into())).transpose()?;
        let mut err = child.stderr.take().map(|pipe| nonblocking(pipe.into())).transpose()?;
        let mut waiting: Vec<u8> = Vec::new();
        loop {
            if waiting.is_empty() && input.is_none() {
                to_child = None;
            }
            if to_child.is_none() {
                (input, waiting) = (None, Vec::new());
            }
            let wants = if waiting.is_empty() { input.as_ref() } else { None };
            let feeds = if waiting.is_empty() { None } else { to_child.as_ref() };
            let ready = wait([
                (Some(process.as_fd()), PollFlags::POLLIN),
                (Some(signals.as_fd()), PollFlags::POLLIN),
                (wants.map(AsFd::as_fd), PollFlags::POLLIN),
                (feeds.map(AsFd::as_fd), PollFlags::POLLOUT),
                (out.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
                (err.as_ref().map(AsFd::as_fd), PollFlags::POLLIN),
            ])?;
            while let Some(signal) = signals.read_signal()? {
                let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
                if let Ok(signal) = Signal::try_from(number) {
                    process.signal(signal).map_err(io::Error::other)?;
                }
            }
            if ready[2] && !self.read_input(&mut input, &mut waiting) {
                input = None;
            }
            if ready[3] && !feed(&mut to_child, &mut waiting) {
                to_child = None;
            }
            // The end is known before the pipes are read: they have all that the original wrote.
            pass_output(&mut out, &mut io::stdout().lock(), &mut self.stdout);
            pass_output(&mut err, &mut io::stderr().lock(), &mut self.stderr);
            if ready[0] {
                mask.thread_unblock()?;
                return Ok(());
            }
        }
    }

    /// Reads what is there; `false` at the end.
    fn read_input(&mut self, input: &mut Option<File>, waiting: &mut Vec<u8>) -> bool {
        let mut chunk = vec![0; CHUNK];
        match input.as_mut().map(|input| input.read(&mut chunk)) {
            Some(Ok(count)) if count > 0 => {
                keep(&mut self.stdin, &chunk[..count]);
                waiting.extend_from_slice(&chunk[..count]);
                true
            }
            Some(Err(error)) => matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock),
            _ => false,
        }
    }
}

/// Writes what the original takes; `false` when it takes no more.
fn feed(pipe: &mut Option<File>, waiting: &mut Vec<u8>) -> bool {
    match pipe.as_mut().map(|pipe| pipe.write(waiting)) {
        Some(Ok(count)) => {
            waiting.drain(..count);
            true
        }
        Some(Err(error)) => matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock),
        None => false,
    }
}

/// Passes on what is there. A closed output of ours closes the original's, as it would be.
fn pass_output(pipe: &mut Option<File>, to: &mut dyn Write, kept: &mut Vec<u8>) {
    let mut chunk = vec![0; CHUNK];
    while let Some(open) = pipe {
        match open.read(&mut chunk) {
            Ok(count) if count > 0 => {
                keep(kept, &chunk[..count]);
                if to.write_all(&chunk[..count]).and_then(|()| to.flush()).is_err() {
                    *pipe = None;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            _ => *pipe = None,
        }
    }
}

fn keep(kept: &mut Vec<u8>, bytes: &[u8]) {
    let room = KEPT_MAX.saturating_sub(kept.len());
    kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

/// Which of these are ready, or closed.
fn wait<const N: usize>(watched: [(Option<BorrowedFd<'_>>, PollFlags); N]) -> io::Result<[bool; N]> {
    let there = watched.iter().filter_map(|(fd, flags)| Some(PollFd::new((*fd)?, *flags)));
    let mut fds: Vec<_> = there.collect();
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut answers = fds.iter().map(|fd| fd.any().unwrap_or(false));
    Ok(watched.map(|(fd, _)| fd.is_some() && answers.next().unwrap_or(false)))
}

fn nonblocking(fd: OwnedFd) -> io::Result<File> {
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(fd.into())
}
