//! The verbs' connection to the responder, which they start if necessary.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cni::Error;
use daemon::is_newer;

use crate::control::client::{self, Error as CallError};
use crate::control::{ControlRequest, ControlResponse};
use crate::launch;
use crate::record::StateDir;
use crate::restore;

/// Attempts if the responder exits meanwhile: one that was idle may just be exiting.
const ATTEMPTS: usize = 3;

/// A client of a state directory's responder.
pub struct ResponderClient<'a> {
    state_dir: &'a StateDir,
    /// Not connected yet; taken by the first request.
    socket: Option<OwnedFd>,
}

impl<'a> ResponderClient<'a> {
    /// A client of the responder in `state_dir`; `socket` is from [`client::socket`].
    pub fn new(state_dir: &'a StateDir, socket: OwnedFd) -> Self {
        Self { state_dir, socket: Some(socket) }
    }

    /// Sends a request, and starts a responder if there is none. Callers hold the plugins'
    /// lock.
    ///
    /// # Errors
    /// The responder could not be started, does not answer, or failed.
    pub fn call(&mut self, request: &ControlRequest, descriptors: &[BorrowedFd<'_>]) -> Result<(), Error> {
        let mut started = Ok(());
        for _ in 0..ATTEMPTS {
            match self.try_call(request, descriptors) {
                Ok(answer) if answer.detached => {
                    let socket = self.connected()?;
                    restore::settle(self.state_dir, &socket)?;
                }
                Ok(answer) => return into_result(&answer),
                Err(CallError::Absent | CallError::Gone) => {
                    // A responder that lost its state directory.
                    if let Some(socket) = client::connect_fallback(self.state_dir) {
                        restore::settle(self.state_dir, &socket)?;
                        continue;
                    }
                    // If the start failed, systemd may have started it
                    // meanwhile: one more request.
                    started?;
                    started = launch::start(self.state_dir);
                }
                Err(error) => return Err(error.into()),
            }
        }
        started?;
        Err(Error::internal(format!(
            "the responder of {} exits on every request",
            self.state_dir.dir().display()
        )))
    }

    /// Sends a request if there is a responder; returns whether there is.
    ///
    /// # Errors
    /// It does not answer, or failed.
    pub fn call_if_running(
        &mut self,
        request: &ControlRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<bool, Error> {
        match self.try_call(request, descriptors) {
            Ok(answer) => into_result(&answer).map(|()| true),
            Err(CallError::Absent | CallError::Gone) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a request, and makes a responder of an older release execute this one.
    fn try_call(
        &mut self,
        request: &ControlRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<ControlResponse, CallError> {
        let answer = self.connect_and_call(request, descriptors)?;
        if is_newer(cni::RELEASE, &answer.build)
            && let Some(path) = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned))
        {
            // On failure the old one continues.
            if let Ok(own) = std::fs::File::open("/proc/self/exe") {
                let _ = self.connect_and_call(&ControlRequest::Reexec { path }, &[own.as_fd()]);
            }
        }
        Ok(answer)
    }

    fn connected(&self) -> Result<OwnedFd, Error> {
        let socket = client::socket()?;
        client::connect_to(&socket, &self.state_dir.control())?;
        Ok(socket)
    }

    fn connect_and_call(
        &mut self,
        request: &ControlRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<ControlResponse, CallError> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => client::socket().map_err(CallError::Kernel)?,
        };
        client::call(&socket, &self.state_dir.control(), request, descriptors)
    }
}

fn into_result(answer: &ControlResponse) -> Result<(), Error> {
    match &answer.error {
        None => Ok(()),
        Some(error) => Err(Error::internal(error.as_str())),
    }
}
