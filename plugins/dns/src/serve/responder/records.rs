//! Reading the records.

use std::collections::HashSet;
use std::time::Instant;

use super::Responder;
use crate::record::{Key, NETWORK_FILE, Unreadable, encoded};
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
                self.zone.replace_network(network, known.attachments);
            }
        }
        Ok(())
    }

    /// Reads all records of a network; returns the unreadable files.
    fn read_network(&mut self, name: &str) -> sys::Result<Vec<Unreadable>> {
        self.watch.network(&self.state_dir, name);
        let known = self.state_dir.scan_network(name)?;
        match known.network {
            Some(network) => self.zone.replace_network(network, known.attachments),
            None => self.zone.remove_network(name),
        }
        Ok(known.unreadable)
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
