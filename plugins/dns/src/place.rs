//! Which [`Place`] is this request's.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cni::Error;
use sys::NetNs;

use crate::control::client;
use crate::record::Place;

/// Where root's records are: with the kernel state that they describe, they are gone after a boot.
const SYSTEM: &str = "/run/moor/dns";
/// Of `$XDG_RUNTIME_DIR`.
const OF_USER: &str = "moor/dns";

/// The place of the network namespace that this process is in, and a socket for its responder.
///
/// # Errors
/// The kernel refused.
pub fn here(configured: Option<&Path>) -> Result<(Place, OwnedFd), Error> {
    let socket = client::socket()?;
    let name = NetNs::name_of_socket(socket.as_fd())?;
    let root = configured.map_or_else(root, Path::to_owned);
    Ok((Place::at(root.join(name)), socket))
}

/// By what the process may do, and not by whether a variable happens to be set: a container that root started from a
/// login shell is stopped from a service.
fn root() -> PathBuf {
    if is_system_root() {
        return SYSTEM.into();
    }
    let of_user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute());
    of_user.map_or_else(|| SYSTEM.into(), |dir| dir.join(OF_USER))
}

/// Whether this is root, and of the initial user namespace.
pub fn is_system_root() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| {
        // user_namespaces(7): the initial one maps all ids to themselves. A kernel without them has no such file.
        let initial = fs::read_to_string("/proc/self/uid_map")
            .map_or(true, |map| map.split_whitespace().eq(["0", "0", "4294967295"]));
        initial && nix::unistd::geteuid().is_root()
    })
}
