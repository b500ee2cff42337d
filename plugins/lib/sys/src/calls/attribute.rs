//! Extended attributes of files (xattr(7)), for which nix has no functions.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::check;

/// Reads an attribute of the file at `path`, or of the link there, into `value`; returns its length.
/// ERANGE if it is longer.
pub(crate) fn get_attribute(path: &CStr, name: &CStr, value: &mut [u8]) -> io::Result<usize> {
    // SAFETY: both strings end in a zero byte and live across the call, as does `value`, which is
    // written up to its own length.
    let length =
        unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let length = check(i64::try_from(length).map_err(io::Error::other)?)?;
    usize::try_from(length).map_err(io::Error::other)
}

/// Gives an open file an attribute, in the place of one of that name.
pub(crate) fn set_attribute(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor is open for the lifetime of the borrow, the string ends in a zero byte,
    // and `value` is read up to its own length; all live across the call.
    let done =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(done).map(drop)
}
