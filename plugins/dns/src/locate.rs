//! Finds the state directory of this request.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cni::Error;
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

/// Whether this process is root in the initial user namespace.
pub fn is_system_root() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| {
        // user_namespaces(7): the initial one maps every id to itself. A kernel without
        // user namespaces has no such file.
        let initial = fs::read_to_string("/proc/self/uid_map")
            .map_or(true, |map| map.split_whitespace().eq(["0", "0", "4294967295"]));
        initial && nix::unistd::geteuid().is_root()
    })
}
