//! SELinux labels of files. The kernel stores them with SELinux or without it, and gives a new file
//! the label of its directory, whatever the file had whose name it takes.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::calls::{get_attribute, set_attribute};

/// linux/xattr.h: XATTR_NAME_SELINUX.
const NAME: &CStr = c"security.selinux";
/// Longer than any label that libselinux reads in one try (255 bytes).
const LABEL_MAX: usize = 4096;

/// The SELinux label of the file at `path`; a link is not followed. Without such a file, and on a
/// filesystem without labels, there is none.
pub fn label(path: &Path) -> Option<Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut value = vec![0; LABEL_MAX];
    let length = get_attribute(&path, NAME, &mut value).ok()?;
    value.truncate(length);
    Some(value)
}

/// Gives the file an SELinux label.
pub fn set_label(file: &File, label: &[u8]) -> io::Result<()> {
    set_attribute(file.as_fd(), NAME, label)
}
