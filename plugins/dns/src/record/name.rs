//! File names of records.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The longest identifier that is used as it is, in bytes.
const PLAIN_MAX: usize = 200;

/// The file name of a network or container id. The protocol allows
/// `[A-Za-z0-9][A-Za-z0-9_.-]*`, which cannot leave the directory, of any length; a long one is
/// replaced by its hash. Encoding a result again does not change it.
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
