//! The verbs' connection to the daemon, which they start if necessary.

use std::path::Path;

use cni::Error;
use daemon::is_newer;
use daemon::launch::{self, Daemon, StartError};
use sys::file;

use crate::control::client::{self, Failed};
use crate::control::{ControlRequest, ControlResponse, Limits, Verb};
use crate::record::Store;

/// Held while a daemon is started, so that plugins that run at the same time start one.
const START_LOCK: &str = ".start";
/// Seconds that a daemon without leases keeps running.
const IDLE: &str = "60";

/// The daemon at a path, started if there is none; returns its limits. A daemon of an older release
/// that was started on demand makes room.
///
/// # Errors
/// It does not answer, or could not be started.
pub fn ensure(store: &Store, socket: &Path) -> Result<Limits, Error> {
    let hello = ControlRequest { ask: Verb::Hello, lease: None };
    match client::call(socket, &hello) {
        Ok(response) if !is_newer(cni::RELEASE, &response.build) => return Ok(response.limits),
        Ok(response) => {
            let retired = client::call(socket, &ControlRequest { ask: Verb::Retire, lease: None });
            if !retired.is_ok_and(|response| response.error.is_none()) {
                return Ok(response.limits);
            }
        }
        Err(failed) if failed.is_absent() => {}
        Err(failed) => return Err(failed.into()),
    }
    store.make()?;
    let _lock = file::lock(&store.dir().join(START_LOCK), 0o600)?;
    match client::call(socket, &hello) {
        Ok(response) => return Ok(response.limits),
        Err(failed) if failed.is_absent() => {}
        Err(failed) => return Err(failed.into()),
    }
    let started = start(socket);
    // If the start failed, systemd may have started it meanwhile.
    match client::call(socket, &hello) {
        Ok(response) => Ok(response.limits),
        Err(failed) => Err(started.err().unwrap_or_else(|| failed.into())),
    }
}

fn start(socket: &Path) -> Result<(), Error> {
    let arguments = ["daemon".into(), "-socketpath".into(), socket.into(), "-idle".into(), IDLE.into()];
    let daemon =
        Daemon { plugin: "dhcp", program: None, description: "leases of containers", arguments: &arguments };
    launch::start(&daemon).map_err(|error| match error {
        StartError::Kernel(error) => error.into(),
        failed => Error::internal(format!("the DHCP daemon cannot run: {failed}")),
    })
}

/// Makes the daemon read a record again.
///
/// # Errors
/// There is no daemon, or it does not answer.
pub fn sync(socket: &Path, lease: String) -> Result<ControlResponse, Failed> {
    client::call(socket, &ControlRequest { ask: Verb::Sync, lease: Some(lease) })
}
