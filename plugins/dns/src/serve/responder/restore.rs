//! Records that were removed as a whole, with their directory, while containers run: written again, from memory.

use std::time::{Duration, Instant};

use super::{Responder, complain, write_about};
use crate::serve::control::Control;

/// How soon it is tried again while a plugin is at work there.
const AGAIN: Duration = Duration::from_millis(50);

impl Responder {
    /// Writes the records again, and listens to plugins where they look for it. Says whether this responder is over:
    /// there is nobody to answer for, or another one was started meanwhile, and answers by these records from now on.
    pub(super) fn restore(&mut self, now: Instant) -> host::Result<bool> {
        self.restore = None;
        if self.zone.attachments() == 0 {
            return Ok(true);
        }
        self.place.make_private()?;
        let Some(_lock) = host::file::try_lock(&self.place.dir().join("lock"), 0o600)? else {
            self.restore = Some(now + AGAIN);
            return Ok(false);
        };
        let lock = host::file::try_lock(&self.place.responder_lock(), 0o600)?;
        self.write_records()?;
        let Some(mut lock) = lock else { return Ok(true) };
        write_about(&mut lock);
        self.lock = lock;
        self.control = Control::open(&self.place.control())?;
        self.control.watch(&self.poller).map_err(|errno| {
            host::Error::new("wait for plugins at", self.place.control().display().to_string(), errno)
        })?;
        complain(&self.place.dir().display(), &"was removed: its records are written again");
        self.load()?;
        for (network, error) in self.follow(now) {
            complain(&format_args!("network {network}"), &error);
        }
        Ok(false)
    }

    /// What a plugin has written there by now is newer.
    fn write_records(&self) -> host::Result<()> {
        let Self { zone, place, .. } = self;
        for (slot, network) in zone.networks().filter(|(_, network)| !network.is_empty()) {
            let name = &network.record().name;
            if matches!(place.network(name), Ok(None)) {
                place.put_network(network.record())?;
            }
            for record in zone.records(slot) {
                if !place.has_attachment(name, &record.key) {
                    place.put_attachment(&record)?;
                }
            }
        }
        Ok(())
    }
}
