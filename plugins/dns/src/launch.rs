//! Starts the responder of a state directory.

use cni::Error;
use daemon::launch::{Daemon, StartError, detach_from_caller};

use crate::control::PROCESS_NAME;
use crate::record::StateDir;

/// Seconds that an idle responder keeps running, for tests. The default is in [`crate::serve`].
const GRACE: &str = "MOOR_DNS_GRACE";

/// Starts the responder, and waits until it is ready. Callers hold the plugins' lock.
///
/// # Errors
/// It could not be started, or reported an error.
pub fn start(state_dir: &StateDir) -> Result<(), Error> {
    let mut arguments = vec!["serve".into(), "--place".into(), state_dir.dir().into()];
    if let Some(grace) = std::env::var_os(GRACE) {
        arguments.extend(["--grace".into(), grace]);
    }
    let responder =
        Daemon { plugin: "dns", program: None, description: "names of containers", arguments: &arguments };
    daemon::launch::start(&responder).map_err(|error| match error {
        StartError::Kernel(error) => error.into(),
        failed => Error::internal(format!("the responder cannot serve: {failed}")),
    })
}

/// See [`detach_from_caller`].
pub fn detach() {
    detach_from_caller(PROCESS_NAME);
}
