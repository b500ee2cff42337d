//! A descriptor that outlives this process for as long as the kernel needs to close it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::check;

/// linux/io_uring.h.
const IORING_REGISTER_FILES: libc::c_uint = 2;
/// `struct io_uring_params`: thirty numbers of 32 bits, which the kernel fills in; 0 asks for nothing special.
type Params = [u32; 30];

/// Has the kernel hold the file of `fd` beside us, until it dissolves the ring that is returned: a worker of the kernel's
/// does that after the ring's descriptor is closed, and so it is the worker who closes the file for good and waits.
/// Nothing is ever sent by the ring. ENOSYS before Linux 5.1; EPERM where an administrator has switched rings off.
pub(crate) fn held_by_ring(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut params: Params = [0; 30];
    // SAFETY: `params` has the size of `struct io_uring_params` and lives across the call; any bytes are numbers.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut params) };
    let ring = RawFd::try_from(check(ring)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
    let ring = unsafe { OwnedFd::from_raw_fd(ring) };
    let files: [RawFd; 1] = [fd.as_raw_fd()];
    // SAFETY: both descriptors are open across the call, and the pointer and count are those of `files`, which is only read.
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
