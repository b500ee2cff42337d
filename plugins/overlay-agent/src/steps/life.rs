//! Joining the cluster, and coming back to it.

use cluster::VERSION;
use cluster::control::PROTOCOL;
use cluster::key::Key;
use cluster::record::{Alive, Meta};

use crate::state::want::View;
use crate::txn::{Lease, Txn};

/// Records that one transaction deletes.
const LEAVE_AT_ONCE: usize = 90;

/// What this host is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not joined yet.
    Outside,
    /// It serves.
    Member,
    /// Another boot or namespace has this identity: what it calls itself.
    Doubled(String),
    /// The cluster has another port of VXLAN: the cluster's.
    OtherPort(u16, u16),
    /// The cluster speaks a newer protocol.
    Newer(u32),
}

/// What this host is in the cluster.
pub fn standing(view: &View<'_>) -> Standing {
    let (cache, local) = (view.cache, view.local);
    let Some(meta) = cache.meta(&Key::Meta) else { return Standing::Outside };
    if (meta.port, meta.encrypted_port) != (local.port, local.encrypted_port) {
        return Standing::OtherPort(meta.port, meta.encrypted_port);
    }
    if meta.protocol > PROTOCOL {
        return Standing::Newer(meta.protocol);
    }
    match cache.alive(&Key::Alive(local.id.clone())) {
        Some(alive) if alive.boot != local.boot => Standing::Doubled(alive.boot.clone()),
        Some(_) => Standing::Member,
        None => Standing::Outside,
    }
}

/// Writes what all hosts agree on, if nobody has.
pub(super) fn meta(view: &View<'_>) -> Option<Txn> {
    if view.cache.has(&Key::Meta) {
        return None;
    }
    let meta = Meta {
        v: VERSION,
        cluster: format!("{:016x}", view.random),
        protocol: PROTOCOL,
        port: view.local.port,
        encrypted_port: view.local.encrypted_port,
    };
    Some(Txn::default().absent(Key::Meta).put(Key::Meta, &meta))
}

/// Writes the host's record and its sign of life, and takes away the marks of its silence.
pub(super) fn join(view: &View<'_>) -> Option<Txn> {
    let (cache, local) = (view.cache, view.local);
    let lease = local.lease?;
    if !matches!(standing(view), Standing::Outside | Standing::Member) {
        return None;
    }
    let key = |make: fn(String) -> Key| make(local.id.clone());
    let alive = Alive { v: VERSION, boot: local.boot.clone() };
    let mut txn = match cache.has(&key(Key::Alive)) {
        true => Txn::default().value(key(Key::Alive), &alive),
        false => Txn::default().absent(key(Key::Alive)),
    };
    if !cache.has(&key(Key::Alive)) || local.alive_lease != Some(lease) {
        txn = txn.put_leased(key(Key::Alive), &alive, Lease::Host);
    }
    if cache.host(&key(Key::Host)) != Some(&local.host) {
        txn = txn.put(key(Key::Host), &local.host);
    }
    for mark in [key(Key::Silent), key(Key::Grace)] {
        if cache.has(&mark) {
            txn = txn.delete(mark);
        }
    }
    (!txn.ops.is_empty()).then_some(txn)
}

/// Takes what belongs to this host out of etcd, some at a time. The host's own record and its sign of
/// life go last.
pub(super) fn leave(view: &View<'_>) -> Option<Txn> {
    let id = &view.local.id;
    if standing(view) != Standing::Member {
        return None;
    }
    let keys = view.cache.belongings(id);
    let is_last = keys.len() <= LEAVE_AT_ONCE;
    let txn = super::publish::as_member(view);
    let txn = keys.into_iter().take(LEAVE_AT_ONCE).fold(txn, |txn, key| txn.delete(key.clone()));
    Some(if is_last { txn.delete(Key::Host(id.clone())).delete(Key::Alive(id.clone())) } else { txn })
}
