//! Names of containers on other hosts, for whoever knows them: the agent of networks over many hosts.
//!
//! The agent owns the files [`crate::record`] `net/<network>/remote/<host>.json`: it writes one for
//! each other host of a network that has containers here, with the id of the host (16 hex digits),
//! and removes them when the host has none any more or the network has none here. No verb of the
//! plugin touches them. It is the only writer, holds no lock of the plugins, and needs no capability
//! that could read over modes: new directories and files inherit the responder's group.
//!
//! A network whose list has no `dns` has files, too, and nobody reads them.

use std::path::PathBuf;

use cluster::local::RemoteNames;
use cni::Error;
use nix::sys::stat::{Mode, umask};

use crate::control::{ControlRequest, client};
use crate::locate;
use crate::record::{self, StateDir};

/// The files of remote names of a network namespace.
#[derive(Clone, Debug)]
pub struct RemoteFiles {
    state_dir: StateDir,
}

/// Whether a file was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is another one than before: send a [`RemoteFiles::sync`].
    Written,
    /// It was there.
    Same,
    /// The records were removed while the responder runs, and the next call of the plugin writes
    /// them again. Try again later.
    Later,
}

impl RemoteFiles {
    /// Those of this process's network namespace, below the default directory: a responder with
    /// another `stateDir` knows no remote names. From here on the process's new files are readable
    /// for their group (umask 027).
    ///
    /// # Errors
    /// The kernel refused.
    pub fn of_this_namespace() -> Result<Self, Error> {
        Ok(Self::at(locate::state_dir(None)?.0.dir()))
    }

    /// Those in that state directory.
    pub fn at(state_dir: impl Into<PathBuf>) -> Self {
        umask(Mode::from_bits_truncate(0o027));
        Self { state_dir: StateDir::at(state_dir) }
    }

    /// Writes what a host has on a network.
    ///
    /// # Errors
    /// The kernel refused, the file would be longer than 4 MiB, or `host` is no id.
    pub fn put(&self, network: &str, host: &str, names: &RemoteNames) -> Result<Put, record::Error> {
        if !self.state_dir.networks_dir().exists() {
            if client::connect_fallback(&self.state_dir).is_some() {
                return Ok(Put::Later);
            }
            self.state_dir.make_private()?;
        }
        let mut written = self.state_dir.put_remote(network, host, names);
        if matches!(&written, Err(record::Error::Kernel(error)) if error.is_not_found()) {
            // The network's last container went meanwhile, and its directory.
            written = self.state_dir.put_remote(network, host, names);
        }
        Ok(if written? { Put::Written } else { Put::Same })
    }

    /// Removes what a host has on a network. Returns whether there was something.
    ///
    /// # Errors
    /// The kernel refused, or `host` is no id.
    pub fn remove(&self, network: &str, host: &str) -> Result<bool, record::Error> {
        self.state_dir.remove_remote(network, host)
    }

    /// Removes what all hosts have on a network.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_network(&self, network: &str) -> sys::Result<()> {
        self.state_dir.remove_all_remote(network)
    }

    /// The ids of the hosts that a network has files of.
    ///
    /// # Errors
    /// The directory exists and cannot be listed.
    pub fn hosts(&self, network: &str) -> sys::Result<Vec<String>> {
        Ok(self.state_dir.remote_files(network)?.0.into_iter().map(|file| file.host).collect())
    }

    /// The networks with files or records, by the names of their directories.
    ///
    /// # Errors
    /// The directory exists and cannot be listed.
    pub fn networks(&self) -> sys::Result<Vec<String>> {
        self.state_dir.directories()
    }

    /// Makes the responder read the files of a network, and waits until they are in force, for at
    /// most five seconds. Returns whether there is a responder; without one the next one reads them.
    ///
    /// # Errors
    /// It does not answer, or failed.
    pub fn sync(&self, network: &str) -> Result<bool, Error> {
        let request = ControlRequest::Sync { network: network.to_owned(), key: None };
        match client::call(&client::socket()?, &self.state_dir.control(), &request, &[]) {
            Ok(answer) if answer.detached => Ok(false),
            Ok(answer) => answer.error.map_or(Ok(true), |error| Err(Error::internal(error))),
            Err(client::Error::Absent | client::Error::Gone) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
