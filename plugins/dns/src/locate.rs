//! Finds the state directory of this request.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cni::Error;
use daemon::is_system_root;
use sys::NetNs;

use crate::control::client;
use crate::record::StateDir;

/// For root: on a tmpfs, which a boot clears together with the kernel state that the records
/// describe.
const SYSTEM: &str = "/run/moor/dns";
/// Below `$XDG_RUNTIME_DIR`.
const OF_USER: &str = "moor/dns";

/// The state directory of this process's network namespace, and a socket for its responder.
///
/// # Errors
/// The kernel refused.
pub fn state_dir(configured: Option<&Path>) -> Result<(StateDir, OwnedFd), Error> {
    let socket = client::socket()?;
    let name = NetNs::name_of_socket(socket.as_fd())?;
    let root = configured.map_or_else(root, Path::to_owned);
    Ok((StateDir::at(root.join(name)), socket))
}

/// Depends on privileges, not on a variable alone: root may start a container from a login
/// shell and stop it from a service.
fn root() -> PathBuf {
    if is_system_root() {
        return SYSTEM.into();
    }
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    of_user.map_or_else(|| SYSTEM.into(), |dir| dir.join(OF_USER))
}
