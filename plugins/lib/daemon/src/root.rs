//! Whether this process is the machine's root.

use std::fs;
use std::sync::OnceLock;

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
