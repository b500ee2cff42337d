//! The directory of a removed network's leases.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::networks::Network;
use crate::output::Note;

/// Removes the lease directories of the network that hold no lease. A lease is somebody's address,
/// whoever that is.
pub fn remove(network: &Network, cache_dir: &Path) -> Result<Vec<Note>, Failure> {
    let mut notes = Vec::new();
    for dir in directories(network, cache_dir) {
        match clear(&dir) {
            Ok(0) => {}
            Ok(leases) => {
                let text = format!("{leases} leases stay: moor leases shows whose they are");
                notes.push(Note::about("leases", &dir, text));
            }
            Err(error) => notes.push(Note::about("leases", &dir, format!("remove: {error}"))),
        }
    }
    Ok(notes)
}

/// `<dataDir>/<network>` for each IPAM section of host-local. The name is one part of a path.
fn directories(network: &Network, cache_dir: &Path) -> Vec<PathBuf> {
    let name = network.name();
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Vec::new();
    }
    let sections = network.list.plugins.iter().filter_map(|plugin| plugin.object.get("ipam"));
    let of_host_local =
        sections.filter(|ipam| ipam.get("type").and_then(|kind| kind.as_str()) == Some("host-local"));
    let data_dir = |ipam: &serde_json::Value| {
        let given = ipam.get("dataDir").and_then(|dir| dir.as_str()).filter(|dir| dir.starts_with('/'));
        given.map_or_else(|| cache_dir.join("networks"), PathBuf::from)
    };
    let mut all: Vec<PathBuf> = of_host_local.map(|ipam| data_dir(ipam).join(name)).collect();
    all.dedup();
    all
}

/// Removes the directory when it holds no lease; returns how many it holds.
fn clear(dir: &Path) -> std::io::Result<usize> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    let lock = match sys::file::try_lock(&dir.join("lock"), 0o750) {
        Ok(Some(lock)) => lock,
        _ => return Err(std::io::Error::new(ErrorKind::WouldBlock, "its lock is held")),
    };
    let mut own = Vec::new();
    let mut leases = 0;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match () {
            () if is_bookkeeping(&name) => own.push(path),
            () => leases += 1,
        }
    }
    if leases == 0 {
        own.iter().try_for_each(|path| match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })?;
        fs::remove_dir(dir)?;
    }
    drop(lock);
    Ok(leases)
}

/// What host-local keeps beside leases, in either suite.
fn is_bookkeeping(name: &str) -> bool {
    name == "lock" || name.starts_with("last_reserved_ip.") || name.starts_with('.')
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_a_lease_stays_and_one_without_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("front");
        fs::create_dir(&dir).unwrap();
        for name in ["lock", "last_reserved_ip.0", "10.90.0.2"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        assert_eq!(clear(&dir).unwrap(), 1);
        fs::remove_file(dir.join("10.90.0.2")).unwrap();
        assert_eq!(clear(&dir).unwrap(), 0);
        assert!(!dir.exists());
        assert_eq!(clear(&dir).unwrap(), 0);
    }
}
