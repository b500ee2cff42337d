//! Giving up what is not needed.

use std::io;

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::calls;

/// linux/capability.h: ports below 1024 may be bound.
pub const NET_BIND_SERVICE: u32 = 10;

/// Gives up all capabilities but this one, which is kept if it is held, over the execution of another program too; and the
/// means to get others (no_new_privs; prctl(2)). Of the calling thread alone: there had better be no other.
///
/// # Errors
/// The kernel refused.
pub fn keep(capability: u32) -> io::Result<()> {
    prctl::set_no_new_privs()?;
    calls::keep_capabilities(1 << capability)?;
    match calls::keep_over_exec(capability) {
        // It was not held before.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Ok(()),
        done => done,
    }
}

/// Becomes the user and the group `id`, without any other group; capabilities stay permitted until [`keep`] takes them.
///
/// # Errors
/// The kernel refused: this is not root.
pub fn become_user(id: u32) -> io::Result<()> {
    prctl::set_keepcaps(true)?;
    let (user, group) = (Uid::from_raw(id), Gid::from_raw(id));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    Ok(())
}
