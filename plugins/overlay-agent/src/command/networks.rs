//! `network ls` and `network rm`.

use std::collections::BTreeSet;

use cluster::decode::Record;
use cluster::key::Key;
use serde_json::json;

use super::failure::Failure;
use super::hosts::name_of;
use super::store::{Store, TRIES, read};
use super::table::{joined, table};
use crate::state::cache::{Cache, Item};
use crate::txn::Txn;

/// Records that one transaction deletes, beside the network's own.
const AT_ONCE: usize = 90;

/// A network's attachments, on how many hosts, and its blocks.
struct Use {
    attachments: usize,
    hosts: BTreeSet<String>,
    blocks: usize,
}

fn use_of(cache: &Cache, network: &str) -> Use {
    let mut found = Use { attachments: 0, hosts: BTreeSet::new(), blocks: cache.blocks(network).count() };
    for (key, _) in cache.items() {
        if let Key::Endpoint(endpoint) = key
            && endpoint.network == network
        {
            found.attachments += 1;
            found.hosts.insert(endpoint.host.clone());
        }
    }
    found
}

/// `network ls`
pub(super) fn list(cache: &Cache, json: bool) -> Result<String, Failure> {
    if json {
        let items: Vec<_> = cache
            .nets()
            .map(|(name, net)| {
                let used = use_of(cache, name);
                json!({
                    "name": name,
                    "vni": net.vni,
                    "subnets": net.subnets.iter().map(ToString::to_string).collect::<Vec<_>>(),
                    "gateways": net.gateways,
                    "blockSize": net.block_size,
                    "mtu": net.mtu,
                    "encrypted": net.encrypted,
                    "multicast": net.multicast,
                    "internal": net.internal,
                    "attachments": used.attachments,
                    "hosts": used.hosts,
                    "blocks": used.blocks,
                })
            })
            .collect();
        return Ok(format!("{:#}\n", serde_json::Value::Array(items)));
    }
    let rows: Vec<Vec<String>> = cache
        .nets()
        .map(|(name, net)| {
            let used = use_of(cache, name);
            let flags =
                [("encrypted", net.encrypted), ("multicast", net.multicast), ("internal", net.internal)];
            vec![
                name.to_owned(),
                net.vni.map_or_else(String::new, |id| id.to_string()),
                joined(&net.subnets),
                net.mtu.map_or_else(String::new, |mtu| mtu.to_string()),
                used.attachments.to_string(),
                used.hosts.len().to_string(),
                used.blocks.to_string(),
                joined(flags.iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| *flag)),
            ]
        })
        .collect();
    Ok(table(&["NAME", "ID", "SUBNETS", "MTU", "ATTACHMENTS", "HOSTS", "BLOCKS", "FLAGS"], &rows))
}

/// `network rm`
pub(super) fn remove(store: &mut impl Store, network: &str) -> Result<String, Failure> {
    let mut cache = read(store)?;
    if removal(&cache, network)?.is_none() {
        return Err(Failure::refused(format!("there is no network {network:?} in the cluster"))
            .hint("`overlay network ls` lists them"));
    }
    for _ in 0..TRIES {
        let Some(txn) = removal(&cache, network)? else { return Ok(format!("removed network {network}\n")) };
        store.commit(&txn)?;
        cache = store.read()?;
    }
    let text = format!("network {network}: its records changed during each of {TRIES} attempts");
    Err(Failure::refused(text)
        .hint("something attaches to it: look at `overlay ls`, and run the command again"))
}

/// The next transaction that removes a network; `None`: nothing of it is left. Its own record goes
/// first: no host claims a block of a network without one. A container that was attached meanwhile
/// brings it back, by its host's copy.
fn removal(cache: &Cache, network: &str) -> Result<Option<Txn>, Failure> {
    let key = Key::Net(network.to_owned());
    let belongs = |other: &Key, item: &Item| match &item.record {
        Some(Record::Vni(vni)) => vni.network == network,
        _ => other.network() == Some(network) && *other != key,
    };
    let others: Vec<&Key> =
        cache.items().filter(|(key, item)| belongs(key, item)).map(|(key, _)| key).collect();
    if !cache.has(&key) && others.is_empty() {
        return Ok(None);
    }
    refuse_used(cache, network)?;
    let txn = match cache.get(&key) {
        Some(item) => Txn::default().unchanged(key.clone(), item.modified).delete(key),
        None => Txn::default().absent(key),
    };
    Ok(Some(others.into_iter().take(AT_ONCE).fold(txn, |txn, key| txn.delete(key.clone()))))
}

/// Attachments keep a network, and so do blocks of hosts that cannot be asked whether they have any.
fn refuse_used(cache: &Cache, network: &str) -> Result<(), Failure> {
    let used = use_of(cache, network);
    if used.attachments > 0 {
        let hosts = joined(used.hosts.iter().map(|host| name_of(cache, host)));
        let text = format!("network {network} has {} attachments on {hosts}: not removed", used.attachments);
        return Err(Failure::refused(text).hint(format!("`overlay ls --network {network}` lists them")));
    }
    let away: BTreeSet<&str> = cache
        .blocks(network)
        .map(|(_, owner, _)| owner)
        .filter(|owner| !cache.has(&Key::Alive((*owner).to_owned())))
        .collect();
    if away.is_empty() {
        return Ok(());
    }
    let names = joined(away.iter().map(|host| name_of(cache, host)));
    let text =
        format!("network {network}: {names} has blocks of its addresses, and cannot be asked: not removed");
    Err(Failure::refused(text)
        .hint("start the agent there, or remove the host: `overlay host remove <id> --dead`"))
}
