//! The lease store of HL-1, read and written only by this code.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The directory of network `net` under the default root.
pub const NET: &str = "/var/lib/cni/networks/net";

/// A lease: the address and the file's content.
pub type Lease = (IpAddr, String);

/// The leases in a network's directory, by address. Files not named like an address are skipped.
pub fn leases(dir: impl AsRef<Path>) -> Result<Vec<Lease>> {
    let dir = dir.as_ref();
    let Ok(entries) = fs::read_dir(dir) else { return Ok(vec![]) };
    let mut leases = vec![];
    for entry in entries {
        let entry = entry?;
        if let Ok(address) = entry.file_name().to_string_lossy().parse::<IpAddr>() {
            leases.push((address, fs::read_to_string(entry.path()).context("read a lease")?));
        }
    }
    leases.sort();
    Ok(leases)
}

/// The leased addresses of a network, as text.
pub fn addresses(dir: impl AsRef<Path>) -> Result<Vec<String>> {
    Ok(leases(dir)?.into_iter().map(|(address, _)| address.to_string()).collect())
}

/// The content of a lease file.
pub fn content(id: &str, ifname: &str) -> String {
    format!("{id}\r\n{ifname}")
}

/// Writes a file of the store, and creates its directory.
pub fn write(dir: impl AsRef<Path>, name: &str, content: &str) -> Result<PathBuf> {
    fs::create_dir_all(&dir)?;
    let path = dir.as_ref().join(name);
    fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(path)
}

/// The round-robin pointer of a range set.
pub fn pointer(dir: impl AsRef<Path>, range: usize) -> Option<String> {
    fs::read_to_string(dir.as_ref().join(format!("last_reserved_ip.{range}"))).ok()
}

/// Removes a network's leases and pointers, as if they had been lost.
pub fn forget(dir: impl AsRef<Path>) -> Result<()> {
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", dir.as_ref().display()))
        }
        _ => Ok(()),
    }
}
