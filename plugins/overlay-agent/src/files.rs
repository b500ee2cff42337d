//! The files of a host: reading what plugins write, and writing what they read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::key::{Endpoint, is_host, is_name};
use cluster::local::{Attachment, Blocks, CONTACT, Identity, LeaseFile, LimitsFile};
use cluster::record::Net;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::file::{self, Hold, Sync};
use sys::{Error, Result};

use crate::state::local::NetLocal;

/// The longest file that is read, in bytes.
const FILE_MAX: usize = 1 << 20;
/// Files are the owner's.
const MODE: u32 = 0o600;
/// The mode of the ledger's directory, as host-local makes it.
const LEDGER_MODE: u32 = 0o755;
/// How long the main loop waits for the ledger's lock. Whoever holds it longer is asked again later.
const LOCK_PATIENCE: Duration = Duration::from_millis(50);

/// The roots of the files.
#[derive(Clone, Debug)]
pub struct Files {
    /// [`cluster::local::STATE`]
    pub state: PathBuf,
    /// The directory of the network namespace below [`cluster::local::RUN`].
    pub run: PathBuf,
    /// The directory of all ledgers.
    pub ledgers: PathBuf,
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = file::read(path, FILE_MAX)? else { return Ok(None) };
    let fail = |cause| Error::new("read", show(path), cause);
    // First: the rest of a newer one may mean anything.
    file::ensure_known(&bytes, cluster::VERSION)
        .map_err(|newer| fail(std::io::Error::other(newer.to_string())))?;
    let parsed = serde_json::from_slice(&bytes).map_err(|cause| fail(std::io::Error::other(cause)))?;
    Ok(Some(parsed))
}

fn write(path: &Path, value: &impl Serialize, sync: Sync) -> Result<()> {
    // Texts and numbers always serialize.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    file::replace_whole(path, &bytes, MODE, sync)
}

/// The names in a directory; none if there is no directory.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|cause| Error::new("list", show(dir), cause))?,
    };
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

impl Files {
    /// Makes the directories.
    ///
    /// # Errors
    /// The kernel refused, or another user has one of them.
    pub fn make(&self) -> Result<()> {
        file::make_private_dir(&self.state.join("net"), 2)?;
        let dir = self.run.join("att");
        // Parents only below our own directory: an administrator's keeps its mode.
        let below = dir.strip_prefix(file::RUN_DIR).map_or(0, |rest| rest.components().count());
        file::make_private_dir(&dir, (below + 1).max(2))
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// The lock that the agent holds for its life.
    pub fn agent_lock(&self) -> PathBuf {
        self.run.join("agent.lock")
    }

    /// The host's identity: drawn once.
    ///
    /// # Errors
    /// The file cannot be read or written, or is malformed: it is not replaced, since records of that
    /// identity may be in etcd.
    pub fn identity(&self) -> Result<String> {
        let path = self.state.join("host.json");
        if let Some(identity) = read::<Identity>(&path)? {
            if !is_host(&identity.id) {
                let cause = std::io::Error::other("\"id\" is not 16 hex digits");
                return Err(Error::new("read", show(&path), cause));
            }
            return Ok(identity.id);
        }
        let random = sys::random::bytes::<8>().map_err(|cause| Error::new("draw", "the host's id", cause))?;
        let id = format!("{:016x}", u64::from_ne_bytes(random));
        write(&path, &Identity { v: cluster::VERSION, id: id.clone() }, Sync::Now)?;
        Ok(id)
    }

    /// The lease that a predecessor left.
    pub fn lease(&self) -> Option<LeaseFile> {
        read(&self.run.join("lease")).ok().flatten()
    }

    /// Writes the lease for a successor.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write_lease(&self, lease: &LeaseFile) -> Result<()> {
        write(&self.run.join("lease"), lease, Sync::Later)
    }

    /// Removes the lease of a host that left.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_lease(&self) -> Result<bool> {
        file::remove(&self.run.join("lease"))
    }

    /// Removes the identity of a host that left.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_identity(&self) -> Result<()> {
        file::remove(&self.state.join("host.json")).map(drop)
    }

    /// When etcd was heard of last in this boot, on the clock since boot.
    pub fn last_contact(&self) -> Option<Duration> {
        read::<u64>(&self.run.join(CONTACT)).ok().flatten().map(Duration::from_secs)
    }

    /// Writes when etcd was heard of last.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write_contact(&self, now: Duration) -> Result<()> {
        write(&self.run.join(CONTACT), &now.as_secs(), Sync::Later)
    }

    /// The networks that this host has files of.
    ///
    /// # Errors
    /// A directory cannot be listed.
    pub fn networks(&self) -> Result<BTreeSet<String>> {
        let copies = names(&self.state.join("net"))?;
        let copies = copies.iter().filter_map(|name| name.strip_suffix(".json")).map(str::to_owned);
        let attached = names(&self.run.join("att"))?;
        Ok(copies.chain(attached).filter(|name| is_name(name)).collect())
    }

    /// Reads what plugins write about a network: attachments and leases. Of an attachment that cannot
    /// be read there is the name, and the error.
    ///
    /// # Errors
    /// A directory cannot be listed.
    pub fn refresh(&self, network: &str, net: &mut NetLocal) -> Result<Vec<Error>> {
        let dir = self.run.join("att").join(network);
        let mut attachments = BTreeMap::new();
        let mut unreadable = BTreeSet::new();
        let mut failed = Vec::new();
        for name in names(&dir)? {
            let Some(attachment) = name.strip_suffix(".json").filter(|name| Endpoint::split(name).is_some())
            else {
                continue;
            };
            match read::<Attachment>(&dir.join(&name)) {
                Ok(record) => attachments.extend(record.map(|record| (attachment.to_owned(), record))),
                Err(error) => {
                    unreadable.insert(attachment.to_owned());
                    failed.push(error);
                }
            }
        }
        net.attachments = attachments;
        net.unreadable = unreadable;
        net.leases = self.leases(network)?;
        match read::<LimitsFile>(&self.net_dir(network).join("limits.json")) {
            Ok(file) => net.limits = file.map(|file| file.limits).unwrap_or_default(),
            Err(error) => failed.push(error),
        }
        Ok(failed)
    }

    /// The addresses in use in a network.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn leases(&self, network: &str) -> Result<BTreeSet<IpAddr>> {
        match leases::addresses_in(&self.ledgers.join(network)) {
            Err(error) if error.is_not_found() => Ok(BTreeSet::new()),
            leases => leases.map(|leases| leases.into_iter().collect()),
        }
    }

    /// The container that has an address, from the ledger.
    pub fn holder(&self, network: &str, ip: IpAddr) -> Option<String> {
        let bytes = file::read(&self.ledgers.join(network).join(ip.to_string()), FILE_MAX).ok()??;
        let text = String::from_utf8_lossy(&bytes);
        text.lines().next().map(|line| line.trim().chars().take(80).collect())
    }

    /// Takes the lock of a network's ledger, so that no plugin gives an address meanwhile. Waits for a
    /// moment only.
    ///
    /// # Errors
    /// It is held by another, or cannot be opened.
    pub fn lock_ledger(&self, network: &str) -> Result<File> {
        let dir = self.ledgers.join(network);
        if !dir.is_dir() {
            file::create_dir(&dir, LEDGER_MODE)?;
        }
        let path = dir.join("lock");
        let lock = file::open_lock(&path)?;
        file::lock_bounded(&lock, &path, Hold::Alone, LOCK_PATIENCE)?;
        Ok(lock)
    }

    fn net_file(&self, network: &str) -> PathBuf {
        self.state.join("net").join(format!("{network}.json"))
    }

    fn net_dir(&self, network: &str) -> PathBuf {
        self.state.join("net").join(network)
    }

    fn blocks_file(&self, network: &str) -> PathBuf {
        self.net_dir(network).join("blocks.json")
    }

    /// The copy of a network's record, and its blocks.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn copy(&self, network: &str) -> Result<(Option<Net>, Blocks)> {
        Ok((read(&self.net_file(network))?, read(&self.blocks_file(network))?.unwrap_or_default()))
    }

    /// Writes the copy of a network's record.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write_copy(&self, network: &str, net: &Net) -> Result<()> {
        self.shared().write_net(network, net)
    }

    /// Writes `blocks.json`.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write_blocks(&self, network: &str, blocks: &Blocks) -> Result<()> {
        self.shared().write_blocks(network, blocks)
    }

    /// Removes what stays of a network.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_network(&self, network: &str) -> Result<()> {
        self.shared().remove_net(network)
    }

    /// The files that plugins write, too.
    fn shared(&self) -> agent::Files {
        agent::Files::at(&self.state, &self.run)
    }
}
