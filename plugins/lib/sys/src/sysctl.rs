//! Kernel parameters under `/proc/sys`, of the calling thread's network namespace (see
//! [`crate::NetNs::enter`]).
//!
//! A key's components are separated by `/`, because interface names may contain dots:
//! `net/ipv4/conf/eth0.5/arp_notify`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;

use crate::{Error, Result};

const ROOT: &str = "/proc/sys";

/// Returns the value, without the newline at its end.
///
/// # Errors
/// The key is malformed, the parameter does not exist (`is_not_found`), or it cannot be read.
pub fn read(key: &str) -> Result<String> {
    path(key)
        .and_then(read_at)
        .map_err(|error| Error::new("read sysctl", key.escape_debug().to_string(), error))
}

/// Writes `value` unless it is already set; returns whether it wrote. A read-only `/proc/sys` is
/// not an error when the value is already set.
///
/// # Errors
/// The key is malformed, the parameter does not exist (`is_not_found`), or it cannot be written.
pub fn write(key: &str, value: &str) -> Result<bool> {
    path(key)
        .and_then(|path| {
            // Write-only parameters cannot be compared.
            if read_at(path.clone()).is_ok_and(|now| now == value) {
                return Ok(false);
            }
            // Neither create nor truncate; the kernel takes the value of a single write.
            File::options().write(true).open(path)?.write_all(value.as_bytes())?;
            Ok(true)
        })
        .map_err(|error| Error::new("write sysctl", format!("{}={value}", key.escape_debug()), error))
}

/// Writes `value` without reading the old one: for parameters of a link that was just created.
///
/// # Errors
/// As for [`write`].
pub fn set(key: &str, value: &str) -> Result<()> {
    path(key)
        .and_then(|path| File::options().write(true).open(path)?.write_all(value.as_bytes()))
        .map_err(|error| Error::new("write sysctl", format!("{}={value}", key.escape_debug()), error))
}

fn read_at(path: PathBuf) -> io::Result<String> {
    let mut value = fs::read_to_string(path)?;
    value.truncate(value.trim_end_matches('\n').len());
    Ok(value)
}

/// Returns the file of a key. Keys come from configuration: none may lead out of `/proc/sys`.
fn path(key: &str) -> io::Result<PathBuf> {
    if key.contains('\0') || key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "no sysctl has such a name"));
    }
    Ok([ROOT, key].iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_cannot_lead_out_of_proc_sys() {
        for key in
            ["", "/etc/passwd", "net/../../etc/passwd", "..", "net//ipv4", "net/", "net/./ipv4", "net\0"]
        {
            assert!(path(key).is_err(), "{key:?}");
            assert!(read(key).is_err() && write(key, "1").is_err(), "{key:?}");
        }
    }

    #[test]
    fn an_interface_name_may_contain_dots() {
        let key = "net/ipv4/conf/eth0.5/arp_notify";
        assert_eq!(path(key).unwrap(), PathBuf::from("/proc/sys/net/ipv4/conf/eth0.5/arp_notify"));
    }

    #[test]
    fn an_absent_parameter_is_not_found() {
        assert!(read("net/ipv4/no_such_parameter").unwrap_err().is_not_found());
        assert!(write("net/ipv4/no_such_parameter", "1").unwrap_err().is_not_found());
    }
}
