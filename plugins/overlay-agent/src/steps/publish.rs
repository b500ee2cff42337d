//! Publishing this host's attachments: the difference between their records and etcd's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cluster::VERSION;
use cluster::block::Space;
use cluster::decode::encode;
use cluster::key::{Endpoint, Key};
use cluster::local::Attachment;
use cluster::record::Alive;

use super::asks::{Holder, holder};
use crate::state::local::{NetLocal, published};
use crate::state::want::View;
use crate::txn::{Lease, Op, Txn};

/// A transaction that is done only while this host is a member: whoever takes a silent host's
/// records away is bound to the absence of the same key.
pub(super) fn as_member(view: &View<'_>) -> Txn {
    let alive = Alive { v: VERSION, boot: view.local.boot.clone() };
    Txn::default().value(Key::Alive(view.local.id.clone()), &alive)
}

/// Writes and deletes what differs, as much as one transaction takes. Deletions come first: they
/// succeed even when etcd has no space.
pub(super) fn publish(view: &View<'_>) -> Option<Txn> {
    let mut txn = as_member(view);
    for network in networks(view) {
        let blocks: BTreeMap<IpAddr, i64> =
            view.cache.blocks(network).map(|(first, _, created)| (first, created)).collect();
        for (op, ips) in differences(view, network) {
            let bound = bindings(view, network, &ips, &blocks);
            if !txn.has_room(1 + bound.len()) {
                return Some(txn);
            }
            txn.ops.push(op);
            for (key, revision) in bound {
                if !txn.compares.iter().any(|compare| *compare.key() == key) {
                    txn = txn.unchanged(key, revision);
                }
            }
        }
    }
    txn.ops.sort_by_key(|op| matches!(op, Op::Put(..)));
    (!txn.ops.is_empty()).then_some(txn)
}

/// The blocks and loans that addresses depend on.
fn bindings(
    view: &View<'_>,
    network: &str,
    ips: &[IpAddr],
    blocks: &BTreeMap<IpAddr, i64>,
) -> Vec<(Key, i64)> {
    let Some(net) = view.cache.net(&Key::Net(network.to_owned())) else { return Vec::new() };
    let of = |ip: &IpAddr| {
        let lent = Key::Lent { network: network.to_owned(), address: *ip };
        if let Some(item) = view.cache.get(&lent) {
            return Some((lent, item.modified));
        }
        let first = Space::with(net, *ip)?.block_of(*ip)?;
        let block = Key::Block { network: network.to_owned(), first };
        let is_ours = view.cache.block(&block).is_some_and(|block| block.host == view.local.id);
        blocks
            .get(&first)
            .filter(|_| is_ours)
            .and_then(|_| Some((block.clone(), view.cache.get(&block)?.modified)))
    };
    ips.iter().filter_map(of).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The networks that this host may have records of.
fn networks<'a>(view: &View<'a>) -> BTreeSet<&'a str> {
    let known = view.local.nets.keys().map(String::as_str);
    known.chain(view.cache.nets().map(|(network, _)| network)).collect()
}

/// The operations that make etcd's records of a network those of this host, with the addresses of
/// those that are written.
fn differences(view: &View<'_>, network: &str) -> Vec<(Op, Vec<IpAddr>)> {
    let none = NetLocal::default();
    let NetLocal { attachments: here, unreadable, .. } = view.local.nets.get(network).unwrap_or(&none);
    let mut ops = Vec::new();
    let mut there = BTreeMap::new();
    for (endpoint, record) in view.cache.endpoints(network, &view.local.id) {
        let attachment = endpoint.attachment();
        if unreadable.contains(&attachment) {
            continue;
        }
        if here.get(&attachment).is_none_or(|held| given_up(view, network, held).is_some()) {
            ops.push((Op::Delete(Key::Endpoint(endpoint.clone())), Vec::new()));
        }
        there.insert(attachment, record);
    }
    for (attachment, held) in here {
        let record = published(held);
        if there.get(attachment).is_some_and(|there| *there == Some(&record))
            || given_up(view, network, held).is_some()
        {
            continue;
        }
        let Some((container, ifname)) = Endpoint::split(attachment) else { continue };
        let host = view.local.id.clone();
        let key = Key::Endpoint(Endpoint { network: network.to_owned(), host, container, ifname });
        ops.push((Op::Put(key, encode(&record), Lease::None), record.ips));
    }
    ops
}

/// An address of an attachment that another host has now, and that host: it came back too late. One
/// that `cluster` did not give is the configuration's affair.
pub fn given_up(view: &View<'_>, network: &str, attachment: &Attachment) -> Option<(IpAddr, String)> {
    let leases = &view.local.nets.get(network)?.leases;
    attachment.ips.iter().filter(|ip| leases.contains(ip)).find_map(|ip| match holder(view, network, *ip) {
        Holder::Host(host) => Some((*ip, host)),
        Holder::Service(service) => Some((*ip, format!("service {service}"))),
        _ => None,
    })
}

/// How many records of a network are not in etcd as they should be.
pub fn waiting(view: &View<'_>, network: &str) -> usize {
    differences(view, network).len()
}

/// Whether etcd has all records of a network.
pub fn is_published(view: &View<'_>, network: &str) -> bool {
    view.cache.is_whole() && differences(view, network).is_empty()
}

/// Expected and actual, if etcd's record of an attachment is not that of its file.
pub fn difference_of(view: &View<'_>, network: &str, attachment: &str) -> Option<String> {
    let held = view.local.nets.get(network)?.attachments.get(attachment)?;
    let expected = published(held);
    let mut there = view.cache.endpoints(network, &view.local.id);
    let actual =
        there.find(|(endpoint, _)| endpoint.attachment() == attachment).and_then(|(_, record)| record);
    if actual == Some(&expected) {
        return None;
    }
    let actual =
        actual.map_or("nothing".to_owned(), |record| String::from_utf8_lossy(&encode(record)).into_owned());
    let expected = String::from_utf8_lossy(&encode(&expected)).into_owned();
    Some(format!("etcd's record of {attachment}: expected {expected}, found {actual}"))
}
