//! GC: deletes the cached attachments that are not valid, then calls the plugins' own GC.

use std::collections::BTreeSet;

use crate::version::at_least;
use crate::{AttachmentId, Conflist, Error, GcFault, Runtime, find_plugin};

impl Runtime {
    /// GC: runs a list DEL for every cached attachment of this network that is not in `valid`, with
    /// this list and the attachment's cached namespace, args and capabilities. From 1.1.0 on, it
    /// then calls GC of each plugin, in order. An error does not stop it; all errors are collected.
    ///
    /// cnitool passes `None`: all cached attachments are stale, and the plugins get no valid set.
    pub fn gc(&self, list: &Conflist, valid: Option<&BTreeSet<AttachmentId>>) -> Result<(), Error> {
        if list.disable_gc {
            return Ok(());
        }
        let deadline = self.deadline();
        let mut faults = Vec::new();
        // When the cache cannot be listed, libcni succeeds without doing anything, so on a node
        // without a cache the plugins' own GC never runs. Here a missing directory means no
        // attachments. Other errors are reported, and the plugins are called all the same: their
        // valid set does not come from the cache.
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
