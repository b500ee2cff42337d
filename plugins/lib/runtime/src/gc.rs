//! GC: what the runtime has forgotten is deleted, then the plugins look for what they can find themselves.

use std::collections::BTreeSet;

use crate::version::at_least;
use crate::{AttachmentId, Conflist, Error, GcFault, Runtime, find_plugin};

impl Runtime {
    /// GC: every cached attachment of this network that is not in `valid` gets a list DEL, with the list as it is
    /// now and the namespace, args and capabilities of then; from 1.1.0 on each plugin is then asked in order.
    /// Errors are collected, the rest goes on.
    ///
    /// `None` is what cnitool asks: every cached attachment counts as stale, and the plugins are not told a set.
    pub fn gc(&self, list: &Conflist, valid: Option<&BTreeSet<AttachmentId>>) -> Result<(), Error> {
        if list.disable_gc {
            return Ok(());
        }
        let deadline = self.deadline();
        let mut faults = Vec::new();
        // libcni says success and does nothing at all when the cache cannot be listed, so on a node whose cache was
        // never made the plugins' own GC never runs. No directory is no attachments; any other trouble is
        // reported, and the plugins are asked nevertheless: what they are told does not come from the cache.
        let records = self.cache().list(None).unwrap_or_else(|error| {
            faults.push(GcFault::Attachments(error));
            Vec::new()
        });
        for record in records.iter().filter(|record| record.network == list.name) {
            let id = record.attachment.id();
            if valid.is_some_and(|valid| valid.contains(&id)) {
                continue;
            }
            if let Err(error) = self.del_until(list, &record.attachment, deadline) {
                faults.push(GcFault::Stale { id, error: Box::new(error) });
            }
        }
        if at_least(&list.version, "1.1.0").unwrap_or(false) {
            for plugin in &list.plugins {
                let stdin = plugin.gc_request(list, valid);
                let called = find_plugin(&plugin.plugin_type, &self.cni_path)
                    .and_then(|program| self.run(&program, self.network_env("GC"), &stdin, deadline));
                if let Err(error) = called {
                    faults.push(GcFault::Plugin { plugin_type: plugin.plugin_type.clone(), error });
                }
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(Error::Gc(faults)) }
    }
}
