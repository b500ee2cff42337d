//! Dropping privileges.

use std::io;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::calls;

/// linux/capability.h: bind ports below 1024.
pub const NET_BIND_SERVICE: u32 = 10;

/// Drops all capabilities except this one, which survives an exec if it is held, and disables
/// gaining others (no_new_privs; prctl(2)). It affects only the calling thread, so call it before
/// starting others.
///
/// # Errors
/// The kernel refused.
pub fn drop_capabilities_except(capability: u32) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    calls::drop_capabilities_outside(1 << capability)?;
    match calls::raise_ambient(capability) {
        // The capability was not held.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        done => done,
    }
}

/// linux/capability.h: change links, addresses and routes.
pub const NET_ADMIN: u32 = 12;
/// linux/capability.h: open packet sockets.
pub const NET_RAW: u32 = 13;
/// linux/capability.h: open the namespaces of other processes.
pub const SYS_PTRACE: u32 = 19;
/// linux/capability.h: enter namespaces.
pub const SYS_ADMIN: u32 = 21;

/// Drops all capabilities except these, and disables gaining others (no_new_privs; prctl(2)). It
/// affects only the calling thread, so call it before starting others.
///
/// # Errors
/// The kernel refused.
pub fn limit_capabilities(capabilities: &[u32]) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    calls::drop_capabilities_outside(capabilities.iter().fold(0, |mask, capability| mask | 1 << capability))
}

/// Becomes the user and group `id`, without supplementary groups; capabilities stay permitted until
/// [`drop_capabilities_except`] drops them.
///
/// # Errors
/// The kernel refused: the process is not root.
pub fn become_user(id: u32) -> io::Result<()> {
    prctl::set_keepcaps(true)?;
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(())
}
