//! Names of files.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The longest identifier that is a file's name as it is, in bytes.
const PLAIN_MAX: usize = 200;

/// A network's name or a container's id as a file's name. The protocol allows `[A-Za-z0-9][A-Za-z0-9_.-]*` of any
/// length, which leads out of no directory; a long one is replaced by its hash. The name that this gives stays as it is.
pub fn encoded(identifier: &str) -> String {
    if identifier.len() <= PLAIN_MAX {
        return identifier.to_owned();
    }
    let mut name = String::from("sha256-");
    for byte in Sha256::digest(identifier) {
        // Writing to a string does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}
