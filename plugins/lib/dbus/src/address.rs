//! Where the system bus is ("Server Addresses").

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// The variable that names another bus than the well-known one.
pub const VARIABLE: &str = "DBUS_SYSTEM_BUS_ADDRESS";
/// The bus without the variable.
const WELL_KNOWN: &str = "/run/dbus/system_bus_socket";

/// A socket of the bus.
#[derive(Debug, PartialEq, Eq)]
pub enum Address {
    /// A file.
    Path(PathBuf),
    /// A name in the abstract namespace.
    Abstract(Vec<u8>),
}

impl Address {
    /// The address that the variable has, or the well-known one; `None` if no address of the
    /// variable is a Unix socket.
    pub fn of(variable: Option<&OsStr>) -> Option<Self> {
        match variable.filter(|addresses| !addresses.is_empty()) {
            None => Some(Self::Path(WELL_KNOWN.into())),
            Some(addresses) => addresses.as_bytes().split(|byte| *byte == b';').find_map(Self::read),
        }
    }

    fn read(address: &[u8]) -> Option<Self> {
        let keys = address.strip_prefix(b"unix:")?;
        keys.split(|byte| *byte == b',').find_map(|key| {
            if let Some(path) = key.strip_prefix(b"path=") {
                return Some(Self::Path(OsStr::from_bytes(&unescape(path)?).into()));
            }
            key.strip_prefix(b"abstract=").and_then(unescape).map(Self::Abstract)
        })
    }
}

/// `%` and two hex digits are one byte.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'%' => {
                let digits = std::str::from_utf8(after.get(..2)?).ok()?;
                rest = after.get(2..)?;
                u8::from_str_radix(digits, 16).ok()?
            }
            byte => *byte,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_unix_socket_of_the_variable_is_the_address() {
        let of = |text: &str| Address::of(Some(OsStr::new(text)));
        let path = |text: &str| Some(Address::Path(text.into()));
        assert_eq!(Address::of(None), path(WELL_KNOWN));
        assert_eq!(of(""), path(WELL_KNOWN));
        assert_eq!(of("unix:path=/run/a%20b,guid=00"), path("/run/a b"));
        assert_eq!(of("tcp:host=::1,port=1;unix:guid=00,path=/b;unix:path=/c"), path("/b"));
        assert_eq!(of("unix:abstract=/tmp/x"), Some(Address::Abstract(b"/tmp/x".to_vec())));
        assert_eq!(of("unix:path=/a%2"), None);
        assert_eq!(of("unixexec:path=/bin/sh"), None);
    }
}
