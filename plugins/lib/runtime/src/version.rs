//! Orders version strings. `cni::Version` only has the known versions; a runtime also gets later
//! ones.

use std::cmp::Ordering;
use std::fmt;

/// The newest version of the specification that this runtime supports.
pub const NEWEST: &str = "1.1.0";
/// The meaning of an absent or empty version (C-024).
pub const OLDEST: &str = "0.1.0";

/// A version that cannot be ordered: it has more than three parts, or a part is not a number
/// (C-034).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVersion(pub String);

impl fmt::Display for BadVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid version {:?}: want at most three dotted numbers", self.0)
    }
}

impl std::error::Error for BadVersion {}

/// Orders two versions: up to three dotted integers, missing ones are 0, empty is 0.1.0.
pub fn compare(a: &str, b: &str) -> Result<Ordering, BadVersion> {
    Ok(parts(a)?.cmp(&parts(b)?))
}

/// Whether `version` is `than` or newer.
pub fn at_least(version: &str, than: &str) -> Result<bool, BadVersion> {
    Ok(compare(version, than)?.is_ge())
}

/// The version, or the meaning of its absence.
pub(crate) fn or_oldest(version: &str) -> &str {
    if version.is_empty() { OLDEST } else { version }
}

fn parts(version: &str) -> Result<[u32; 3], BadVersion> {
    let mut out = [0; 3];
    for (at, part) in or_oldest(version).split('.').enumerate() {
        let number = part.parse().ok();
        match (out.get_mut(at), number) {
            (Some(slot), Some(number)) => *slot = number,
            _ => return Err(BadVersion(version.to_owned())),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-034.
    #[test]
    fn versions_are_ordered_by_up_to_three_numbers() {
        assert_eq!(compare("1.0", "1.0.0"), Ok(Ordering::Equal));
        assert_eq!(compare("0.10.0", "0.9.9"), Ok(Ordering::Greater));
        assert_eq!(compare("", "0.1.0"), Ok(Ordering::Equal));
        assert_eq!(at_least("1.0.0", "1.1.0"), Ok(false));
        for bad in ["1.0.0.0", "x", "1..0", "1.0-rc1"] {
            assert_eq!(compare(bad, "1.0.0"), Err(BadVersion(bad.into())), "{bad}");
        }
    }
}
