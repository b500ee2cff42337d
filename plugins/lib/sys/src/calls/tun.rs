//! The ioctls of `/dev/net/tun` (linux/if_tun.h).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// `struct ifreq` of linux/if.h: a name of 16 bytes with its NUL, and a union of 24 bytes (on the
/// 64-bit architectures) that begins with the flags.
type IfReq = [u8; 40];
/// IFNAMSIZ.
const NAME: usize = 16;

/// Creates the device of that name, or attaches to it, with these `IFF_*` flags.
pub(crate) fn set_interface(queue: BorrowedFd<'_>, name: &str, flags: u16) -> io::Result<()> {
    let mut request: IfReq = [0; 40];
    let bytes = name.as_bytes();
    match request.get_mut(..bytes.len()) {
        Some(field) if bytes.len() < NAME => field.copy_from_slice(bytes),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    }
    if let Some(field) = request.get_mut(NAME..NAME + 2) {
        field.copy_from_slice(&flags.to_ne_bytes());
    }
    // SAFETY: the descriptor is open for the lifetime of the borrow; the kernel reads and writes
    // one `struct ifreq`, which is not larger than `request`, and any bytes are valid for it.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFF, request.as_mut_ptr()) };
    check(result).map(drop)
}

/// Sets the index of the device that this descriptor will create; a positive number.
pub(crate) fn set_index(queue: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the lifetime of the borrow; the kernel reads one number,
    // which lives across the call.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETIFINDEX, &raw const index) };
    check(result).map(drop)
}

/// Sets the user who may attach to the device.
pub(crate) fn set_owner(queue: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the lifetime of the borrow; the argument is a number.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETOWNER, libc::c_ulong::from(uid)) };
    check(result).map(drop)
}

/// Sets the group that may attach to the device.
pub(crate) fn set_group(queue: BorrowedFd<'_>, gid: u32) -> io::Result<()> {
    // SAFETY: the descriptor is open for the lifetime of the borrow; the argument is a number.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETGROUP, libc::c_ulong::from(gid)) };
    check(result).map(drop)
}

/// Makes the device outlive its descriptors.
pub(crate) fn set_persistent(queue: BorrowedFd<'_>) -> io::Result<()> {
    let yes: libc::c_ulong = 1;
    // SAFETY: the descriptor is open for the lifetime of the borrow; the argument is a number.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETPERSIST, yes) };
    check(result).map(drop)
}
