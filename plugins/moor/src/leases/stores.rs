//! host-local's lease directories, and the leases in them.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::num::NonZero;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use runtime::Conflist;
use serde_json::Value;

use crate::context::Context;
use crate::files;
use crate::model::Model;
use crate::networks::Networks;
use crate::output::Note;

/// The longest lease that is read, in bytes; longer than any container's id.
const LEASE_MAX: u64 = 192 * 1024;
/// The number of threads that read leases.
const THREADS_MAX: usize = 4;
/// So many leases are worth a thread.
const SHARE_MIN: usize = 1024;

/// A directory of leases.
#[derive(Debug)]
pub struct Store {
    /// The network's name.
    pub network: String,
    /// The directory.
    pub dir: PathBuf,
    /// The list that leases addresses here, if one does.
    pub list: Option<Conflist>,
    /// The leases, by address.
    pub leases: Vec<Lease>,
}

/// A lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// The container's id; empty when the file is, and the address is free.
    pub container_id: String,
    /// The interface. Old releases of the reference did not write it.
    pub ifname: String,
    /// When it was written.
    pub written: SystemTime,
}

/// Finds the directories and reads their leases.
pub fn read(context: &Context, networks: &Networks, model: &Model, notes: &mut Vec<Note>) -> Vec<Store> {
    let mut stores = find(context, networks, model, notes);
    for store in &mut stores {
        context.trace(&format!("reading leases in {}", store.dir.display()));
        store.leases = read_dir(&store.dir, notes);
    }
    stores
}

/// Finds the directories: those that a list names, now or at the time of an ADD, and all below the
/// cache.
pub fn find(context: &Context, networks: &Networks, model: &Model, notes: &mut Vec<Note>) -> Vec<Store> {
    let mut stores = Vec::new();
    let mut known = HashSet::new();
    let present = networks.all.iter().map(|network| network.list.clone());
    let records = model.attachments.iter().filter_map(|one| one.record.as_ref());
    let cached = records.filter_map(|record| Conflist::from_bytes(&record.config).ok());
    for list in present.chain(cached) {
        for dir in dirs_of(&list) {
            add(&mut stores, &mut known, list.name.clone(), dir, Some(&list));
        }
    }
    let below = context.cache_dir.join("networks");
    match fs::read_dir(&below) {
        Ok(entries) => {
            for entry in entries.flatten().filter(|entry| !is_hidden(entry)) {
                let name = entry.file_name().to_string_lossy().into_owned();
                add(&mut stores, &mut known, name, entry.path(), None);
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => notes.push(Note::about("leases", &below, format!("list: {error}"))),
    }
    stores.sort_by(|a, b| (&a.network, &a.dir).cmp(&(&b.network, &b.dir)));
    stores
}

fn is_hidden(entry: &fs::DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// Adds a directory once, whatever paths lead there.
fn add(
    stores: &mut Vec<Store>,
    known: &mut HashSet<(u64, u64)>,
    network: String,
    dir: PathBuf,
    list: Option<&Conflist>,
) {
    let Ok(meta) = fs::metadata(&dir) else { return };
    if meta.is_dir() && known.insert((meta.dev(), meta.ino())) {
        stores.push(Store { network, dir, list: list.cloned(), leases: Vec::new() });
    }
}

/// The lease directories of a list.
fn dirs_of(list: &Conflist) -> Vec<PathBuf> {
    if list.name.is_empty() || list.name.starts_with('.') || list.name.contains(['/', '\0']) {
        return Vec::new();
    }
    let ipams = list.plugins.iter().filter_map(|plugin| plugin.object.get("ipam"));
    let ours = ipams.filter(|ipam| ipam.get("type").and_then(Value::as_str) == Some("host-local"));
    let data_dir = |ipam: &Value| ipam.get("dataDir").and_then(Value::as_str).map(ToOwned::to_owned);
    let dir = |ipam: &Value| {
        let dir = data_dir(ipam).filter(|dir| !dir.is_empty()).unwrap_or(host_local::DATA_DIR.into());
        Path::new(&dir).join(&list.name)
    };
    ours.map(dir).collect()
}

/// The leases of a directory, by address.
pub fn read_dir(dir: &Path, notes: &mut Vec<Note>) -> Vec<Lease> {
    let addresses = match host_local::addresses_in(dir) {
        Ok(addresses) => addresses,
        Err(error) => {
            notes.push(Note::new("leases", format!("{error:#}")));
            return Vec::new();
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(THREADS_MAX);
    let share = addresses.len().div_ceil(threads).max(SHARE_MIN);
    let mut leases = Vec::with_capacity(addresses.len());
    let read = |addresses: &[IpAddr]| {
        let read = addresses.iter().map(|address| (*address, read_lease(dir, *address)));
        read.collect::<Vec<_>>()
    };
    let mut results = Vec::new();
    thread::scope(|scope| {
        let mut chunks = addresses.chunks(share);
        let first = chunks.next().unwrap_or_default();
        let spawn =
            |chunk| thread::Builder::new().spawn_scoped(scope, move || read(chunk)).map_err(|_| chunk);
        let others: Vec<_> = chunks.map(spawn).collect();
        results.extend(read(first));
        for other in others {
            match other {
                Ok(thread) => results.extend(thread.join().unwrap_or_default()),
                // There was no thread for it.
                Err(chunk) => results.extend(read(chunk)),
            }
        }
    });
    for (address, result) in results {
        match result {
            Ok(lease) => leases.push(lease),
            // Released meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                notes.push(Note::about("lease", &dir.join(address.to_string()), format!("read: {error}")));
            }
        }
    }
    leases.sort_by_key(|lease| lease.address);
    leases
}

/// Reads one lease.
pub fn read_lease(dir: &Path, address: IpAddr) -> std::io::Result<Lease> {
    let (bytes, about) = files::read_described(&dir.join(address.to_string()), LEASE_MAX)?;
    let text = String::from_utf8_lossy(&bytes);
    let (container_id, ifname) = holder(&text);
    Ok(Lease { address, container_id, ifname, written: about.modified()? })
}

/// The container and the interface in a lease, as host-local reads it.
fn holder(text: &str) -> (String, String) {
    let text = text.trim();
    let (id, ifname) = text.split_once('\n').unwrap_or((text, ""));
    (id.trim().to_owned(), ifname.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_read_as_host_local_does() {
        let names = |text| holder(text);
        assert_eq!(names("c1\r\neth0"), ("c1".into(), "eth0".into()));
        assert_eq!(names("c1\n"), ("c1".into(), String::new()));
        assert_eq!(names(" an id \r\neth0\n"), ("an id".into(), "eth0".into()));
        assert_eq!(names(""), (String::new(), String::new()));
    }

    #[test]
    fn other_files_of_a_store_are_no_leases_and_what_cannot_be_read_is_a_note() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["10.1.2.3", "10.1.2.30", "last_reserved_ip.0", "lock", "010.1.2.3"] {
            fs::write(dir.path().join(name), "c1\r\neth0").unwrap();
        }
        nix::unistd::mkfifo(&dir.path().join("10.1.2.4"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut notes = Vec::new();
        let leases = read_dir(dir.path(), &mut notes);
        let addresses: Vec<_> = leases.iter().map(|lease| lease.address.to_string()).collect();
        assert_eq!(addresses, ["10.1.2.3", "10.1.2.30"]);
        assert_eq!(notes.len(), 1, "{notes:?}");
    }
}
