//! Starting the responder: ready before this returns, and nothing of the caller's about it.
//!
//! It begins as this executable again, with standard output as the pipe that it says it is ready by, no other
//! descriptor, an empty environment, and a session of its own. Where systemd manages the machine it begins in a scope,
//! or the end of the unit that attached the first container would be its end as well.

use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cni::Error;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::place::is_system_root;
use crate::record::Place;

/// How long a responder may take to be ready. It takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long systemd may take to make a scope before we do without.
const PATIENCE_WITH_SYSTEMD: Duration = Duration::from_secs(2);
/// What a responder says when it is ready. Anything else is its error.
pub const READY: &str = "ok";
/// The longest error of it, in bytes.
const SAID_MAX: u64 = 4096;
/// sd_booted(3).
const SYSTEMD: &str = "/run/systemd/system";
const SYSTEMD_RUN: [&str; 2] = ["/usr/bin/systemd-run", "/bin/systemd-run"];
/// Seconds that an idle responder stays, for tests: what it is without is [`crate::serve`]'s to say.
const GRACE: &str = "MOOR_DNS_GRACE";

/// Starts the responder of a place, and waits until it is ready. Callers hold the place's lock.
///
/// # Errors
/// It could not be started, or said why it cannot serve.
pub fn start(place: &Place) -> Result<(), Error> {
    host::process::keep_descriptors()?;
    if Path::new(SYSTEMD).is_dir()
        && let Some(systemd_run) = SYSTEMD_RUN.into_iter().find(|path| Path::new(path).exists())
    {
        // A machine whose systemd does not answer has a responder all the same.
        match run(&mut in_scope(systemd_run, place)?, PATIENCE_WITH_SYSTEMD) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(said)) if !said.is_empty() => return Err(refused(&said)),
            Ok(Err(_)) | Err(_) => {}
        }
    }
    let mut command = Command::new("/proc/self/exe");
    // Of an executable that holds several plugins, the name tells which.
    command.arg0("dns").args(arguments(place));
    let started = run(&mut command, PATIENCE);
    let said = started.map_err(|error| Error::from(host::Error::new("start", "the responder", error)))?;
    said.map_err(|said| refused(if said.is_empty() { "it ended without a word" } else { &said }))
}

fn refused(said: &str) -> Error {
    Error::internal(format!("the responder cannot serve: {said}"))
}

fn arguments(place: &Place) -> Vec<std::ffi::OsString> {
    let mut arguments =
        vec!["serve".into(), "--place".into(), place.dir().into(), "--ready-fd".into(), "1".into()];
    if let Some(grace) = std::env::var_os(GRACE) {
        arguments.extend(["--grace".into(), grace]);
    }
    arguments
}

/// A scope and not a service: it is in the namespaces of the caller, as the plugin is.
fn in_scope(systemd_run: &str, place: &Place) -> Result<Command, Error> {
    let program: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(systemd_run);
    command.args(["--scope", "--quiet", "--collect", "--description=Moor: names of containers"]);
    if !is_system_root() {
        command.arg("--user");
        for name in ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
    }
    command.arg("--").arg(&program);
    if program.file_name().is_some_and(|name| name == "moor") {
        command.arg("dns");
    }
    command.args(arguments(place));
    Ok(command)
}

/// Runs it until it says that it is ready (`Ok`), or why not (the inner error; empty when it ended without a word).
fn run(command: &mut Command, patience: Duration) -> io::Result<Result<(), String>> {
    let (reader, writer) = io::pipe()?;
    let kept: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command.env_clear().envs(kept).current_dir("/");
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // It holds the other end of the pipe.
    command.stdout(Stdio::null());
    let said = listen(reader, patience);
    if !matches!(&said, Ok(said) if said == READY) {
        end(&mut child);
    }
    said.map(|said| if said == READY { Ok(()) } else { Err(said) })
}

/// What comes through the pipe until a line or the pipe ends.
fn listen(mut pipe: PipeReader, patience: Duration) -> io::Result<String> {
    let deadline = Instant::now() + patience;
    let mut said = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut waiting = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, left) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let before = said.len();
        let mut piece = [0; 512];
        let length = pipe.read(&mut piece)?;
        said.extend_from_slice(piece.get(..length).unwrap_or_default());
        let line = said.iter().position(|byte| *byte == b'\n');
        if line.is_some() || said.len() == before || said.len() as u64 > SAID_MAX {
            said.truncate(line.unwrap_or(said.len()));
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
    }
}

/// It is of no use: it ends now.
fn end(child: &mut Child) {
    // One that has ended already is not there to be killed.
    let _ = child.kill();
    let _ = child.wait();
}

/// The first thing that a started responder does: it leaves the caller's session and terminal, and is seen by a name
/// (it was started as `/proc/self/exe`).
pub fn leave_session() {
    // It fails for who leads a group of processes already: then there is none to leave.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(c"moor-dns");
}
