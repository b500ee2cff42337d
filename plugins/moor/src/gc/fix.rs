//! Removes what is left: DEL for each dead attachment, then GC where DEL did not find everything.

use std::time::Duration;

use host::{Owner, Removal, rules};
use runtime::{Attachment, Cache, Entry, Record, Runtime};

use super::leftover::Key;
use super::plan::Plan;
use super::scope::{is_known, list_of};
use crate::context::Context;
use crate::model::Model;
use crate::networks::Networks;
use crate::output::Note;

/// How long the plugins of a list may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The runtime that removes.
pub fn runtime(context: &Context) -> Runtime {
    let mut runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    runtime.timeout = TIMEOUT;
    runtime.forward_stderr = false;
    runtime
}

/// DEL for each dead attachment, by the list of its ADD. The notes are the failures.
pub fn del(context: &Context, networks: &Networks, model: &Model, plan: &Plan) -> Vec<Note> {
    let runtime = runtime(context);
    let mut notes = Vec::new();
    for key in plan.dead() {
        let Key { network, container_id, ifname } = key;
        let name = format!("{network} {container_id} {ifname}");
        let Some(list) = list_of(key, model, networks) else {
            notes.push(Note::new("no-list", format!("{name}: no conflist of the network, and no record")));
            continue;
        };
        let planned = record_of(key, model);
        if !is_as_planned(&runtime.cache(), key, planned) {
            notes.push(Note::new("changed", format!("{name}: its record has changed; nothing is removed")));
            continue;
        }
        let attachment = planned.map_or_else(|| unrecorded(key), |record| record.attachment.clone());
        if let Err(error) = runtime.del(&list, &attachment) {
            notes.push(Note::new("del", format!("{name}: DEL: {error}")));
        }
        if let Err(error) = rules_of(key, model) {
            notes.push(Note::new("rules", format!("{name}: {error:#}")));
        }
    }
    notes
}

/// Deletes the packet rules that DEL left: without the namespace, the reference's leaves its own.
fn rules_of(key: &Key, model: &Model) -> sys::Result<()> {
    let owner = Owner::new(&key.network, &key.container_id, &key.ifname);
    let mut records = model.attachments.iter().filter(|one| {
        one.network == key.network && one.container_id == key.container_id && one.ifname == key.ifname
    });
    let addresses = records.next().map(|one| one.addresses.clone()).unwrap_or_default();
    match rules::delete(&Removal::new(owner.clone(), "", Vec::new()), &addresses)? {
        Some(nft) => rules::published::withdraw_of_reference(&nft, &owner),
        None => Ok(()),
    }
}

fn unrecorded(key: &Key) -> Attachment {
    let Key { container_id, ifname, .. } = key.clone();
    Attachment { container_id, ifname, ..Attachment::default() }
}

fn record_of<'m>(key: &Key, model: &'m Model) -> Option<&'m Record> {
    let mut of = model.attachments.iter().filter(|one| {
        one.network == key.network && one.container_id == key.container_id && one.ifname == key.ifname
    });
    of.find_map(|one| one.record.as_deref())
}

/// Whether no ADD of the same names has ended since.
fn is_as_planned(cache: &Cache, key: &Key, planned: Option<&Record>) -> bool {
    match (cache.get(&key.network, &key.id()), planned) {
        (Ok(Some(Entry::Record(now))), Some(planned)) => *now == *planned,
        (Ok(None), None) => true,
        // Another process has removed it.
        (Ok(None), Some(_)) => true,
        _ => false,
    }
}

/// GC of the networks of which something is left. A plugin keeps only what is in the valid set, and
/// an ADD that begins now is in none: so it is the last resort.
pub fn gc(context: &Context, networks: &Networks, plan: &Plan, all: bool) -> Vec<Note> {
    let runtime = runtime(context);
    let left: std::collections::BTreeSet<&str> =
        plan.leftovers.iter().map(|leftover| leftover.key.network.as_str()).collect();
    let mut notes = Vec::new();
    for network in left.into_iter().filter_map(|name| networks.named(name)) {
        if !all && !is_known(&network.list) {
            continue;
        }
        let valid = plan.valid.get(network.name()).cloned().unwrap_or_default();
        if let Err(error) = runtime.gc(&network.list, Some(&valid)) {
            notes.push(Note::new("gc", format!("{}: GC: {error}", network.name())));
        }
    }
    notes
}
