//! The version of a record: what every release can read of every other's.
//!
//! A record begins with its version: a text with the line `v 1`, JSON with the member `"v":1`. What
//! an older reader skips without harm can be added to it; any other change is a new version. A
//! reader that meets a newer one names it, and takes the record neither for its own nor for garbage.

use std::fmt;

/// The version of a record is newer than its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newer {
    /// The version.
    pub found: u32,
    /// The newest one that the reader knows.
    pub known: u32,
}

impl fmt::Display for Newer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, known } = self;
        write!(f, "a newer release wrote it: it is of version {found}, and this release reads {known}")
    }
}

/// The version that a record begins with; `None` for what begins otherwise.
pub fn version(record: &[u8]) -> Option<u32> {
    let text = record.strip_prefix(b"v ");
    let rest = text.or_else(|| record.strip_prefix(b"{\"v\":"))?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at(digits);
    let ends: &[u8] = if text.is_some() { b"\n" } else { b",}" };
    let ended = rest.first().is_some_and(|byte| ends.contains(byte));
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| ended)
}

/// Refuses a record of a newer version than the reader's.
///
/// # Errors
/// It is newer.
pub fn ensure_known(record: &[u8], known: u32) -> Result<(), Newer> {
    match version(record) {
        Some(found) if found > known => Err(Newer { found, known }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_records_begin_with_their_version() {
        for (record, found) in [
            ("v 1\nowner net eth0 c1\n", Some(1)),
            ("v 27\n", Some(27)),
            ("{\"v\":1}", Some(1)),
            ("{\"v\":3,\"network\":\"net\"}", Some(3)),
            ("", None),
            ("v", None),
            ("v \n", None),
            ("v 1", None),
            ("v 1 2\n", None),
            ("v -1\n", None),
            ("v 99999999999\n", None),
            ("{\"v\":1.5}", None),
            ("{\"v\":\"1\"}", None),
            ("{\"version\":1}", None),
            ("{\"v\":", None),
        ] {
            assert_eq!(version(record.as_bytes()), found, "{record:?}");
        }
    }

    #[test]
    fn only_a_newer_version_is_refused_and_is_named() {
        assert_eq!(ensure_known(b"v 1\n", 2), Ok(()));
        assert_eq!(ensure_known(b"v 2\n", 2), Ok(()));
        assert_eq!(ensure_known(b"garbage", 2), Ok(()));
        let newer = ensure_known(b"{\"v\":3}", 2).unwrap_err();
        assert_eq!(newer, Newer { found: 3, known: 2 });
        let text = newer.to_string();
        assert!(text.contains("of version 3") && text.contains("reads 2"), "{text}");
    }
}
