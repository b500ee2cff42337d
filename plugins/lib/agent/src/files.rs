//! The files that plugins and the agent share. Each appears whole, in directories that no other
//! user can enter.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use cluster::block::Limits;
use cluster::key::{Endpoint, is_name};
use cluster::local::{Attachment, Blocks, LimitsFile, RUN, STATE};
use cluster::record::Net;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sys::file::{self, Hold, RUN_DIR, Sync};
use sys::{Error, NetNs, Result};

/// In place of [`STATE`], for tests.
const STATE_VARIABLE: &str = "MOOR_OVERLAY_STATE";
/// In place of [`RUN`], for tests.
const RUN_VARIABLE: &str = "MOOR_OVERLAY_RUN";
/// The longest file that is read, in bytes: blocks of the largest subnet.
const FILE_MAX: usize = 1 << 20;
/// Files are the owner's.
const MODE: u32 = 0o600;
/// How long a file or a directory waits for a process that changes a directory beside it. That takes
/// microseconds, unless the process is stopped.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a file of a record ends in.
const JSON: &str = ".json";

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    state: PathBuf,
    run: PathBuf,
}

impl Files {
    /// The files of this process's network namespace.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn of_process() -> Result<Self> {
        let socket = daemon::packet::socket(Duration::from_secs(1))?;
        let namespace = NetNs::name_of_socket(socket.as_fd())?;
        Ok(Self::at(root(STATE_VARIABLE, STATE), root(RUN_VARIABLE, RUN).join(namespace)))
    }

    /// The files in these directories: of the state that stays, and of one network namespace.
    pub fn at(state: impl Into<PathBuf>, run: impl Into<PathBuf>) -> Self {
        Self { state: state.into(), run: run.into() }
    }

    /// The directory of the state that stays.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The directory of the network namespace.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The agent's socket.
    pub fn control(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// Held by a plugin while it starts the agent.
    pub fn start_lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// Held by the agent for its life. It begins with the agent's process id.
    pub fn agent_lock(&self) -> PathBuf {
        self.run.join("agent.lock")
    }

    /// Makes both directories.
    ///
    /// # Errors
    /// One belongs to another user, or the kernel refused.
    pub fn make(&self) -> Result<()> {
        file::make_private_dir(&self.state, 1)?;
        make(&self.run, &self.run)
    }

    /// The copy of a network's record.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn net(&self, network: &str) -> Result<Option<Net>> {
        let path = self.net_path(network)?;
        let Some(bytes) = file::read(&path, FILE_MAX)? else { return Ok(None) };
        cluster::decode::read(&bytes).map(Some).map_err(|why| invalid(&path, why.to_string()))
    }

    /// Writes the copy of a network's record.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write_net(&self, network: &str, net: &Net) -> Result<()> {
        self.write(&self.net_path(network)?, &self.state, net, Sync::Now)
    }

    /// What addresses of a network this host may give; `None`: it never had any.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn blocks(&self, network: &str) -> Result<Option<Blocks>> {
        let path = self.blocks_path(network)?;
        let blocks: Option<Blocks> = read(&path)?;
        check_version(&path, blocks.as_ref().map(|blocks| blocks.v))?;
        Ok(blocks)
    }

    /// Writes what addresses of a network this host may give.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write_blocks(&self, network: &str, blocks: &Blocks) -> Result<()> {
        self.write(&self.blocks_path(network)?, &self.state, blocks, Sync::Now)
    }

    /// What the configuration of a network keeps back.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn limits(&self, network: &str) -> Result<Limits> {
        let path = self.limits_path(network)?;
        let file: Option<LimitsFile> = read(&path)?;
        check_version(&path, file.as_ref().map(|file| file.v))?;
        Ok(file.map(|file| file.limits).unwrap_or_default())
    }

    /// Tells the agent what the configuration of a network keeps back, if it is not told so already.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn keep_limits(&self, network: &str, limits: &Limits) -> Result<()> {
        if self.limits(network).is_ok_and(|told| told == *limits) {
            return Ok(());
        }
        let file = LimitsFile { v: cluster::VERSION, limits: limits.clone() };
        self.write(&self.limits_path(network)?, &self.state, &file, Sync::Later)
    }

    /// Whether the agent has heard of etcd since boot.
    pub fn was_in_contact(&self) -> bool {
        self.run.join(cluster::local::CONTACT).exists()
    }

    /// Removes what this host has of a network, but its attachments.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_net(&self, network: &str) -> Result<()> {
        let blocks = self.blocks_path(network)?;
        file::remove_whole(&blocks)?;
        file::remove_whole(&self.limits_path(network)?)?;
        if let Some(dir) = blocks.parent() {
            remove_dir(dir, &self.state)?;
        }
        file::remove_whole(&self.net_path(network)?).map(drop)
    }

    /// The networks that this host has copies of.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn nets(&self) -> Result<Vec<String>> {
        let names = list(&self.state.join("net"))?;
        let nets = names.iter().filter_map(|name| name.strip_suffix(JSON)).filter(|name| is_name(name));
        Ok(nets.map(str::to_owned).collect())
    }

    /// The record of an attachment.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn attachment(&self, network: &str, container: &str, ifname: &str) -> Result<Option<Attachment>> {
        read_attachment(&self.attachment_path(network, container, ifname)?)
    }

    /// Writes the record of an attachment.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn write_attachment(
        &self,
        network: &str,
        container: &str,
        ifname: &str,
        record: &Attachment,
    ) -> Result<()> {
        self.write(&self.attachment_path(network, container, ifname)?, &self.run, record, Sync::Later)
    }

    /// Removes the record of an attachment, and the directory of a network with none; returns whether
    /// there was one.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_attachment(&self, network: &str, container: &str, ifname: &str) -> Result<bool> {
        // A name that no record can have has none.
        let Ok(path) = self.attachment_path(network, container, ifname) else { return Ok(false) };
        let removed = file::remove_whole(&path)?;
        if let Some(dir) = path.parent() {
            remove_dir(dir, &self.run)?;
        }
        Ok(removed)
    }

    /// The attachments of a network, readable or not: `<container>@<ifname>`, and the record.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn attachments(&self, network: &str) -> Result<Vec<(String, Result<Attachment>)>> {
        let dir = self.attachments_path(network)?;
        let names = list(&dir)?;
        let names = names.iter().filter_map(|name| name.strip_suffix(JSON));
        let names = names.filter(|name| Endpoint::split(name).is_some());
        Ok(names
            .filter_map(|name| {
                let record = read_attachment(&dir.join(format!("{name}{JSON}")));
                // One that was removed meanwhile.
                let record = record.transpose()?;
                Some((name.to_owned(), record))
            })
            .collect())
    }

    /// Whether a network has attachments here, readable or not.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn has_attachments(&self, network: &str) -> Result<bool> {
        Ok(list(&self.attachments_path(network)?)?.iter().any(|name| name.ends_with(JSON)))
    }

    /// The networks with attachments here.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn attached(&self) -> Result<Vec<String>> {
        let names = list(&self.run.join("att"))?;
        Ok(names
            .into_iter()
            .filter(|name| is_name(name) && self.has_attachments(name).unwrap_or(true))
            .collect())
    }

    fn net_path(&self, network: &str) -> Result<PathBuf> {
        Ok(self.state.join("net").join(format!("{}{JSON}", checked("network", network)?)))
    }

    fn blocks_path(&self, network: &str) -> Result<PathBuf> {
        Ok(self.state.join("net").join(checked("network", network)?).join("blocks.json"))
    }

    fn limits_path(&self, network: &str) -> Result<PathBuf> {
        Ok(self.state.join("net").join(checked("network", network)?).join("limits.json"))
    }

    fn attachments_path(&self, network: &str) -> Result<PathBuf> {
        Ok(self.run.join("att").join(checked("network", network)?))
    }

    fn attachment_path(&self, network: &str, container: &str, ifname: &str) -> Result<PathBuf> {
        let dir = self.attachments_path(network)?;
        checked("container", container)?;
        if !cni::is_ifname(ifname) {
            return Err(Error::new("use the interface's name", cni::shortened(ifname), bad("it is invalid")));
        }
        Ok(dir.join(format!("{container}@{ifname}{JSON}")))
    }

    /// Writes a file; its directories are private from `root` on.
    fn write(&self, path: &Path, root: &Path, value: &impl Serialize, sync: Sync) -> Result<()> {
        // Texts and numbers always serialize.
        let bytes = serde_json::to_vec(value).unwrap_or_default();
        make(root, root)?;
        // Whoever removes the last file of a network removes its directory.
        let _lock = locked(root, Hold::Shared)?;
        path.parent().map_or(Ok(()), |dir| make(dir, root))?;
        file::write_whole(path, &bytes, MODE, sync)
    }
}

/// Where the files of this process are looked for, for an error's details.
pub(crate) fn shown_roots() -> String {
    format!("state {}, run {}", root(STATE_VARIABLE, STATE).display(), root(RUN_VARIABLE, RUN).display())
}

fn root(variable: &str, default: &str) -> PathBuf {
    let moved = std::env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
    moved.unwrap_or_else(|| default.into())
}

/// A name that is a part of a path.
fn checked<'a>(what: &str, name: &'a str) -> Result<&'a str> {
    if is_name(name) {
        return Ok(name);
    }
    let why = format!("it is longer than {} bytes, or invalid", cluster::key::NAME_MAX);
    Err(Error::new("use the name of a", format!("{what}, {}", cni::shortened(name)), bad(&why)))
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_owned())
}

fn invalid(path: &Path, why: String) -> Error {
    Error::new("read", path.display().to_string(), io::Error::new(io::ErrorKind::InvalidData, why))
}

fn check_version(path: &Path, version: Option<u32>) -> Result<()> {
    match version {
        Some(v) if v != cluster::VERSION => {
            Err(invalid(path, format!("another release wrote it (\"v\": {v})")))
        }
        _ => Ok(()),
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(bytes) = file::read(path, FILE_MAX)? else { return Ok(None) };
    // First: the rest of a newer one may mean anything.
    file::ensure_known(&bytes, cluster::VERSION).map_err(|newer| invalid(path, newer.to_string()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| invalid(path, error.to_string()))
}

fn read_attachment(path: &Path) -> Result<Option<Attachment>> {
    let record: Option<Attachment> = read(path)?;
    check_version(path, record.as_ref().map(|record| record.v))?;
    Ok(record)
}

/// Makes a directory; it is private, and those above it from `root`, or from [`RUN_DIR`] if that is
/// above `root`.
fn make(dir: &Path, root: &Path) -> Result<()> {
    let top = if dir.starts_with(RUN_DIR) { Path::new(RUN_DIR) } else { root };
    let below = dir.strip_prefix(top).map_or(0, |rest| rest.components().filter(is_name_of_dir).count());
    file::make_private_dir(dir, below + 1)
}

fn is_name_of_dir(component: &Component<'_>) -> bool {
    matches!(component, Component::Normal(_))
}

/// Removes an empty directory of a network below `root`. It stays while another process writes into
/// a directory there for longer than [`PATIENCE`].
fn remove_dir(dir: &Path, root: &Path) -> Result<()> {
    let Ok(_lock) = locked(root, Hold::Alone) else { return Ok(()) };
    match fs::remove_dir(dir) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(Error::new("remove", dir.display().to_string(), error))
        }
        _ => Ok(()),
    }
}

/// Holds the directories below `root`: shared by those who write, alone for who removes one.
fn locked(root: &Path, hold: Hold) -> Result<fs::File> {
    let open = fs::File::open(root).map_err(|cause| Error::new("open", root.display().to_string(), cause))?;
    file::lock_bounded(&open, root, hold, PATIENCE)?;
    Ok(open)
}

/// The names in a directory, without files that are being written; none if there is no directory.
fn list(dir: &Path) -> Result<Vec<String>> {
    let fail = |cause| Error::new("list", dir.display().to_string(), cause);
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(fail)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(fail)?.file_name().into_string();
        names.extend(name.ok().filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
