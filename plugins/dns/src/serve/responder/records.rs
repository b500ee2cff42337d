//! Reading the records.

use std::collections::HashSet;
use std::time::Instant;

use super::Responder;
use crate::record::{Faulty, Key, NETWORK_FILE, encoded};
use crate::serve::log::log_error;
use crate::serve::watch::Untold;

impl Responder {
    /// Reads all records.
    pub(super) fn load(&mut self) -> sys::Result<()> {
        self.watch.all(&self.place);
        let known = self.place.scan()?;
        let networks = || known.iter().filter_map(|known| known.network.as_ref());
        let there: HashSet<&String> = networks().map(|network| &network.name).collect();
        let gone: Vec<String> = self.zone.names().filter(|name| !there.contains(name)).cloned().collect();
        gone.iter().for_each(|name| self.zone.remove_network(name));
        for known in known {
            self.complain_of(&known.faulty);
            if let Some(network) = known.network {
                self.zone.put_whole(network, known.attachments);
            }
        }
        Ok(())
    }

    /// Reads all records of a network; returns the unreadable files.
    fn read_network(&mut self, name: &str) -> sys::Result<Vec<Faulty>> {
        self.watch.network(&self.place, name);
        let known = self.place.scan_network(name)?;
        match known.network {
            Some(network) => self.zone.put_whole(network, known.attachments),
            None => self.zone.remove_network(name),
        }
        Ok(known.faulty)
    }

    /// Reads what a plugin reports as changed: a network, or one attachment of it.
    pub(super) fn read_again(&mut self, name: &str, key: Option<&Key>, now: Instant) -> Result<(), String> {
        let told = |error: &dyn std::fmt::Display| format!("read the records of network {name}: {error:#}");
        let all = self.watch.told(name, key, now);
        let Some((slot, key)) = self.zone.slot(name).zip(key).filter(|_| all) else {
            // A new network may have other attachments too.
            let faulty = self.read_network(name).map_err(|error| told(&error))?;
            self.complain_of(&faulty);
            let concerns = |faulty: &&Faulty| {
                key.is_none_or(|key| {
                    faulty.path.ends_with(NETWORK_FILE) || faulty.path.ends_with(key.file_name())
                })
            };
            return match faulty.iter().find(concerns) {
                Some(faulty) => {
                    Err(format!("{}: {:#}", self.place.shown(&faulty.path).display(), faulty.error))
                }
                None => Ok(()),
            };
        };
        let Some(network) = self.place.network(name).map_err(|error| told(&error))? else {
            self.zone.remove_network(name);
            return Ok(());
        };
        self.zone.put_network(network);
        match self.place.attachment(name, key).map_err(|error| told(&error))? {
            Some(record) => self.zone.put_attachment(slot, record),
            None => self.zone.remove_attachment(slot, key),
        }
        Ok(())
    }

    /// Reads changes that no plugin reported.
    pub(super) fn catch_up(&mut self, now: Instant) {
        let untold = self.watch.untold();
        if self.is_detached() {
            log_error(
                &self.place.dir().display(),
                &"was removed: the next call of a plugin writes its records again",
            );
            return;
        }
        match untold {
            Untold::Everything => {
                if let Err(error) = self.load() {
                    log_error(&"read the records", &error);
                }
            }
            Untold::Networks(dirs) => {
                for dir in dirs {
                    // An unknown network is read by its directory name.
                    let name = self.zone.names().find(|name| encoded(name) == dir).cloned();
                    let name = name.unwrap_or(dir);
                    match self.read_network(&name) {
                        Ok(faulty) => self.complain_of(&faulty),
                        Err(error) => log_error(&format_args!("read the records of network {name}"), &error),
                    }
                }
            }
        }
        for (network, error) in self.follow(now) {
            log_error(&format_args!("network {network}"), &error);
        }
    }

    /// Logs files that cannot be read.
    fn complain_of(&self, faulty: &[Faulty]) {
        for Faulty { path, error } in faulty {
            log_error(&self.place.shown(path).display(), error);
        }
    }
}
