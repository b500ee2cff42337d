//! The files of the lease directory; reading them needs no lock.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sys::file;

/// In bytes; longer than any container id in an environment variable (MAX_ARG_STRLEN,
/// linux/binfmts.h).
const LEASE_LIMIT: usize = 192 * 1024;

/// The holder of a lease: container and interface of an owner, as the text of a lease file. The
/// owner's network is the file's directory. Texts are compared byte for byte, also those of old
/// references.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Id, CR LF, interface name.
    pub(crate) text: String,
    /// The id alone.
    pub(crate) legacy: String,
}

impl Holder {
    /// Like the reference, this trims the id but not the name.
    pub fn new(container_id: &str, ifname: &str) -> Self {
        let legacy = container_id.trim().to_owned();
        Self { text: format!("{legacy}\r\n{ifname}"), legacy }
    }
}

/// The text of a lease, trimmed as by the reference.
pub fn text(dir: &Path, ip: IpAddr) -> Result<Option<String>, sys::Error> {
    let bytes = file::read(&dir.join(ip.to_string()), LEASE_LIMIT)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

pub fn pointer(dir: &Path, set: usize) -> PathBuf {
    dir.join(format!("last_reserved_ip.{set}"))
}

/// The last address that was allocated from the set; `None` when the file is missing or malformed.
pub fn last_reserved(dir: &Path, set: usize) -> Option<IpAddr> {
    match file::read(&pointer(dir, set), 64) {
        // Not trimmed, as in the reference: both must continue at the same address.
        Ok(bytes) => std::str::from_utf8(&bytes?).ok()?.parse().ok(),
        Err(error) => {
            eprintln!("Error retrieving last reserved ip: {error:#}");
            None
        }
    }
}

/// Whether the holder has a lease that DEL must remove, from the files and without the lock. A file
/// that cannot be read may be that lease.
pub fn holds_unlocked(dir: &Path, holder: &Holder) -> Result<bool, sys::Error> {
    let mut unreadable = None;
    for ip in addresses_in(dir)? {
        match text(dir, ip) {
            Ok(Some(text)) if text == holder.text || text == holder.legacy => return Ok(true),
            // A directory with the name of an address occupies it, but is not a lease.
            Err(error) if error.errno() != Some(nix::libc::EISDIR) => unreadable = Some(error),
            _ => {}
        }
    }
    unreadable.map_or(Ok(false), Err)
}

/// The addresses with leases in a network directory, in no order.
pub fn addresses_in(dir: &Path) -> Result<Vec<IpAddr>, sys::Error> {
    let fail = |cause: io::Error| sys::Error::new("list", dir.display().to_string(), cause);
    let mut ips = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        ips.extend(name.to_str().and_then(lease_name));
    }
    Ok(ips)
}

/// Whether the path is an empty file, which a killed reference leaves: the address is free.
pub fn is_empty_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == 0)
}

/// The address of a lease's file name, which has only one valid form.
fn lease_name(name: &str) -> Option<IpAddr> {
    let ip: IpAddr = name.parse().ok()?;
    (ip == ip.to_canonical() && ip.to_string() == name).then_some(ip)
}
