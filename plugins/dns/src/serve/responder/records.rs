//! Reading the records.

use std::collections::HashSet;
use std::time::Instant;

use cluster::local::RemoteNames;

use super::Responder;
use crate::record::{Key, NETWORK_FILE, RemoteFile, Unreadable, Usable, VERSION, encoded, read_remote};
use crate::serve::log::log_error;
use crate::serve::watch::Unreported;

impl Responder {
    /// Reads all records.
    pub(super) fn load(&mut self) -> sys::Result<()> {
        self.watch.all(&self.state_dir);
        let known = self.state_dir.scan()?;
        let networks = || known.iter().filter_map(|known| known.network.as_ref());
        let there: HashSet<&String> = networks().map(|network| &network.name).collect();
        let gone: Vec<String> = self.zone.names().filter(|name| !there.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.zone.remove_network(name));
        for known in known {
            self.log_unreadable(&known.unreadable);
            if let Some(network) = known.network {
                let name = network.name.clone();
                self.zone.replace_network(network, known.attachments);
                self.read_hosts(&name)?;
            }
        }
        Ok(())
    }

    /// Reads all records of a network; returns the unreadable files.
    fn read_network(&mut self, name: &str) -> sys::Result<Vec<Unreadable>> {
        self.watch.network(&self.state_dir, name);
        let known = self.state_dir.scan_network(name)?;
        match known.network {
            Some(network) => {
                self.zone.replace_network(network, known.attachments);
                self.read_hosts(name)?;
            }
            None => self.zone.remove_network(name),
        }
        Ok(known.unreadable)
    }

    /// Reads the files of a network's other hosts that are not those of the last time. One that
    /// cannot be read is left out.
    fn read_hosts(&mut self, name: &str) -> sys::Result<()> {
        let Some(slot) = self.zone.slot(name) else { return Ok(()) };
        let (files, unreadable) = self.state_dir.remote_files(name)?;
        self.log_unreadable(&unreadable);
        let there: HashSet<&String> = files.iter().map(|file| &file.host).collect();
        let gone: Vec<String> = self.zone.hosts(slot).filter(|host| !there.contains(host)).cloned().collect();
        gone.iter().for_each(|host| self.zone.remove_host(slot, host));
        for RemoteFile { host, stamp, path } in files {
            if self.zone.stamp(slot, &host) == Some(stamp) {
                continue;
            }
            let log = |error: &dyn std::fmt::Display| {
                log_error(&self.state_dir.absolute(&path).display(), error);
            };
            let names = match read_remote(&path) {
                Ok(Some(Usable { names, left_out })) => {
                    if left_out > 0 {
                        log(&format_args!("{left_out} names, addresses or containers in it are left out"));
                    }
                    names
                }
                Ok(None) => {
                    self.zone.remove_host(slot, &host);
                    continue;
                }
                Err(error) => {
                    log(&error);
                    no_names()
                }
            };
            if let Err(error) = self.zone.put_host(slot, &host, stamp, names) {
                log_error(&self.state_dir.absolute(&path).display(), &error);
            }
        }
        Ok(())
    }

    /// Reads what a plugin reports as changed: a network, or one attachment of it.
    pub(super) fn reload(&mut self, name: &str, key: Option<&Key>, now: Instant) -> Result<(), String> {
        let fail = |error: &dyn std::fmt::Display| format!("read the records of network {name}: {error:#}");
        let all = self.watch.reported(name, key, now);
        let Some((slot, key)) = self.zone.slot(name).zip(key).filter(|_| all) else {
            // A new network may have other attachments too.
            let unreadable = self.read_network(name).map_err(|error| fail(&error))?;
            self.log_unreadable(&unreadable);
            let concerns = |unreadable: &&Unreadable| {
                key.is_none_or(|key| {
                    unreadable.path.ends_with(NETWORK_FILE) || unreadable.path.ends_with(key.file_name())
                })
            };
            return match unreadable.iter().find(concerns) {
                Some(unreadable) => Err(format!(
                    "{}: {:#}",
                    self.state_dir.absolute(&unreadable.path).display(),
                    unreadable.error
                )),
                None => Ok(()),
            };
        };
        let Some(network) = self.state_dir.network(name).map_err(|error| fail(&error))? else {
            self.zone.remove_network(name);
            return Ok(());
        };
        self.zone.put_network(network);
        match self.state_dir.attachment(name, key).map_err(|error| fail(&error))? {
            Some(record) => self.zone.put_attachment(slot, record),
            None => self.zone.remove_attachment(slot, key),
        }
        Ok(())
    }

    /// Reads changes that no plugin reported.
    pub(super) fn reload_changes(&mut self, now: Instant) {
        let unreported = self.watch.take_unreported();
        if self.records_are_gone() {
            log_error(
                &self.state_dir.dir().display(),
                &"was removed: the next call of a plugin writes its records again",
            );
            return;
        }
        match unreported {
            Unreported::Everything => {
                if let Err(error) = self.load() {
                    log_error(&"read the records", &error);
                }
            }
            Unreported::Networks(dirs) => {
                for dir in dirs {
                    // An unknown network is read by its directory name.
                    let name = self.zone.names().find(|name| encoded(name) == dir).cloned();
                    let name = name.unwrap_or(dir);
                    match self.read_network(&name) {
                        Ok(unreadable) => self.log_unreadable(&unreadable),
                        Err(error) => log_error(&format_args!("read the records of network {name}"), &error),
                    }
                }
            }
        }
        for (network, error) in self.apply_records(now) {
            log_error(&format_args!("network {network}"), &error);
        }
    }

    /// Logs files that cannot be read.
    fn log_unreadable(&self, unreadable: &[Unreadable]) {
        for Unreadable { path, error } in unreadable {
            log_error(&self.state_dir.absolute(path).display(), error);
        }
    }
}

/// What is known of a host whose file cannot be read.
fn no_names() -> RemoteNames {
    RemoteNames { v: VERSION, host: String::new(), silent: false, attachments: Vec::new() }
}
