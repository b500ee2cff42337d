//! Requests to the agent.

use std::path::Path;
use std::time::{Duration, Instant};
use std::{error, fmt};

use cluster::control::{Answer, Outcome, PACKET_MAX, Request};
use cni::{Code, Error};
use daemon::is_newer;
use daemon::packet::{self, CallError, Server};
use daemon::process::Process;
use sys::file::{self, Hold};

use crate::files::Files;
use crate::{PROCESS_NAME, PROGRAM, launch};

/// How often to see meanwhile whether the agent is stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The time for the request that makes an older agent execute the newer one.
const REEXEC_TIMEOUT: Duration = Duration::from_millis(500);
/// Starts in one request: an agent that leaves the cluster may just be exiting.
const ATTEMPTS: usize = 3;

/// Why there is no response.
#[derive(Debug)]
pub enum AskError {
    /// There is no agent: no socket, or nobody listens.
    Absent,
    /// The connection was closed before the response.
    Gone,
    /// There was no response in time; the process, as far as it is visible, and the time.
    Silent(Option<Process>, Duration),
    /// Another user listens.
    OtherUser(u32),
    /// The request is longer than a packet.
    TooLong,
    /// The response cannot be read.
    Malformed(serde_json::Error),
    /// The kernel refused.
    Kernel(sys::Error),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => write!(f, "{PROGRAM} does not run"),
            Self::Gone => write!(f, "{PROGRAM} went away before it answered"),
            Self::Silent(Some(process), _) if process.is_stopped() => {
                write!(f, "{PROGRAM} ({process}) does not answer: continue it (kill -CONT) or kill it")
            }
            Self::Silent(process, time) => {
                f.write_str(PROGRAM)?;
                if let Some(process) = process {
                    write!(f, " ({process})")?;
                }
                write!(f, " did not answer within {} ms", time.as_millis())
            }
            Self::OtherUser(uid) => write!(f, "what listens in place of {PROGRAM} is user {uid}'s"),
            Self::TooLong => write!(f, "the request to {PROGRAM} is longer than {PACKET_MAX} bytes"),
            Self::Malformed(_) => write!(f, "the answer of {PROGRAM} cannot be read"),
            Self::Kernel(error) => error.fmt(f),
        }
    }
}

impl error::Error for AskError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Malformed(error) => Some(error),
            Self::Kernel(error) => error.source(),
            _ => None,
        }
    }
}

impl AskError {
    /// Whether there is no agent.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent | Self::Gone)
    }

    /// As a plugin's error: the runtime may try again.
    pub fn into_cni(self) -> Error {
        let error = Error::from(self);
        Error::new(Code::TryAgainLater, error.msg).details(error.details)
    }
}

/// The response, unless the request failed.
///
/// # Errors
/// The agent's code and words.
pub fn accepted(answer: Answer) -> Result<Answer, Error> {
    if answer.outcome != Outcome::Failed {
        return Ok(answer);
    }
    let why = answer.why.unwrap_or_else(|| format!("{PROGRAM} gave no reason"));
    Err(Error { code: answer.code.unwrap_or(Code::TryAgainLater as u32), msg: why, details: String::new() })
}

/// A client of the agent of this process's network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Where its files are.
    pub files: &'a Files,
    /// Its settings, if it must be started.
    pub settings: &'a Path,
    /// `CNI_PATH`, which the agent may be in.
    pub cni_path: &'a str,
}

impl Client<'_> {
    /// Sends a request if there is an agent, and waits for the response. An agent of an older release
    /// executes the newer one afterwards.
    ///
    /// # Errors
    /// There is none, or it does not answer. A failure of the request is in the response: see
    /// [`accepted`].
    pub fn ask(&self, request: &Request, timeout: Duration) -> Result<Answer, AskError> {
        let answer = self.call(request, timeout)?;
        if is_newer(cni::RELEASE, &answer.build)
            && !matches!(request, Request::Leave { .. } | Request::Reexec { .. })
            && let Ok(program) = launch::program(self.cni_path)
            && let Some(path) = program.to_str().map(str::to_owned)
        {
            // On failure the old one continues.
            let _ = self.call(&Request::Reexec { path }, REEXEC_TIMEOUT);
        }
        Ok(answer)
    }

    /// As [`Client::ask`], but starts an agent if there is none.
    ///
    /// # Errors
    /// It could not be started, or does not answer: code 11.
    pub fn ask_or_start(&self, request: &Request, timeout: Duration) -> Result<Answer, Error> {
        match self.ask(request, timeout) {
            Err(error) if error.is_absent() => {}
            done => return done.map_err(AskError::into_cni),
        }
        self.files.make()?;
        let path = self.files.start_lock();
        let lock = file::open_lock(&path)?;
        file::lock_bounded(&lock, &path, Hold::Alone, timeout)?;
        let mut started = Ok(());
        for _ in 0..ATTEMPTS {
            match self.ask(request, timeout) {
                Err(error) if error.is_absent() => {
                    // If the start failed, systemd may have started it meanwhile.
                    started?;
                    started = launch::start(self.files, self.settings, self.cni_path);
                }
                done => return done.map_err(AskError::into_cni),
            }
        }
        started?;
        let why = format!("{PROGRAM} of {} exits on every request", self.files.run().display());
        Err(Error::new(Code::TryAgainLater, why))
    }

    fn call(&self, request: &Request, timeout: Duration) -> Result<Answer, AskError> {
        let packet = serde_json::to_vec(request).map_err(AskError::Malformed)?;
        if packet.len() > PACKET_MAX {
            return Err(AskError::TooLong);
        }
        let until = Instant::now() + timeout;
        let (path, lock) = (self.files.control(), self.files.agent_lock());
        let agent = Server { what: PROGRAM, socket: &path, lock: &lock, name: PROCESS_NAME };
        let fail = |error| match error {
            CallError::Absent => AskError::Absent,
            CallError::Gone => AskError::Gone,
            CallError::Silent(process) => AskError::Silent(process, timeout),
            CallError::Kernel(error) => AskError::Kernel(error),
        };
        let socket = packet::socket(POLL_INTERVAL.min(timeout)).map_err(AskError::Kernel)?;
        agent.connect(&socket, until).map_err(fail)?;
        let user = packet::peer_user(&socket);
        let user = user.map_err(|errno| {
            AskError::Kernel(sys::Error::new("ask who listens at", path.display().to_string(), errno))
        })?;
        if user != 0 && user != nix::unistd::geteuid().as_raw() {
            return Err(AskError::OtherUser(user));
        }
        let mut response = [0; PACKET_MAX];
        let length = agent.exchange(&socket, until, &packet, &[], &mut response).map_err(fail)?;
        serde_json::from_slice(response.get(..length).unwrap_or_default()).map_err(AskError::Malformed)
    }
}

#[cfg(test)]
mod tests;
