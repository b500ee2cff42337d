//! A file reference inside the kernel that outlives this process, so that a kernel worker does the
//! last close.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// linux/io_uring.h.
const IORING_REGISTER_FILES: libc::c_uint = 2;
/// `struct io_uring_params`: thirty 32-bit numbers, which the kernel fills in; zeros request the
/// defaults.
type Params = [u32; 30];

/// Makes an io_uring hold a reference to the file of `fd`, and returns the ring. After the ring's
/// descriptor is closed, a kernel worker tears the ring down, so the worker does the last close of
/// the file and waits for it. Nothing is ever submitted to the ring. ENOSYS before Linux 5.1; EPERM
/// where an administrator has disabled io_uring.
pub(crate) fn held_by_ring(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut params: Params = [0; 30];
    // SAFETY: `params` has the size of `struct io_uring_params` and lives across the call; its
    // fields are numbers, so any bytes are valid.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) };
    let ring = RawFd::try_from(check(ring)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just created this descriptor for us, and no other code owns it.
    let ring = unsafe { OwnedFd::from_raw_fd(ring) };
    let files: [RawFd; 1] = [fd.as_raw_fd()];
    // SAFETY: both descriptors are open across the call, and the pointer and count are those of
    // `files`, which is only read.
    let result = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            IORING_REGISTER_FILES,
            files.as_ptr(),
            files.len(),
        )
    };
    check(result)?;
    Ok(ring)
}
