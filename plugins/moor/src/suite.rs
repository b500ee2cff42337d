//! Which suite an executable is of.

use std::path::Path;

use crate::files;

/// The text by which the reference's executables are known: its module in Go.
const REFERENCE: &[u8] = b"github.com/containernetworking/plugins";
/// No executable of a plugin is larger, in bytes.
const SIZE_MAX: u64 = 256 << 20;

/// Whether it is one of the reference's plugins; `None` when it cannot be read.
pub fn is_references(executable: &Path) -> Option<bool> {
    let bytes = files::read(executable, SIZE_MAX).ok()?;
    let mut rest = &bytes[..];
    while let Some(at) = rest.iter().position(|byte| *byte == REFERENCE[0]) {
        rest = &rest[at..];
        if rest.starts_with(REFERENCE) {
            return Some(true);
        }
        rest = &rest[1..];
    }
    Some(false)
}
