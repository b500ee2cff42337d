//! `host ls` and `host remove`.

use cluster::VERSION;
use cluster::decode::Record;
use cluster::key::Key;
use cluster::record::Silent;
use serde_json::json;

use super::failure::Failure;
use super::store::{Store, TRIES, read};
use super::table::{joined, table};
use crate::state::cache::Cache;
use crate::steps::others::gone;
use crate::txn::Txn;

/// Transactions that remove one host at most: all records of a cluster.
const TRANSACTIONS: usize = 300;

/// A host's name, or its id if it has no record.
pub(super) fn name_of(cache: &Cache, host: &str) -> String {
    cache.host(&Key::Host(host.to_owned())).map_or_else(|| host.to_owned(), |record| record.name.clone())
}

/// How a host lives.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Life {
    /// Its agent runs.
    Alive,
    /// Its agent has not been heard of since then.
    Silent(String),
    /// As silent, and its records are being deleted.
    Going,
    /// Its agent is away, and no other host has noticed.
    Away,
}

impl Life {
    fn of(cache: &Cache, host: &str) -> Self {
        let silent = cache.get(&Key::Silent(host.to_owned()));
        if cache.has(&Key::Alive(host.to_owned())) {
            return Self::Alive;
        }
        match silent.map(|item| &item.record) {
            None => Self::Away,
            Some(_) if !cache.has(&Key::Grace(host.to_owned())) => Self::Going,
            Some(Some(Record::Silent(record))) => Self::Silent(record.since.clone()),
            Some(_) => Self::Silent(String::new()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Alive => "alive".into(),
            Self::Silent(since) => format!("silent since {since}"),
            Self::Going => "being removed".into(),
            Self::Away => "away".into(),
        }
    }
}

/// The attachments and blocks of a host.
fn holdings(cache: &Cache, host: &str) -> (usize, usize) {
    let belongings = cache.belongings(host);
    let count = |is_one: fn(&Key) -> bool| belongings.iter().filter(|key| is_one(key)).count();
    (count(|key| matches!(key, Key::Endpoint(_))), count(|key| matches!(key, Key::Block { .. })))
}

/// `host ls`
pub(super) fn list(cache: &Cache, json: bool) -> Result<String, Failure> {
    if json {
        let items: Vec<_> = cache
            .hosts()
            .map(|(id, host)| {
                let (attachments, blocks) = holdings(cache, id);
                json!({
                    "id": id,
                    "name": host.name,
                    "state": Life::of(cache, id).text(),
                    "addresses": host.addresses,
                    "mtu": host.mtu,
                    "attachments": attachments,
                    "blocks": blocks,
                    "agent": host.agent,
                    "protocol": host.protocol,
                })
            })
            .collect();
        return Ok(format!("{:#}\n", serde_json::Value::Array(items)));
    }
    let rows: Vec<Vec<String>> = cache
        .hosts()
        .map(|(id, host)| {
            let (attachments, blocks) = holdings(cache, id);
            vec![
                id.to_owned(),
                host.name.clone(),
                Life::of(cache, id).text(),
                joined(&host.addresses),
                host.mtu.to_string(),
                attachments.to_string(),
                blocks.to_string(),
                host.agent.clone(),
            ]
        })
        .collect();
    Ok(table(&["ID", "NAME", "STATE", "ADDRESSES", "MTU", "ATTACHMENTS", "BLOCKS", "AGENT"], &rows))
}

/// The one host that is meant.
fn find(cache: &Cache, meant: &str) -> Result<String, Failure> {
    let is_meant = |id: &str, name: &str| name == meant || (meant.len() >= 4 && id.starts_with(meant));
    let mut found: Vec<&str> =
        cache.hosts().filter(|(id, host)| is_meant(id, &host.name)).map(|(id, _)| id).collect();
    // A host whose own record is gone may have others, after an interrupted removal.
    if found.is_empty() && cluster::key::is_host(meant) && !cache.belongings(meant).is_empty() {
        found.push(meant);
    }
    match found.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Failure::refused(format!("there is no host {meant:?} in the cluster"))
            .hint("`overlay host ls` lists ids and names")),
        several => Err(Failure::refused(format!("{meant:?} is more than one host: {}", several.join(", ")))
            .hint("name the one by its id")),
    }
}

/// `host remove`
pub(super) fn remove(store: &mut impl Store, meant: &str, dead: bool) -> Result<String, Failure> {
    let mut cache = read(store)?;
    let host = find(&cache, meant)?;
    let name = name_of(&cache, &host);
    let (attachments, blocks) = holdings(&cache, &host);
    let life = Life::of(&cache, &host);
    if life == Life::Alive {
        return Err(alive(&host, &name));
    }
    if !dead {
        let text = format!(
            "host {host} ({name}) is {}, with {attachments} attachments and {blocks} blocks: not removed",
            life.text()
        );
        return Err(Failure::refused(text).hint(
            "if it is switched off for good, say so with --dead; if it may run, its containers would go on with \
             addresses that others get",
        ));
    }
    let mut refused = 0;
    for _ in 0..TRANSACTIONS {
        let Some(txn) = next(&cache, &host) else {
            return Ok(format!(
                "removed host {host} ({name}): {attachments} attachments and {blocks} blocks are free\n"
            ));
        };
        if store.commit(&txn)? {
            refused = 0;
        } else {
            refused += 1;
        }
        cache = store.read()?;
        if cache.has(&Key::Alive(host.clone())) {
            return Err(alive(&host, &name));
        }
        if refused > TRIES {
            let text = format!("host {host} ({name}): its records changed during each of {TRIES} attempts");
            return Err(Failure::refused(text).hint("what is removed stays removed; run the command again"));
        }
    }
    Err(Failure::refused(format!(
        "host {host} ({name}) has more records than {TRANSACTIONS} transactions delete"
    ))
    .hint("run the command again"))
}

fn alive(host: &str, name: &str) -> Failure {
    Failure::refused(format!("host {host} ({name}) is alive: not removed"))
        .hint("run `overlay leave` on it; or stop it, and wait until `overlay host ls` shows it silent")
}

/// The next transaction on the way to a host that is gone: it is marked as silent, its grace ends,
/// and then its records go as those of a host that was silent for too long. Each is bound to the
/// host being away.
fn next(cache: &Cache, host: &str) -> Option<Txn> {
    let (alive, silent) = (Key::Alive(host.to_owned()), Key::Silent(host.to_owned()));
    let grace = Key::Grace(host.to_owned());
    let Some(mark) = cache.get(&silent) else {
        if !cache.has(&Key::Host(host.to_owned())) && cache.belongings(host).is_empty() {
            return None;
        }
        let mark = Silent { v: VERSION, since: String::new() };
        return Some(Txn::default().absent(alive).absent(silent.clone()).put(silent, &mark));
    };
    if cache.has(&grace) {
        return Some(Txn::default().absent(alive).unchanged(silent, mark.modified).delete(grace));
    }
    gone(cache, host)
}
