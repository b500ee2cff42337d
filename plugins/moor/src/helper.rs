//! Processes of the tool's own: this executable again, with a role and a socket to its parent. No
//! person calls them.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::failure::{Exit, Failure};

/// The first argument of a helper; no command has such a name.
const WORD: &str = "__helper";
/// How long a helper may take to become ready. It takes some milliseconds.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The line of a helper that is ready; any other is its error.
const READY: &str = "ready";

/// What a helper does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// Makes the namespace of `run`, and becomes the command.
    Command,
    /// Detaches what `run` has attached, when that is killed.
    Guardian,
    /// The first process of a lab.
    Init,
}

impl Role {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Command, "command"), (Self::Guardian, "guardian"), (Self::Init, "init")];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(role, _)| *role == self).map_or("", |(_, word)| word)
    }

    fn named(word: &OsStr) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| word == *known).map(|(role, _)| *role)
    }
}

/// A helper from its parent's side.
pub struct Helper {
    /// The process.
    pub process: Child,
    /// The parent's end of the socket.
    pub socket: UnixStream,
}

/// A helper that is started.
pub struct Start<'s> {
    /// What it does.
    pub role: Role,
    /// Its other arguments.
    pub arguments: &'s [OsString],
    /// A descriptor that it inherits, by the same number.
    pub inherits: Option<&'s OwnedFd>,
    /// Whether it has the standard input and output of its parent.
    pub has_terminal: bool,
}

impl Start<'_> {
    /// Starts it, and waits until it is ready.
    ///
    /// # Errors
    /// It could not be started, or reports why it is not ready.
    pub fn run(&self) -> Result<Helper, Failure> {
        let failed = |error: io::Error| Failure::refused(format!("start a process of moor: {error}"));
        let (socket, other) = UnixStream::pair().map_err(failed)?;
        let other = OwnedFd::from(other);
        inherit(&other, true).map_err(failed)?;
        if let Some(fd) = self.inherits {
            inherit(fd, true).map_err(failed)?;
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg0("moor").args([WORD, self.role.word(), &other.as_raw_fd().to_string()]);
        command.args(self.arguments);
        if !self.has_terminal {
            command.stdin(Stdio::null()).stdout(Stdio::null());
        }
        let process = command.spawn().map_err(failed)?;
        drop(other);
        if let Some(fd) = self.inherits {
            inherit(fd, false).map_err(failed)?;
        }
        let mut helper = Helper { process, socket };
        helper.await_ready()?;
        Ok(helper)
    }
}

impl Helper {
    /// Waits for its report that it is ready.
    pub fn await_ready(&mut self) -> Result<(), Failure> {
        let line = self.socket.set_read_timeout(Some(READY_TIMEOUT)).and_then(|()| {
            let mut line = String::new();
            BufReader::new(&self.socket).read_line(&mut line).map(|_| line)
        });
        let why = match line {
            Ok(line) if line.trim_end() == READY => return Ok(()),
            Ok(line) if line.is_empty() => "it ended at once".into(),
            Ok(line) => line.trim_end().to_owned(),
            Err(error) => format!("it is not ready: {error}"),
        };
        self.end();
        Err(Failure::refused(why))
    }

    /// Kills it, unless it has ended.
    pub fn end(&mut self) {
        // Both fail only for a process that has ended and been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a program that is started now inherits the descriptor.
pub fn inherit(fd: &impl AsFd, inherits: bool) -> io::Result<()> {
    let flag = if inherits { FdFlag::empty() } else { FdFlag::FD_CLOEXEC };
    fcntl(fd, FcntlArg::F_SETFD(flag)).map(drop).map_err(io::Error::from)
}

/// What a helper does, with its socket and its other arguments.
pub type Work = fn(&mut UnixStream, &[OsString]) -> Result<Exit, Failure>;

/// Runs a helper, when that is what the arguments of this process ask for.
pub fn called(arguments: &[OsString], work_of: impl Fn(Role) -> Work) -> Option<Exit> {
    let [_, word, role, socket, rest @ ..] = arguments else { return None };
    if word != WORD {
        return None;
    }
    let role = Role::named(role)?;
    let socket = parse_descriptor(socket)
        .and_then(|socket| Ok((socket, sys::process::close_descriptors_on_exec()?)))
        .map(|(socket, ())| UnixStream::from(socket));
    let done = socket.map_err(|error| Failure::refused(error.to_string())).and_then(|mut socket| {
        work_of(role)(&mut socket, rest).map_err(|failure| {
            // A parent that waits prints it; when it does not wait any more, standard error has it.
            if socket.write_all(format!("{}\n", one_line(&failure)).as_bytes()).is_err() {
                eprintln!("moor: {failure}");
            }
            failure
        })
    });
    Some(done.unwrap_or(Exit::Status(125)))
}

fn one_line(failure: &Failure) -> String {
    failure.to_string().replace('\n', " ")
}

/// A descriptor by its number in an argument.
pub fn parse_descriptor(number: &OsStr) -> sys::Result<OwnedFd> {
    let number = number.to_str().and_then(|text| text.parse().ok()).unwrap_or(-1);
    sys::process::inherited_descriptor(number)
}

/// Reports to the parent that the helper is ready.
pub fn report_ready(socket: &mut UnixStream) -> Result<(), Failure> {
    let written = socket.write_all(format!("{READY}\n").as_bytes());
    written.map_err(|error| Failure::refused(format!("the parent has gone: {error}")))
}

/// The person's shell.
pub fn shell() -> OsString {
    std::env::var_os("SHELL").filter(|shell| !shell.is_empty()).unwrap_or("/bin/sh".into())
}

/// Becomes the command; returns only when it cannot be executed.
pub fn become_command(command: &[OsString]) -> Exit {
    let Some((program, arguments)) = command.split_first() else { return Exit::Status(127) };
    let error = Command::new(program).args(arguments).exec();
    eprintln!("moor: execute {}: {error}", crate::output::escaped(&program.to_string_lossy()));
    Exit::Status(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}
