//! The files of the lease directory, one by one; reading them takes no lock.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sys::file;

/// Above any container id that fits an environment variable (MAX_ARG_STRLEN, linux/binfmts.h), in bytes.
const LEASE_LIMIT: usize = 192 * 1024;

/// Who holds a lease: an owner's container and interface as lease files name them. Its network is the file's directory,
/// and the text is compared byte for byte, as the reference wrote it and an older reference did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Id, CR LF, interface name.
    pub(crate) text: String,
    /// The id alone.
    pub(crate) legacy: String,
}

impl Holder {
    /// The id is trimmed as the reference does, the name is taken as it is.
    pub fn new(container_id: &str, ifname: &str) -> Self {
        let legacy = container_id.trim().to_owned();
        Self { text: format!("{legacy}\r\n{ifname}"), legacy }
    }
}

/// A lease's text, trimmed as the reference does.
pub fn text(dir: &Path, ip: IpAddr) -> Result<Option<String>, sys::Error> {
    let bytes = file::read(&dir.join(ip.to_string()), LEASE_LIMIT)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()))
}

pub fn pointer(dir: &Path, set: usize) -> PathBuf {
    dir.join(format!("last_reserved_ip.{set}"))
}

/// The last address that the set gave; `None` when it is not said, or not said exactly.
pub fn last_reserved(dir: &Path, set: usize) -> Option<IpAddr> {
    match file::read(&pointer(dir, set), 64) {
        // Not trimmed: the reference does not either, and both must go on from the same address.
        Ok(bytes) => std::str::from_utf8(&bytes?).ok()?.parse().ok(),
        Err(error) => {
            eprintln!("Error retrieving last reserved ip: {error:#}");
            None
        }
    }
}

/// Whether the holder has a lease that DEL would have to remove, as the files have it; no lock is needed. A file that
/// cannot be read may be that lease.
pub fn holds_unlocked(dir: &Path, holder: &Holder) -> Result<bool, sys::Error> {
    let mut unreadable = None;
    for ip in addresses_in(dir)? {
        match text(dir, ip) {
            Ok(Some(text)) if text == holder.text || text == holder.legacy => return Ok(true),
            // A directory named as an address takes the address and is nobody's.
            Err(error) if error.errno() != Some(nix::libc::EISDIR) => unreadable = Some(error),
            _ => {}
        }
    }
    unreadable.map_or(Ok(false), Err)
}

/// The addresses that a network directory has leases of, in no order.
pub fn addresses_in(dir: &Path) -> Result<Vec<IpAddr>, sys::Error> {
    let fail = |cause: io::Error| sys::Error::new("list", dir.display().to_string(), cause);
    let mut ips = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        ips.extend(name.to_str().and_then(lease_name));
    }
    Ok(ips)
}

/// Whether the path is a file without content: a free address that a killed reference left its name on.
pub fn is_empty_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == 0)
}

/// The address that a file name is, in the one form in which leases are named.
fn lease_name(name: &str) -> Option<IpAddr> {
    let ip: IpAddr = name.parse().ok()?;
    (ip == ip.to_canonical() && ip.to_string() == name).then_some(ip)
}
