//! Names of containers on other hosts: `remote/<host>.json` of a network.
//!
//! The agent of networks over many hosts owns these files and the directory: it writes, replaces
//! and removes them, without the plugins' lock. What is in them came from other hosts, so nothing
//! of it is part of a path, and all of it is checked and bounded.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cluster::local::{RemoteAttachment, RemoteNames};
use names::NAMES_MAX;

use super::file as records;
use super::{Error, StateDir, Unreadable};

/// The longest file, in bytes.
pub const REMOTE_FILE_MAX: usize = 4 << 20;
/// The most addresses of a container.
const ADDRESSES_MAX: usize = 16;
/// Hex digits of a host's id.
const ID_LENGTH: usize = 16;
/// The directory of the files, in that of a network.
pub(super) const DIR: &str = "remote";

/// Identifies what is in a file: each writing makes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

#[cfg(test)]
impl Stamp {
    pub(crate) fn of_test(inode: u64) -> Self {
        Self { inode, length: 0, changed: (0, 0) }
    }
}

/// A file, as it is listed.
#[derive(Debug)]
pub struct RemoteFile {
    /// The id of the host.
    pub host: String,
    /// What is in it now.
    pub stamp: Stamp,
    /// The file.
    pub path: PathBuf,
}

/// What a file says, as far as it can be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Usable {
    /// The containers.
    pub names: RemoteNames,
    /// How many names, addresses and containers are left out.
    pub left_out: usize,
}

impl StateDir {
    /// The directory with one file for each other host of a network.
    pub fn remote_dir(&self, network: &str) -> PathBuf {
        self.network_dir(network).join(DIR)
    }

    /// Lists the files of other hosts; those with other names are in the second list.
    ///
    /// # Errors
    /// The directory exists and cannot be listed.
    pub fn remote_files(&self, network: &str) -> sys::Result<(Vec<RemoteFile>, Vec<Unreadable>)> {
        let (mut files, mut unreadable) = (Vec::new(), Vec::new());
        for path in records::list(&self.remote_dir(network))? {
            let Ok(meta) = fs::symlink_metadata(&path) else { continue };
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".json"));
            match name.filter(|host| is_host(host) && meta.is_file()) {
                Some(host) => files.push(RemoteFile {
                    host: host.to_owned(),
                    stamp: Stamp {
                        inode: meta.ino(),
                        length: meta.len(),
                        changed: (meta.ctime(), meta.ctime_nsec()),
                    },
                    path,
                }),
                None => {
                    let error = Error::Malformed(format!("expected a file <{ID_LENGTH} hex digits>.json"));
                    unreadable.push(Unreadable { path, error });
                }
            }
        }
        Ok((files, unreadable))
    }

    /// Writes the file of another host. An identical file is not written again. Returns whether it
    /// was written. The caller is the only writer; see [`crate::remote`].
    ///
    /// # Errors
    /// The kernel refused, the file would be too long, or `host` is no id.
    pub fn put_remote(&self, network: &str, host: &str, names: &RemoteNames) -> Result<bool, Error> {
        let name = file_name(host)?;
        let dir = self.remote_dir(network);
        Ok(records::put_bounded(&dir, &name, names, REMOTE_FILE_MAX)?)
    }

    /// Removes the file of another host. Returns whether it was there.
    ///
    /// # Errors
    /// The kernel refused, or `host` is no id.
    pub fn remove_remote(&self, network: &str, host: &str) -> Result<bool, Error> {
        Ok(records::remove(&self.remote_dir(network), &file_name(host)?)?)
    }

    /// Removes the files of all other hosts, and the network's directory if nothing else is in it.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_all_remote(&self, network: &str) -> sys::Result<()> {
        records::remove_all_but(&self.remote_dir(network), |_| false)?;
        records::remove_dir(&self.remote_dir(network))?;
        records::remove_dir_if_empty(&self.network_dir(network))
    }
}

/// Reads a file; `None` if it was removed meanwhile.
///
/// # Errors
/// It cannot be read.
pub fn read_remote(path: &Path) -> Result<Option<Usable>, Error> {
    Ok(records::read::<RemoteNames>(path, REMOTE_FILE_MAX)?.map(usable))
}

/// Leaves out what is no name, no address of a container, or too much.
fn usable(mut read: RemoteNames) -> Usable {
    let mut left_out = 0;
    read.attachments.retain_mut(|RemoteAttachment { names, ips }| {
        let before = names.len() + ips.len();
        names.retain(|name| names::parse(name, None).is_ok_and(|parsed| parsed == *name));
        ips.retain(|ip| !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast()));
        names.truncate(NAMES_MAX);
        ips.truncate(ADDRESSES_MAX);
        left_out += before - names.len() - ips.len();
        let stays = !names.is_empty() && !ips.is_empty();
        left_out += usize::from(!stays);
        stays
    });
    Usable { names: read, left_out }
}

fn file_name(host: &str) -> Result<String, Error> {
    match is_host(host) {
        true => Ok(format!("{host}.json")),
        false => Err(Error::Malformed(format!("{host:?} is no id of a host: {ID_LENGTH} hex digits"))),
    }
}

fn is_host(text: &str) -> bool {
    text.len() == ID_LENGTH && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
