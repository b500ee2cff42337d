//! The host's own addresses in a network, and the file that `cluster` gives addresses from.

use std::net::IpAddr;

use cluster::VERSION;
use cluster::block::Space;
use cluster::key::Key;
use cluster::local::Blocks;
use cluster::mac::of_address;
use cluster::record::Own;

use crate::state::want::View;
use crate::txn::Txn;

/// This host's blocks of a network, the oldest first.
pub(super) fn blocks(view: &View<'_>, network: &str) -> Vec<IpAddr> {
    let blocks = view.cache.blocks(network).filter(|(_, owner, _)| *owner == view.local.id);
    let mut blocks: Vec<_> = blocks.map(|(first, _, created)| (created, first)).collect();
    blocks.sort_unstable();
    blocks.into_iter().map(|(_, first)| first).collect()
}

/// The host's own addresses: one in the first block of each subnet that has one.
fn ips(view: &View<'_>, network: &str) -> Vec<IpAddr> {
    let Some(net) = view.cache.net(&Key::Net(network.to_owned())) else { return Vec::new() };
    let blocks = blocks(view, network);
    let recorded = view.cache.own(&key(view, network)).map(|own| own.ips.as_slice()).unwrap_or_default();
    let known = view.local.nets.get(network);
    let before = known.map(|net| net.blocks.own.as_slice()).unwrap_or_default();
    let is_taken = |ip: &IpAddr| {
        let lent = Key::Lent { network: network.to_owned(), address: *ip };
        view.cache.has(&lent) || known.is_some_and(|net| net.uses(*ip) || net.limits.excludes(*ip))
    };
    let of = |space: Space| {
        let is_ours = |ip: &&IpAddr| space.block_of(**ip).is_some_and(|first| blocks.contains(&first));
        let kept = recorded.iter().chain(before).find(is_ours).copied();
        let mut usable =
            blocks.iter().filter(|first| space.is_block(**first)).flat_map(|first| space.usable(*first));
        kept.or_else(|| usable.find(|ip| !is_taken(ip)))
    };
    Space::of(net).into_iter().filter_map(of).collect()
}

fn key(view: &View<'_>, network: &str) -> Key {
    Key::Own { network: network.to_owned(), host: view.local.id.clone() }
}

/// Publishes the host's own addresses.
pub(super) fn put(view: &View<'_>) -> Option<Txn> {
    view.local.nets.keys().find_map(|network| {
        let ips = ips(view, network);
        let own = Own { v: VERSION, mac: of_address(*ips.first()?).to_string(), ips };
        let key = key(view, network);
        if view.cache.own(&key) == Some(&own) {
            return None;
        }
        let txn = super::publish::as_member(view);
        Some(txn.put(key, &own))
    })
}

/// What `blocks.json` of a network has to say.
pub fn blocks_file(view: &View<'_>, network: &str) -> Blocks {
    let known = view.local.nets.get(network);
    let is_marked = |ip: &IpAddr| known.is_some_and(|net| net.marked.contains(ip));
    let mut blocks = blocks(view, network);
    let net = view.cache.net(&Key::Net(network.to_owned()));
    let spaces = net.map(Space::of).unwrap_or_default();
    blocks.retain(|first| spaces.iter().any(|space| space.is_block(*first)));
    let is_in = |ip: IpAddr| {
        let first = spaces.iter().find_map(|space| space.block_of(ip));
        first.is_some_and(|first| blocks.contains(&first))
    };
    let id = &view.local.id;
    let loans: Vec<_> = view.cache.loans(network).collect();
    let marked = known.iter().flat_map(|net| net.marked.iter().copied());
    let lent = loans.iter().filter(|(ip, lent, _)| lent.to != *id && is_in(*ip)).map(|(ip, ..)| *ip);
    let mut lent: Vec<IpAddr> = lent.chain(marked.filter(|ip| is_in(*ip))).collect();
    lent.sort_unstable();
    lent.dedup();
    let borrowed = loans.iter().filter(|(ip, lent, _)| lent.to == *id && !is_in(*ip)).map(|(ip, ..)| *ip);
    let borrowed = borrowed.filter(|ip| !is_marked(ip)).collect();
    let mut own = ips(view, network);
    // The bridge has it, also while its block is claimed again.
    let kept = known.iter().flat_map(|net| net.blocks.own.iter().filter(|ip| net.is_lost(**ip)));
    own.extend(kept.copied());
    own.sort_unstable();
    own.dedup();
    let given_back = |first: &IpAddr| known.is_some_and(|net| net.leaving.contains(first));
    let blocks = blocks.iter().copied().filter(|first| !given_back(first)).collect();
    Blocks { v: VERSION, blocks, lent, borrowed, own, closed: view.local.closed }
}
