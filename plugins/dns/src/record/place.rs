//! Where the records of one network namespace are.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use sys::file;

use super::file::{self as records, Known, NETWORK_FILE};
use super::{Attachment, Error, Key, Network, OF_DNSNAME, encoded};

/// The file that a responder holds the lock of, and writes its process id into.
pub const RESPONDER_LOCK: &str = "responder.lock";

/// The directory of the records, in that of the place.
const NETWORKS: &str = "net";
/// The same while it is being written again as a whole.
const DRAFT: &str = "net.new";

/// The directory of one network namespace: the records, the locks and the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    dir: PathBuf,
    networks: PathBuf,
}

impl Place {
    /// The place whose directory is `dir`.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { networks: dir.join(NETWORKS), dir }
    }

    /// The same place for a process whose working directory is [`Place::networks_dir`], and that may not enter those above.
    pub fn from_within(self) -> Self {
        Self { networks: ".".into(), ..self }
    }

    /// The same place with records of another name, which nobody reads.
    pub fn drafted(&self) -> Self {
        Self { networks: self.dir.join(DRAFT), ..self.clone() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that the responder holds an exclusive `flock` of for its life.
    pub fn responder_lock(&self) -> PathBuf {
        self.dir.join(RESPONDER_LOCK)
    }

    /// The responder's control socket.
    pub fn control(&self) -> PathBuf {
        self.dir.join("control.sock")
    }

    /// The directory that holds one directory for each network.
    pub fn networks_dir(&self) -> PathBuf {
        self.networks.clone()
    }

    /// A path of a record as anybody else would find it.
    pub fn shown(&self, path: &Path) -> PathBuf {
        self.dir.join(NETWORKS).join(path.strip_prefix(".").unwrap_or(path))
    }

    /// The file that every plugin holds an exclusive `flock` of while it changes something.
    pub fn plugins_lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The directory of one network.
    pub fn network_dir(&self, network: &str) -> PathBuf {
        self.networks_dir().join(encoded(network))
    }

    /// The directory that holds one file for each of its attachments.
    pub fn attachments_dir(&self, network: &str) -> PathBuf {
        self.network_dir(network).join("att")
    }

    /// Creates the directory where it is missing, and waits for the lock that every change is made under.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn lock(&self) -> sys::Result<File> {
        self.make_private()?;
        // Of this process alone: what it makes is the responder's to read, and nobody else's.
        umask(Mode::from_bits_truncate(0o027));
        file::lock(&self.plugins_lock(), 0o600)
    }

    /// Creates the directory where it is missing; nobody else may enter it, and what others may have written is not
    /// believed.
    ///
    /// # Errors
    /// It is another user's, or the kernel refused.
    pub fn make_private(&self) -> sys::Result<()> {
        // Those above it as far as they are ours: an administrator's `stateDir` stays as it is.
        let below = self.dir.strip_prefix(file::RUN_DIR).map_or(0, |rest| rest.components().count());
        file::make_private_dir(&self.dir, below + 1)
    }

    /// Writes the record of a network; one that says the same already is left alone.
    ///
    /// # Errors
    /// The kernel refused; the old record is untouched.
    pub fn put_network(&self, network: &Network) -> sys::Result<()> {
        let dir = self.network_dir(&network.name);
        records::put(&dir, NETWORK_FILE, network)
    }

    /// Writes the record of an attachment in the place of its former one.
    ///
    /// # Errors
    /// The kernel refused; the old record is untouched.
    pub fn put_attachment(&self, attachment: &Attachment) -> sys::Result<()> {
        records::put(&self.attachments_dir(&attachment.network), &attachment.key.file_name(), attachment)
    }

    /// The record of a network, if there is one.
    ///
    /// # Errors
    /// There is one that cannot be read.
    pub fn network(&self, network: &str) -> Result<Option<Network>, Error> {
        records::network(&self.network_dir(network))
    }

    /// The record of an attachment, if there is one.
    ///
    /// # Errors
    /// There is one that cannot be read.
    pub fn attachment(&self, network: &str, key: &Key) -> Result<Option<Attachment>, Error> {
        records::attachment(&self.attachments_dir(network).join(key.file_name()))
    }

    /// Whether there is a record of an attachment, of whatever content.
    pub fn has_attachment(&self, network: &str, key: &Key) -> bool {
        self.attachments_dir(network).join(key.file_name()).exists()
    }

    /// Removes the record of an attachment; says whether there was one.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_attachment(&self, network: &str, key: &Key) -> sys::Result<bool> {
        records::remove(&self.attachments_dir(network), &key.file_name())
    }

    /// Removes the records of all attachments of a network but these, readable or not; says how many there were. What
    /// was dnsname's has no container's id to be valid by, and stays until its DEL.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_all_but(&self, network: &str, valid: &[Key]) -> sys::Result<usize> {
        let valid: HashSet<String> = valid.iter().map(Key::file_name).collect();
        let stays = |name: &str| valid.contains(name) || name.starts_with(OF_DNSNAME);
        records::remove_all_but(&self.attachments_dir(network), stays)
    }

    /// Whether a network has no attachments.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn is_empty(&self, network: &str) -> sys::Result<bool> {
        records::is_empty(&self.attachments_dir(network))
    }

    /// Removes what is recorded of a network that has no attachments.
    ///
    /// # Errors
    /// The kernel refused, or it has one.
    pub fn remove_network(&self, network: &str) -> sys::Result<()> {
        records::remove_network(&self.network_dir(network), &self.attachments_dir(network))
    }

    /// The records of all networks, without those that cannot be read.
    ///
    /// # Errors
    /// The directory is there and could not be listed.
    pub fn networks(&self) -> sys::Result<Vec<Network>> {
        let dirs = records::list(&self.networks_dir())?;
        Ok(dirs.iter().filter_map(|dir| records::network(dir).ok().flatten()).collect())
    }

    /// The names of the networks' directories.
    ///
    /// # Errors
    /// The directory that holds them is there and could not be listed.
    pub fn directories(&self) -> sys::Result<Vec<String>> {
        let dirs = records::list(&self.networks_dir())?;
        let names = dirs.into_iter().filter_map(|dir| dir.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    /// How many attachments a network has.
    ///
    /// # Errors
    /// The directory is there and could not be listed.
    pub fn count(&self, network: &str) -> sys::Result<usize> {
        records::count(&self.attachments_dir(network))
    }

    /// Everything that is recorded of a network.
    ///
    /// # Errors
    /// The directory is there and could not be listed. Files that cannot be read are told in the answer.
    pub fn scan_network(&self, network: &str) -> sys::Result<Known> {
        records::scan_network(&self.network_dir(network))
    }

    /// Everything that is recorded, network by network.
    ///
    /// # Errors
    /// As [`Place::scan_network`].
    pub fn scan(&self) -> sys::Result<Vec<Known>> {
        records::list(&self.networks_dir())?.iter().map(|dir| records::scan_network(dir)).collect()
    }
}
