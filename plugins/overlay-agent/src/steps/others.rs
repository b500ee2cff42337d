//! Other hosts: marking those that fell silent, and freeing what belongs to those that are gone.
//! The time is etcd's: nothing here compares clocks of hosts.

use std::time::Duration;

use cluster::VERSION;
use cluster::key::Key;
use cluster::record::{Grace, Silent};

use crate::state::cache::Cache;
use crate::state::want::View;
use crate::txn::{Lease, Txn};

/// By how much later each host acts than the one before it: all see the same at once, and one is
/// enough.
const TURN: Duration = Duration::from_millis(150);
/// The last host's turn.
const LAST_TURN: Duration = Duration::from_secs(2);
/// Records that one transaction deletes.
const AT_ONCE: usize = 90;

/// Marks a host as silent, or deletes records of one that is gone.
pub(super) fn step(view: &View<'_>) -> Option<Txn> {
    let turn = turn(view);
    let is_our_turn = |host: &str| {
        let since = view.local.silent_since.get(host);
        since.is_some_and(|since| view.now.saturating_sub(*since) >= turn)
    };
    let hosts = view.cache.hosts().map(|(host, _)| host).filter(|host| *host != view.local.id);
    hosts.filter(|host| is_our_turn(host)).find_map(|host| {
        let alive = Key::Alive(host.to_owned());
        let silent = Key::Silent(host.to_owned());
        if view.cache.has(&alive) {
            return None;
        }
        if view.cache.has(&silent) {
            return gone(view.cache, host);
        }
        let lease = match view.local.reclaim_after_s {
            0 => Lease::None,
            seconds => Lease::New(seconds),
        };
        let mark = Silent { v: VERSION, since: view.local.utc.clone() };
        let txn = Txn::default().absent(alive).absent(silent.clone()).put(silent, &mark);
        Some(txn.put_leased(Key::Grace(host.to_owned()), &Grace { v: VERSION }, lease))
    })
}

/// How long this host lets others act first.
fn turn(view: &View<'_>) -> Duration {
    let before = view.cache.hosts().filter(|(host, _)| {
        *host < view.local.id.as_str() && view.cache.has(&Key::Alive((*host).to_owned()))
    });
    let before = u32::try_from(before.count()).unwrap_or(u32::MAX);
    TURN.saturating_mul(before).min(LAST_TURN)
}

/// The next transaction that deletes what belongs to a host that is gone: it is silent, and its
/// grace is over. Its own record and the mark of its silence go last, so that whoever is interrupted
/// is continued. `None`: it is not gone.
pub fn gone(cache: &Cache, host: &str) -> Option<Txn> {
    let (alive, grace) = (Key::Alive(host.to_owned()), Key::Grace(host.to_owned()));
    let silent = Key::Silent(host.to_owned());
    let mark = cache.get(&silent)?;
    if cache.has(&alive) || cache.has(&grace) {
        return None;
    }
    let txn = Txn::default().absent(alive).absent(grace).unchanged(silent.clone(), mark.modified);
    let keys = cache.belongings(host);
    let is_last = keys.len() <= AT_ONCE;
    let txn = keys.into_iter().take(AT_ONCE).fold(txn, |txn, key| txn.delete(key.clone()));
    Some(if is_last { txn.delete(Key::Host(host.to_owned())).delete(silent) } else { txn })
}
