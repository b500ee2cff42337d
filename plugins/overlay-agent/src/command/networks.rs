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
/// How often hosts are waited for.
const WAITS: usize = 60;

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

/// `network rm`: the network's record goes first, since no host claims a block of a network without
/// one. Each living host then gives up what it has, or makes the record again if it has a container
/// there: only the host knows, for containers of `bridge` and `macvlan` have no record in etcd.
pub(super) fn remove(store: &mut impl Store, network: &str) -> Result<String, Failure> {
    let mut cache = read(store)?;
    let key = Key::Net(network.to_owned());
    if !cache.has(&key) && parts(&cache, network).is_empty() {
        return Err(Failure::refused(format!("there is no network {network:?} in the cluster"))
            .hint("`overlay network ls` lists them"));
    }
    let mut is_removed = !cache.has(&key);
    let (mut tries, mut waits) = (TRIES, WAITS);
    while tries > 0 && waits > 0 {
        let parts = parts(&cache, network);
        if !cache.has(&key) && parts.is_empty() {
            return Ok(format!("removed network {network}\n"));
        }
        refuse_used(&cache, network)?;
        if cache.has(&key) && is_removed {
            return Err(in_use(&cache, network));
        }
        // What belongs to living hosts is theirs to delete.
        let of_nobody: Vec<&Key> =
            parts.iter().filter(|(_, owner)| owner.is_none()).map(|(key, _)| *key).collect();
        let bound = match cache.get(&key) {
            Some(item) => Some(Txn::default().unchanged(key.clone(), item.modified).delete(key.clone())),
            None if of_nobody.is_empty() => None,
            None => Some(Txn::default().absent(key.clone())),
        };
        match bound {
            Some(txn) => {
                tries -= 1;
                let txn = of_nobody.into_iter().take(AT_ONCE).fold(txn, |txn, key| txn.delete(key.clone()));
                if store.commit(&txn)? {
                    (is_removed, tries) = (true, TRIES);
                }
            }
            None => {
                waits -= 1;
                store.pause();
            }
        }
        cache = store.read()?;
    }
    let hosts = joined(owners(&cache, network).iter().map(|host| name_of(&cache, host)));
    let text = format!("network {network}: {hosts} has not given up its addresses in time");
    Err(Failure::refused(text).hint("its agent may be busy: run the command again"))
}

fn in_use(cache: &Cache, network: &str) -> Failure {
    let hosts = joined(owners(cache, network).iter().map(|host| name_of(cache, host)));
    let text = format!("network {network} has containers on {hosts}: not removed");
    Failure::refused(text).hint(
        "containers of other plugins than overlay are not in `overlay ls`: `moor leases` on that host names them",
    )
}

/// The living hosts that have blocks of a network.
fn owners<'a>(cache: &'a Cache, network: &'a str) -> BTreeSet<&'a str> {
    cache.blocks(network).map(|(_, owner, _)| owner).collect()
}

/// The records of a network but its own, each with the living host that it belongs to.
fn parts<'a>(cache: &'a Cache, network: &str) -> Vec<(&'a Key, Option<&'a str>)> {
    let is_part = |key: &Key, item: &Item| match &item.record {
        Some(Record::Vni(vni)) => vni.network == network,
        _ => key.network() == Some(network) && !matches!(key, Key::Net(_)),
    };
    let owner = |key: &'a Key, item: &'a Item| {
        let host = match (key, &item.record) {
            (Key::Endpoint(endpoint), _) => &endpoint.host,
            (Key::Own { host, .. } | Key::Ask { host, .. }, _) => host,
            (_, Some(Record::Block(block))) => &block.host,
            (_, Some(Record::Lent(lent))) => &lent.to,
            _ => return None,
        };
        cache.has(&Key::Alive(host.clone())).then_some(host.as_str())
    };
    cache
        .items()
        .filter(|(key, item)| is_part(key, item))
        .map(|(key, item)| (key, owner(key, item)))
        .collect()
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
