//! Survives the removal of the records' directory while containers run: the responder keeps
//! answering from memory, and the next plugin writes the records again.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::{Responder, write_lock_file};
use crate::control::Entry;
use crate::serve::log::log_error;

impl Responder {
    /// Whether the directory of the records, which is the working directory, was removed.
    pub(super) fn records_are_gone(&self) -> bool {
        // A removed directory has no links (rmdir(2)).
        nix::sys::stat::stat(".").is_ok_and(|meta| meta.st_nlink == 0)
    }

    /// Checks that a descriptor is on the filesystem of the records and has their owner. A
    /// process that cannot open such a file is no plugin of this directory.
    fn check_owner(&self, descriptor: &OwnedFd) -> std::io::Result<()> {
        let meta = nix::sys::stat::fstat(descriptor)?;
        match (meta.st_dev, meta.st_uid) == self.origin {
            true => Ok(()),
            false => Err(std::io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Writes all records into a file that a plugin opened.
    pub(super) fn list(&self, descriptors: Vec<OwnedFd>) -> std::io::Result<()> {
        let [file] = <[OwnedFd; 1]>::try_from(descriptors).map_err(|_| std::io::ErrorKind::InvalidInput)?;
        self.check_owner(&file)?;
        let mut list = BufWriter::new(File::from(file));
        let mut write = |entry: &Entry| -> std::io::Result<()> {
            serde_json::to_writer(&mut list, entry)?;
            list.write_all(b"\n")
        };
        for (slot, network) in self.zone.networks().filter(|(_, network)| !network.is_empty()) {
            write(&Entry { network: Some(network.record().clone()), ..Entry::default() })?;
            for attachment in self.zone.records(slot) {
                write(&Entry { attachment: Some(attachment), ..Entry::default() })?;
            }
            for (id, names) in self.zone.remote(slot) {
                write(&Entry { host: Some((id.clone(), names.clone())), ..Entry::default() })?;
            }
        }
        list.flush()
    }

    /// Continues with a directory of records that a plugin opened. If the state directory
    /// was created anew, also takes over its lock and control socket.
    pub(super) fn settle(&mut self, descriptors: Vec<OwnedFd>, now: Instant) -> Result<(), String> {
        let state_dir = self.dir_text();
        let fail = |what: &str, error: &dyn std::fmt::Display| format!("{what} of {state_dir}: {error}");
        let mut descriptors = descriptors.into_iter();
        let (Some(dir), Some(plugins_lock)) = (descriptors.next(), descriptors.next()) else {
            return Err(fail("continue with the records", &"descriptors are missing"));
        };
        self.check_owner(&dir).map_err(|error| fail("continue with the records", &error))?;
        nix::unistd::fchdir(&dir).map_err(|errno| fail("continue with the records", &errno))?;
        self.plugins_lock = plugins_lock.into();
        if let (Some(lock), Some(control)) = (descriptors.next(), descriptors.next()) {
            let mut lock = File::from(lock);
            write_lock_file(&mut lock);
            self.control.replace(control, &self.poller).map_err(|errno| fail("listen to plugins", &errno))?;
            self.lock = lock;
        }
        self.load().map_err(|error| format!("{error:#}"))?;
        for (network, error) in self.apply_records(now) {
            log_error(&format_args!("network {network}"), &error);
        }
        Ok(())
    }
}
