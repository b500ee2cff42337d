//! Addresses of other hosts' blocks: asking for one, lending one, and returning it.

use std::net::IpAddr;
use std::time::Duration;

use cluster::VERSION;
use cluster::block::Space;
use cluster::check::SERVICES;
use cluster::decode::Record;
use cluster::key::Key;
use cluster::record::{Ask, Lent};

use super::Step;
use super::publish::as_member;
use crate::state::want::{Need, View};
use crate::txn::{Lease, Txn};

/// Seconds that a question stands.
const ASK_S: u32 = 10;
/// How long a loan may wait for the container that it was asked for.
const LOAN_UNUSED: Duration = Duration::from_secs(15);

/// Who gives an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This host.
    Ours,
    /// Whoever claims this block.
    Free(IpAddr),
    /// Another host: its id.
    Host(String),
    /// A service has it.
    Service(String),
    /// Nobody: it is no address of the network's blocks, or its block's record cannot be read.
    Nobody,
}

/// Who gives an address of a network.
pub fn holder(view: &View<'_>, network: &str, ip: IpAddr) -> Holder {
    let id = &view.local.id;
    if let Some(lent) = view.cache.lent(&Key::Lent { network: network.to_owned(), address: ip }) {
        return match lent {
            Lent { to, .. } if to == id => Holder::Ours,
            Lent { from, to, .. } if from == SERVICES => Holder::Service(to.clone()),
            Lent { to, .. } => Holder::Host(to.clone()),
        };
    }
    let space = view.cache.net(&Key::Net(network.to_owned())).and_then(|net| Space::with(net, ip));
    let Some(first) = space.and_then(|space| space.block_of(ip)) else { return Holder::Nobody };
    let key = Key::Block { network: network.to_owned(), first };
    match view.cache.block(&key) {
        Some(block) if block.host == *id => Holder::Ours,
        Some(block) => Holder::Host(block.host.clone()),
        None if view.cache.has(&key) => Holder::Nobody,
        None => match view.cache.carried_owner(&key) {
            Some(host) => Holder::Host(host.to_owned()),
            None => Holder::Free(first),
        },
    }
}

/// Asks another host for an address that a plugin needs, or withdraws a question that nobody here
/// waits for any more.
pub(super) fn ask(view: &View<'_>) -> Option<Txn> {
    let key = |network: &str, address| Key::Ask {
        network: network.to_owned(),
        address,
        host: view.local.id.clone(),
    };
    let mut wanted: Vec<(Key, Ask)> = Vec::new();
    for need in view.needs {
        let ask = |of, subnet| Ask { v: VERSION, of, subnet, refused: None };
        match need {
            Need::Address(network, ip) if matches!(holder(view, network, *ip), Holder::Host(_)) => {
                wanted.push((key(network, Some(*ip)), ask(None, 0)));
            }
            Need::Any(network, subnet, without) => {
                let owners = owners(view, network, *subnet);
                if let Some((host, _)) = owners.into_iter().find(|(host, _)| !without.contains(host)) {
                    wanted.push((key(network, None), ask(Some(host), *subnet)));
                }
            }
            _ => {}
        }
    }
    // A question that stands is not asked again, whatever its answer.
    let is_open = |key: &Key, ask: &Ask| {
        view.cache.ask(key).is_some_and(|have| (&have.of, have.subnet) == (&ask.of, ask.subnet))
    };
    if let Some((key, ask)) = wanted.iter().find(|(key, ask)| !is_open(key, ask)) {
        return Some(as_member(view).put_leased(key.clone(), ask, Lease::New(ASK_S)));
    }
    let own = view.cache.asks().map(|(key, _)| key).find(|key| {
        matches!(key, Key::Ask { host, .. } if *host == view.local.id)
            && !wanted.iter().any(|(wanted, _)| wanted == *key)
    })?;
    Some(as_member(view).delete(own.clone()))
}

/// The other hosts with blocks of a subnet that are not silent, and how many of their addresses are
/// free by what is published; those with most first.
pub(crate) fn owners(view: &View<'_>, network: &str, subnet: usize) -> Vec<(String, usize)> {
    let mut hosts = free_of(view, network, subnet);
    hosts.retain(|(host, _)| *host != view.local.id && view.cache.has(&Key::Alive(host.clone())));
    hosts.sort_by_key(|(_, free)| std::cmp::Reverse(*free));
    hosts
}

/// How many addresses each host has free in a subnet, by what is published.
pub fn free_of(view: &View<'_>, network: &str, subnet: usize) -> Vec<(String, usize)> {
    let Some(net) = view.cache.net(&Key::Net(network.to_owned())) else { return Vec::new() };
    let Some(space) = Space::of(net).get(subnet).copied() else { return Vec::new() };
    let mut hosts: Vec<(String, usize)> = Vec::new();
    for (first, owner, _) in view.cache.blocks(network).filter(|(first, ..)| space.is_block(*first)) {
        let usable = space.usable(first).count();
        match hosts.iter_mut().find(|(host, _)| host == owner) {
            Some((_, free)) => *free += usable,
            None => hosts.push((owner.to_owned(), usable)),
        }
    }
    for (host, free) in &mut hosts {
        let mine = |ip: &&IpAddr| {
            let first = space.block_of(**ip);
            let key = first.map(|first| Key::Block { network: network.to_owned(), first });
            key.and_then(|key| view.cache.block(&key)).is_some_and(|block| block.host == *host)
        };
        let used = view.cache.endpoints(network, host).filter_map(|(_, record)| record);
        let used = used.flat_map(|record| &record.ips).filter(mine).count();
        let own = Key::Own { network: network.to_owned(), host: host.clone() };
        let own = view.cache.own(&own).map_or(0, |own| own.ips.iter().filter(mine).count());
        let lent = view.cache.loans(network).filter(|(ip, lent, _)| lent.to != *host && mine(&ip)).count();
        *free = free.saturating_sub(used + own + lent);
    }
    hosts
}

/// A question of another host that this one answers.
pub(super) fn answer(view: &View<'_>) -> Option<Step> {
    view.cache.asks().find_map(|(key, item)| {
        let (Key::Ask { network, address, host }, Some(Record::Ask(ask))) = (key, &item.record) else {
            return None;
        };
        let is_open =
            ask.refused.is_none() && *host != view.local.id && view.local.nets.contains_key(network);
        let is_for_us = match address {
            Some(ip) => holder(view, network, *ip) == Holder::Ours,
            None => ask.of.as_deref() == Some(view.local.id.as_str()),
        };
        (is_open && is_for_us).then(|| Step::Answer { ask: key.clone(), revision: item.modified })
    })
}

/// Lends an address to whoever asked. It was found free, and is marked as lent.
pub(crate) fn lend(view: &View<'_>, ask: &Key, revision: i64, address: IpAddr) -> Option<Txn> {
    let Key::Ask { network, host, .. } = ask else { return None };
    let lent = Key::Lent { network: network.clone(), address };
    let space = view.cache.net(&Key::Net(network.clone())).and_then(|net| Space::with(net, address))?;
    let block = Key::Block { network: network.clone(), first: space.block_of(address)? };
    let txn = as_member(view).unchanged(ask.clone(), revision).delete(ask.clone());
    Some(match (view.cache.get(&lent), view.cache.lent(&lent)) {
        // Lent to us: it goes back to its owner, or on to somebody else.
        (Some(item), Some(have)) => {
            let txn = txn.unchanged(lent.clone(), item.modified);
            let is_back = view.cache.block(&block).is_some_and(|block| block.host == *host);
            match is_back {
                true => txn.delete(lent),
                false => txn.put(lent, &Lent { v: VERSION, from: have.from.clone(), to: host.clone() }),
            }
        }
        (None, _) => {
            let item = view.cache.get(&block)?;
            let from = view.local.id.clone();
            let txn = txn.unchanged(block, item.modified).absent(lent.clone());
            txn.put(lent, &Lent { v: VERSION, from, to: host.clone() })
        }
        (Some(_), None) => return None,
    })
}

/// Refuses a question: `why` is for the plugin that waits.
pub(crate) fn refuse(view: &View<'_>, ask: &Key, revision: i64, why: &str) -> Option<Txn> {
    let have = view.cache.ask(ask)?;
    let refused = Ask { refused: Some(why.to_owned()), ..have.clone() };
    Some(as_member(view).unchanged(ask.clone(), revision).put_leased(
        ask.clone(),
        &refused,
        Lease::New(ASK_S),
    ))
}

/// Returns a loan that nobody here needs any more.
pub(super) fn return_loan(view: &View<'_>) -> Option<Step> {
    view.local.nets.iter().find_map(|(network, local)| {
        let is_idle = |ip: &IpAddr| {
            let since = local.loans_since.get(ip).copied().unwrap_or(view.now);
            let is_old = local.used_loans.contains(ip) || view.now.saturating_sub(since) >= LOAN_UNUSED;
            let is_asked =
                view.needs.iter().any(|need| matches!(need, Need::Address(_, asked) if asked == ip));
            is_old && !is_asked && !local.uses(*ip)
        };
        let loans = view.cache.loans(network).filter(|(_, lent, _)| lent.to == view.local.id);
        let idle = loans.map(|(ip, ..)| ip).find(is_idle)?;
        Some(Step::Return { network: network.clone(), address: idle })
    })
}

/// Deletes a loan that was found unused under the ledger's lock.
pub(crate) fn give_up_loan(view: &View<'_>, network: &str, address: IpAddr) -> Option<Txn> {
    let key = Key::Lent { network: network.to_owned(), address };
    let item = view.cache.get(&key)?;
    Some(as_member(view).unchanged(key.clone(), item.modified).delete(key))
}
