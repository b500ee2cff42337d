//! Starts the responder and waits until it is ready; it keeps nothing of the caller's.
//!
//! The responder is this executable again, with a pipe as standard output to report readiness,
//! no other descriptor, an empty environment, and its own session. Where systemd manages the
//! machine, the responder is a service, which systemd restarts after a kill, or a scope if the
//! caller's namespaces are not systemd's. Otherwise it would end with the unit that attached
//! the first container.

use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cni::Error;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::control::PROCESS_NAME;
use crate::place::is_system_root;
use crate::record::Place;

/// How long a responder may take to become ready. It takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long systemd may take before the responder is started without it.
const PATIENCE_WITH_SYSTEMD: Duration = Duration::from_secs(2);
/// The line of a responder that is ready. Anything else is an error.
pub const READY: &str = "ok";
/// The properties of the service. It is restarted after a kill, but not after an error (status
/// 1), which would repeat. It waits for no other unit at boot, and at shutdown ends with the
/// last processes, since containers may be among them.
const SERVICE: [&str; 4] = [
    "--property=Type=notify",
    "--property=Restart=on-failure",
    "--property=RestartPreventExitStatus=1",
    "--property=DefaultDependencies=no",
];
/// Reports readiness on the pipe.
const READY_BY_STDOUT: [&str; 2] = ["--ready-fd", "1"];
/// The longest error message, in bytes.
const SAID_MAX: u64 = 4096;
/// sd_booted(3).
const SYSTEMD: &str = "/run/systemd/system";
const SYSTEMD_RUN: [&str; 2] = ["/usr/bin/systemd-run", "/bin/systemd-run"];
/// Seconds that an idle responder keeps running, for tests. The default is in [`crate::serve`].
const GRACE: &str = "MOOR_DNS_GRACE";

/// Starts the responder of a state directory, and waits until it is ready. Callers hold the
/// plugins' lock.
///
/// # Errors
/// It could not be started, or reported an error.
pub fn start(place: &Place) -> Result<(), Error> {
    sys::process::close_descriptors_on_exec()?;
    if Path::new(SYSTEMD).is_dir()
        && let Some(systemd_run) = SYSTEMD_RUN.into_iter().find(|path| Path::new(path).exists())
    {
        let service = is_system_root() && is_with_init();
        let mut command = by_systemd(systemd_run, place, service)?;
        // If systemd does not answer, the responder is started without it.
        match run(&mut command, PATIENCE_WITH_SYSTEMD) {
            Ok(Outcome::Ready) => return Ok(()),
            Ok(Outcome::Said(why)) => return Err(refused(&why)),
            // The service is ready when systemd-run exits.
            Ok(Outcome::Ended { well: true }) if service => return Ok(()),
            Ok(Outcome::Ended { .. }) | Err(_) => {}
        }
    }
    let mut command = Command::new("/proc/self/exe");
    // An executable with several plugins dispatches on the name.
    command.arg0("dns").args(arguments(place)).args(READY_BY_STDOUT);
    let started = run(&mut command, PATIENCE);
    match started.map_err(|error| sys::Error::new("start", "the responder", error))? {
        Outcome::Ready => Ok(()),
        Outcome::Said(why) => Err(refused(&why)),
        Outcome::Ended { .. } => Err(refused("it exited without an error message")),
    }
}

fn refused(said: &str) -> Error {
    Error::internal(format!("the responder cannot serve: {said}"))
}

fn arguments(place: &Place) -> Vec<std::ffi::OsString> {
    let mut arguments = vec!["serve".into(), "--place".into(), place.dir().into()];
    if let Some(grace) = std::env::var_os(GRACE) {
        arguments.extend(["--grace".into(), grace]);
    }
    arguments
}

/// Whether this process has the network and mount namespaces of systemd's services.
fn is_with_init() -> bool {
    ["net", "mnt"].iter().all(|kind| {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
        of("1").is_some_and(|init| of("self") == Some(init))
    })
}

/// The systemd-run command. A service reports readiness by sd_notify(3). A scope runs in the
/// caller's namespaces.
fn by_systemd(systemd_run: &str, place: &Place, service: bool) -> Result<Command, Error> {
    let program: PathBuf = std::env::current_exe()?;
    let mut command = Command::new(systemd_run);
    command.args(["--quiet", "--collect", "--description=Moor: names of containers"]);
    if service {
        command.args(SERVICE);
    } else {
        command.arg("--scope");
    }
    if !is_system_root() {
        command.arg("--user");
        for name in ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
    }
    command.arg("--").arg(&program);
    if program.file_name().is_some_and(|name| name == "moor-plugins") {
        command.arg("dns");
    }
    command.args(arguments(place));
    if !service {
        command.args(READY_BY_STDOUT);
    }
    Ok(command)
}

/// The result of starting a program.
enum Outcome {
    /// It is ready.
    Ready,
    /// It reported an error.
    Said(String),
    /// It exited without a message; `well`: with status 0.
    Ended { well: bool },
}

/// Runs a program until it reports readiness or an error, or exits.
fn run(command: &mut Command, patience: Duration) -> io::Result<Outcome> {
    let (reader, writer) = io::pipe()?;
    let kept: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command.env_clear().envs(kept).current_dir("/");
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // The command holds the other end of the pipe.
    command.stdout(Stdio::null());
    let said = listen(reader, patience);
    if matches!(&said, Ok(said) if said == READY) {
        return Ok(Outcome::Ready);
    }
    // It failed or is exiting; in that case its status is already set.
    child.kill()?;
    let well = child.wait()?.success();
    said.map(|said| if said.is_empty() { Outcome::Ended { well } } else { Outcome::Said(said) })
}

/// Reads from the pipe until a line or the end.
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

/// Detaches a started responder: it leaves the caller's session and terminal, resets signals
/// that the caller ignored, and sets its name (it was started as `/proc/self/exe`).
pub fn leave_session() {
    sys::process::restore_default_signals();
    // The leader of a process group cannot, and has no session to leave.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(PROCESS_NAME);
}
