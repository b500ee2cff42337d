//! Claiming blocks of addresses, and giving them back.

use std::net::IpAddr;

use cluster::VERSION;
use cluster::block::Space;
use cluster::key::Key;
use cluster::record::Block;

use super::Step;
use super::asks::{Holder, holder};
use super::own::blocks;
use super::publish::as_member;
use crate::state::local::NetLocal;
use crate::state::want::{Need, View};
use crate::txn::Txn;

/// Blocks that one transaction claims.
const AT_ONCE: usize = 10;
/// Records that one transaction deletes.
const AT_ONCE_GONE: usize = 90;

/// Claims the blocks that a network needs.
pub(super) fn claim(view: &View<'_>) -> Option<Txn> {
    view.local.nets.iter().find_map(|(network, local)| {
        let key = Key::Net(network.clone());
        let (net, item) = (view.cache.net(&key)?, view.cache.get(&key)?);
        let mut wanted = Vec::new();
        for (number, space) in Space::of(net).iter().enumerate() {
            wanted.extend(wanted_blocks(view, network, local, number, space));
        }
        wanted.sort_unstable();
        wanted.dedup();
        wanted.truncate(AT_ONCE);
        if wanted.is_empty() {
            return None;
        }
        let block = Block { v: VERSION, host: view.local.id.clone() };
        let key_of = |first: IpAddr| Key::Block { network: network.clone(), first };
        let txn = as_member(view).unchanged(key, item.modified);
        Some(wanted.into_iter().fold(txn, |txn, first| txn.absent(key_of(first)).put(key_of(first), &block)))
    })
}

/// The free blocks of a subnet that this host needs now.
fn wanted_blocks(
    view: &View<'_>,
    network: &str,
    local: &NetLocal,
    number: usize,
    space: &Space,
) -> Vec<IpAddr> {
    let free_block = |ip: &IpAddr| match holder(view, network, *ip) {
        Holder::Free(first) if space.is_block(first) => Some(first),
        _ => None,
    };
    // What it had before, and what its containers have.
    let had = local.lost.iter().chain(&local.leases);
    let mut wanted: Vec<IpAddr> = had.filter_map(free_block).collect();
    let needs: Vec<&Need> = view.needs.iter().filter(|need| need.network() == network).collect();
    wanted.extend(needs.iter().filter_map(|need| match need {
        Need::Address(_, ip) => free_block(ip),
        _ => None,
    }));
    let is_asked = needs.iter().any(|need| matches!(need, Need::Any(_, of, _) if *of == number));
    let own = blocks(view, network).into_iter().filter(|first| space.is_block(*first)).count();
    let is_first = own == 0 && (local.is_in_use() || !needs.is_empty());
    let is_low = own > 0 && local.is_in_use() && is_low(local, space, 0);
    if wanted.is_empty() && (is_asked || is_first || is_low) {
        let mut taken: Vec<IpAddr> = view.cache.blocks(network).map(|(first, ..)| first).collect();
        taken.extend(view.cache.carried_blocks(network));
        let useful = space.pick_useful(&taken, view.random, &local.limits);
        // The host's own address may be in any block.
        wanted.extend(useful.or_else(|| is_first.then(|| space.pick(&taken, view.random))?));
    }
    wanted
}

/// Whether less than a quarter of a block could be given without so many addresses.
fn is_low(local: &NetLocal, space: &Space, without: usize) -> bool {
    let blocks = local.blocks.blocks.iter().copied().filter(|first| space.is_block(*first));
    local.free(space).saturating_sub(without) < space.low_mark(blocks, &local.limits)
}

/// Gives back a block that was wholly free for long; of each subnet the host keeps one.
pub(super) fn give_back(view: &View<'_>) -> Option<Step> {
    view.local.nets.iter().find_map(|(network, local)| {
        let net = view.cache.net(&Key::Net(network.clone()))?;
        Space::of(net).iter().find_map(|space| {
            let own = blocks(view, network).into_iter().filter(|first| space.is_block(*first));
            // The first one has the host's own address.
            let first = own.skip(1).find(|first| {
                let since = local.free_since.get(first);
                since.is_some_and(|since| view.now.saturating_sub(*since) >= view.local.free_for)
                    && is_wholly_free(view, network, local, space, *first)
                    && !is_low(local, space, local.free_in(space, *first))
            })?;
            Some(Step::GiveBack { network: network.clone(), first })
        })
    })
}

/// Gives up a network without a record that nobody here uses: `overlay network rm` waits for it.
pub(super) fn abandon(view: &View<'_>) -> Option<Step> {
    let is_removed = |network: &str, local: &NetLocal| {
        !view.cache.has(&Key::Net(network.to_owned()))
            && !local.is_in_use()
            && !view.needs.iter().any(|need| need.network() == network)
            && !belongings_in(view, network).is_empty()
    };
    let (network, _) = view.local.nets.iter().find(|(network, local)| is_removed(network, local))?;
    Some(Step::Abandon { network: network.clone() })
}

/// What this host has of a network in etcd.
pub(crate) fn belongings_in<'a>(view: &View<'a>, network: &str) -> Vec<&'a Key> {
    let all = view.cache.belongings(&view.local.id);
    all.into_iter().filter(|key| key.network() == Some(network)).collect()
}

/// Deletes that, as long as the network has no record. It was found unused under the ledger's lock.
pub(crate) fn release_all(view: &View<'_>, network: &str) -> Option<Txn> {
    let keys = belongings_in(view, network);
    let txn = as_member(view).absent(Key::Net(network.to_owned()));
    let txn = keys.into_iter().take(AT_ONCE_GONE).fold(txn, |txn, key| txn.delete(key.clone()));
    (!txn.ops.is_empty()).then_some(txn)
}

/// Whether nobody has an address of a block: no container, no other host, not the host itself.
pub(crate) fn is_wholly_free(
    view: &View<'_>,
    network: &str,
    local: &NetLocal,
    space: &Space,
    first: IpAddr,
) -> bool {
    let is_in = |ip: IpAddr| space.block_of(ip) == Some(first);
    !local.leases.iter().any(|ip| is_in(*ip))
        && !local.attachments.values().flat_map(|held| &held.ips).any(|ip| is_in(*ip))
        && !local.blocks.own.iter().chain(&local.marked).any(|ip| is_in(*ip))
        && !view.cache.loans(network).any(|(ip, ..)| is_in(ip))
}

/// Deletes a block that was found wholly free under the ledger's lock.
pub(crate) fn release(view: &View<'_>, network: &str, first: IpAddr) -> Option<Txn> {
    let key = Key::Block { network: network.to_owned(), first };
    let item = view.cache.get(&key)?;
    Some(as_member(view).unchanged(key.clone(), item.modified).delete(key))
}
