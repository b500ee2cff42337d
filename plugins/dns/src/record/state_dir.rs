//! The state directory of one network namespace.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use sys::file;

use super::file::{self as records, NETWORK_FILE, NetworkRecords};
use super::{Attachment, DNSNAME_PREFIX, Error, Key, Network, encoded};

/// The file that the responder locks, and writes its process id into.
pub const RESPONDER_LOCK: &str = "responder.lock";

/// The directory of the records.
const NETWORKS: &str = "net";
/// The directory of records that are being restored.
const DRAFT: &str = "net.new";

/// The directory with the records, locks and control socket of one network namespace:
/// `<stateDir>/<namespace>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    dir: PathBuf,
    networks: PathBuf,
}

impl StateDir {
    /// The state directory at `dir`.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { networks: dir.join(NETWORKS), dir }
    }

    /// The same directory for a process that runs in [`StateDir::networks_dir`] and may not enter
    /// the directories above.
    pub fn from_within(self) -> Self {
        Self { networks: ".".into(), ..self }
    }

    /// The same directory with a draft of the records, which nobody reads yet.
    pub fn draft(&self) -> Self {
        Self { networks: self.dir.join(DRAFT), ..self.clone() }
    }

    /// Its path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that the responder holds an exclusive `flock` of while it runs.
    pub fn responder_lock(&self) -> PathBuf {
        self.dir.join(RESPONDER_LOCK)
    }

    /// The responder's control socket.
    pub fn control(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// The directory with one directory for each network.
    pub fn networks_dir(&self) -> PathBuf {
        self.networks.clone()
    }

    /// The absolute path of a record.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.dir.join(NETWORKS).join(path.strip_prefix(".").unwrap_or(path))
    }

    /// The file that a plugin holds an exclusive `flock` of while it changes records.
    pub fn plugins_lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The directory of one network.
    pub fn network_dir(&self, network: &str) -> PathBuf {
        self.networks_dir().join(encoded(network))
    }

    /// The directory with one file for each attachment.
    pub fn attachments_dir(&self, network: &str) -> PathBuf {
        self.network_dir(network).join("att")
    }

    /// Creates the directory if missing, and waits for the plugins' lock.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn lock(&self) -> sys::Result<File> {
        self.make_private()?;
        // For this process only: the responder's group may read what it creates, and
        // nobody else.
        umask(Mode::from_bits_truncate(0o027));
        file::lock(&self.plugins_lock(), 0o600)
    }

    /// Creates the directory if missing. Nobody else may enter it; a directory of another
    /// user is not trusted.
    ///
    /// # Errors
    /// It belongs to another user, or the kernel refused.
    pub fn make_private(&self) -> sys::Result<()> {
        // Parents only below our own directory: an administrator's `stateDir` keeps its
        // mode.
        let below = self.dir.strip_prefix(file::RUN_DIR).map_or(0, |rest| rest.components().count());
        file::make_private_dir(&self.dir, below + 1)
    }

    /// Writes the record of a network. An identical record is not written again.
    ///
    /// # Errors
    /// The kernel refused; the old record is unchanged.
    pub fn put_network(&self, network: &Network) -> sys::Result<()> {
        let dir = self.network_dir(&network.name);
        records::put(&dir, NETWORK_FILE, network)
    }

    /// Writes the record of an attachment.
    ///
    /// # Errors
    /// The kernel refused; the old record is unchanged.
    pub fn put_attachment(&self, attachment: &Attachment) -> sys::Result<()> {
        records::put(&self.attachments_dir(&attachment.network), &attachment.key.file_name(), attachment)
    }

    /// Reads the record of a network, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn network(&self, network: &str) -> Result<Option<Network>, Error> {
        records::network(&self.network_dir(network))
    }

    /// Reads the record of an attachment, if there is one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn attachment(&self, network: &str, key: &Key) -> Result<Option<Attachment>, Error> {
        records::attachment(&self.attachments_dir(network).join(key.file_name()))
    }

    /// Whether there is a record of an attachment, readable or not.
    pub fn has_attachment(&self, network: &str, key: &Key) -> bool {
        self.attachments_dir(network).join(key.file_name()).exists()
    }

    /// Removes the record of an attachment. Returns whether it was there.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_attachment(&self, network: &str, key: &Key) -> sys::Result<bool> {
        records::remove(&self.attachments_dir(network), &key.file_name())
    }

    /// Removes the records of all attachments of a network but the valid ones, readable or
    /// not. Returns how many were removed. Records taken over from dnsname have no
    /// container id to check, and stay until their DEL.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_all_but(&self, network: &str, valid: &[Key]) -> sys::Result<usize> {
        let valid: HashSet<String> = valid.iter().map(Key::file_name).collect();
        let stays = |name: &str| valid.contains(name) || name.starts_with(DNSNAME_PREFIX);
        records::remove_all_but(&self.attachments_dir(network), stays)
    }

    /// Whether a network has no attachments.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn is_empty(&self, network: &str) -> sys::Result<bool> {
        records::is_empty(&self.attachments_dir(network))
    }

    /// Removes the records of a network without attachments.
    ///
    /// # Errors
    /// The kernel refused, or it has one.
    pub fn remove_network(&self, network: &str) -> sys::Result<()> {
        records::remove_network(&self.network_dir(network), &self.attachments_dir(network))
    }

    /// The records of all networks, without unreadable ones.
    ///
    /// # Errors
    /// The directory exists and cannot be listed.
    pub fn networks(&self) -> sys::Result<Vec<Network>> {
        let dirs = records::list(&self.networks_dir())?;
        Ok(dirs.iter().filter_map(|dir| records::network(dir).ok().flatten()).collect())
    }

    /// The directory names of the networks.
    ///
    /// # Errors
    /// The directory that holds them exists and cannot be listed.
    pub fn directories(&self) -> sys::Result<Vec<String>> {
        let dirs = records::list(&self.networks_dir())?;
        let names = dirs.into_iter().filter_map(|dir| dir.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    /// Counts the attachments of a network.
    ///
    /// # Errors
    /// The directory exists and cannot be listed.
    pub fn count(&self, network: &str) -> sys::Result<usize> {
        records::count(&self.attachments_dir(network))
    }

    /// Reads all records of a network.
    ///
    /// # Errors
    /// The directory exists and cannot be listed. Unreadable files are in the result.
    pub fn scan_network(&self, network: &str) -> sys::Result<NetworkRecords> {
        records::scan_network(&self.network_dir(network))
    }

    /// Reads all records, network by network.
    ///
    /// # Errors
    /// As [`StateDir::scan_network`].
    pub fn scan(&self) -> sys::Result<Vec<NetworkRecords>> {
        records::list(&self.networks_dir())?.iter().map(|dir| records::scan_network(dir)).collect()
    }
}
