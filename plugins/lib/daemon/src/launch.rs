//! Starts a daemon and waits until it is ready; it keeps nothing of the caller's.
//!
//! The daemon is this executable again, or another program of the suite, with a pipe as standard output to report readiness, no
//! other descriptor, an empty environment, and its own session. Where systemd manages the machine,
//! the daemon is a service, which systemd restarts after a kill, or a scope if the caller's
//! namespaces are not systemd's. Otherwise it would end with the unit that attached the first
//! container.

use std::ffi::{CStr, OsString};
use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{error, fmt};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::is_system_root;

/// How long a daemon may take to become ready. It takes some milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long systemd may take before the daemon is started without it.
const SYSTEMD_TIMEOUT: Duration = Duration::from_secs(2);
/// The line of a daemon that is ready. Anything else is an error.
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
const REPORT_ON_STDOUT: [&str; 2] = ["--ready-fd", "1"];
/// The longest error message, in bytes.
const MESSAGE_MAX: u64 = 4096;
/// sd_booted(3).
const SYSTEMD: &str = "/run/systemd/system";
const SYSTEMD_RUN: [&str; 2] = ["/usr/bin/systemd-run", "/bin/systemd-run"];

/// A daemon to start.
#[derive(Debug)]
pub struct Daemon<'a> {
    /// The plugin that it is a command of: an executable with several plugins dispatches on it.
    pub plugin: &'static str,
    /// The program, if it is not this executable.
    pub program: Option<&'a Path>,
    /// What it is, for the list of units.
    pub description: &'static str,
    /// Its command and the arguments.
    pub arguments: &'a [OsString],
}

/// Why a daemon could not be started.
#[derive(Debug)]
pub enum StartError {
    /// The kernel refused.
    Kernel(sys::Error),
    /// The daemon reported this, or exited without a message.
    Failed(Option<String>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => error.fmt(f),
            Self::Failed(Some(message)) => f.write_str(message),
            Self::Failed(None) => f.write_str("it exited without an error message"),
        }
    }
}

impl error::Error for StartError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Kernel(error) => error.source(),
            Self::Failed(_) => None,
        }
    }
}

/// Starts a daemon, and waits until it is ready.
///
/// # Errors
/// It could not be started, or reported an error.
pub fn start(daemon: &Daemon<'_>) -> Result<(), StartError> {
    sys::process::close_descriptors_on_exec().map_err(StartError::Kernel)?;
    if Path::new(SYSTEMD).is_dir()
        && let Some(systemd_run) = SYSTEMD_RUN.into_iter().find(|path| Path::new(path).exists())
    {
        let service = is_system_root() && shares_namespaces_with_init();
        let mut command = systemd_command(systemd_run, daemon, service)
            .map_err(|error| StartError::Kernel(sys::Error::new("find", "this executable", error)))?;
        // If systemd does not answer, the daemon is started without it.
        match run(&mut command, SYSTEMD_TIMEOUT) {
            Ok(Outcome::Ready) => return Ok(()),
            Ok(Outcome::Failed(why)) => return Err(StartError::Failed(Some(why))),
            // The service is ready when systemd-run exits.
            Ok(Outcome::Exited { success: true }) if service => return Ok(()),
            Ok(Outcome::Exited { .. }) | Err(_) => {}
        }
    }
    let mut command = Command::new(daemon.program.unwrap_or(Path::new("/proc/self/exe")));
    // An executable with several plugins dispatches on the name.
    command.arg0(daemon.plugin).args(daemon.arguments).args(REPORT_ON_STDOUT);
    let started = run(&mut command, START_TIMEOUT);
    match started.map_err(|error| StartError::Kernel(sys::Error::new("start", "the daemon", error)))? {
        Outcome::Ready => Ok(()),
        Outcome::Failed(why) => Err(StartError::Failed(Some(why))),
        Outcome::Exited { .. } => Err(StartError::Failed(None)),
    }
}

/// Whether this process has the network and mount namespaces of systemd's services.
fn shares_namespaces_with_init() -> bool {
    ["net", "mnt"].iter().all(|kind| {
        let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
        of("1").is_some_and(|init| of("self") == Some(init))
    })
}

/// The systemd-run command. A service reports readiness by sd_notify(3). A scope runs in the
/// caller's namespaces.
fn systemd_command(systemd_run: &str, daemon: &Daemon<'_>, service: bool) -> io::Result<Command> {
    let program: PathBuf = match daemon.program {
        Some(program) => program.to_owned(),
        None => std::env::current_exe()?,
    };
    let mut command = Command::new(systemd_run);
    command.args(["--quiet", "--collect"]).arg(format!("--description=Moor: {}", daemon.description));
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
    if daemon.program.is_none() && program.file_name().is_some_and(|name| name == "moor-plugins") {
        command.arg(daemon.plugin);
    }
    command.args(daemon.arguments);
    if !service {
        command.args(REPORT_ON_STDOUT);
    }
    Ok(command)
}

/// The result of starting a program.
enum Outcome {
    /// It is ready.
    Ready,
    /// It reported an error.
    Failed(String),
    /// It exited without a message; `success`: with status 0.
    Exited { success: bool },
}

/// Runs a program until it reports readiness or an error, or exits.
fn run(command: &mut Command, timeout: Duration) -> io::Result<Outcome> {
    let (reader, writer) = io::pipe()?;
    let kept: Vec<_> =
        command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    command.env_clear().envs(kept).current_dir("/");
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let mut child = command.spawn()?;
    // The command holds the other end of the pipe.
    command.stdout(Stdio::null());
    let message = read_line(reader, timeout);
    if matches!(&message, Ok(message) if message == READY) {
        return Ok(Outcome::Ready);
    }
    // It failed or is exiting; in that case its status is already set.
    child.kill()?;
    let success = child.wait()?.success();
    message.map(
        |message| if message.is_empty() { Outcome::Exited { success } } else { Outcome::Failed(message) },
    )
}

/// Reads from the pipe until a line or the end.
fn read_line(mut pipe: PipeReader, timeout: Duration) -> io::Result<String> {
    let deadline = Instant::now() + timeout;
    let mut message = Vec::new();
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
        let before = message.len();
        let mut piece = [0; 512];
        let length = pipe.read(&mut piece)?;
        message.extend_from_slice(piece.get(..length).unwrap_or_default());
        let line = message.iter().position(|byte| *byte == b'\n');
        if line.is_some() || message.len() == before || message.len() as u64 > MESSAGE_MAX {
            message.truncate(line.unwrap_or(message.len()));
            return Ok(String::from_utf8_lossy(&message).into_owned());
        }
    }
}

/// Detaches a started daemon: it leaves the caller's session and terminal, resets signals that the
/// caller ignored, and sets its name (it was started as `/proc/self/exe`).
pub fn detach_from_caller(process_name: &CStr) {
    sys::process::restore_default_signals();
    // The leader of a process group cannot, and has no session to leave.
    let _ = nix::unistd::setsid();
    let _ = nix::sys::prctl::set_name(process_name);
}
