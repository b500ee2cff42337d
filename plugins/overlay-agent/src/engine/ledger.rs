//! What is done under the ledger's lock, so that no plugin gives an address meanwhile.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use cluster::block::Space;
use cluster::decode::Record;
use cluster::key::Key;

use super::Engine;
use crate::steps::{self, Step};
use crate::txn::Txn;

impl Engine {
    /// Prepares a step that depends on what is free: reads the ledger under its lock and marks in
    /// `blocks.json` what is no longer given here. `None`: the lock is held, or there is nothing to do.
    pub(super) fn under_ledger_lock(&mut self, step: &Step, now: Duration) -> Option<Txn> {
        let network = match step {
            Step::Answer { ask: Key::Ask { network, .. }, .. }
            | Step::GiveBack { network, .. }
            | Step::Abandon { network }
            | Step::Return { network, .. } => network.clone(),
            _ => return None,
        };
        let _lock = match self.files.lock_ledger(&network) {
            Ok(lock) => lock,
            Err(error) => {
                self.trouble("ledger", &error);
                return None;
            }
        };
        self.troubles.remove("ledger");
        self.refresh(&network);
        let txn = match step {
            Step::Answer { ask, revision } => self.answer_ask(ask, *revision, now),
            Step::GiveBack { first, .. } => {
                let space = self.space_of(&network, *first)?;
                let txn = self.with_view(now, |view| {
                    let local = view.local.nets.get(&network)?;
                    steps::is_wholly_free(view, &network, local, &space, *first)
                        .then(|| steps::release(view, &network, *first))?
                });
                if txn.is_some() {
                    self.local.nets.get_mut(&network)?.leaving.insert(*first);
                }
                txn
            }
            // Without a record of the network, `blocks.json` has none of its blocks from here on.
            Step::Abandon { .. } if self.local.nets.get(&network)?.is_in_use() => None,
            Step::Abandon { .. } => self.with_view(now, |view| steps::release_all(view, &network)),
            Step::Return { address, .. } => {
                if self.local.nets.get(&network)?.uses(*address) {
                    return None;
                }
                self.local.nets.get_mut(&network)?.marked.insert(*address);
                self.with_view(now, |view| steps::give_up_loan(view, &network, *address))
            }
            Step::Txn(_) => None,
        };
        self.write_files(&network, now);
        txn
    }

    fn space_of(&self, network: &str, ip: IpAddr) -> Option<Space> {
        self.cache.net(&Key::Net(network.to_owned())).and_then(|net| Space::with(net, ip))
    }

    /// Lends what was asked for, or says why not.
    fn answer_ask(&mut self, ask: &Key, revision: i64, now: Duration) -> Option<Txn> {
        let Key::Ask { network, address, .. } = ask else { return None };
        let chosen = match address {
            Some(ip) => Ok(*ip),
            None => self.any_free(network, ask),
        };
        let chosen = chosen.and_then(|ip| {
            let net = self.local.nets.get(network).ok_or("it has left the network")?;
            if net.blocks.own.contains(&ip) {
                return Err("it is the host's own address");
            }
            Ok(ip)
        });
        let refused = match chosen {
            Err(why) => Some(why.to_owned()),
            Ok(ip) => self.user_of(network, ip),
        };
        if let Some(why) = refused {
            let why = format!("host {} ({}): {why}", self.local.host.name, self.local.id);
            let why: String = why.chars().take(200).collect();
            return self.with_view(now, |view| steps::refuse(view, ask, revision, &why));
        }
        let ip = chosen.ok()?;
        let txn = self.with_view(now, |view| steps::lend(view, ask, revision, ip));
        if txn.is_some() {
            self.local.nets.get_mut(network)?.marked.insert(ip);
        }
        txn
    }

    /// Who has an address here.
    fn user_of(&self, network: &str, ip: IpAddr) -> Option<String> {
        let net = self.local.nets.get(network)?;
        if !net.uses(ip) {
            return None;
        }
        let attached =
            net.attachments.iter().find(|(_, held)| held.ips.contains(&ip)).map(|(name, _)| name.clone());
        let holder = attached.or_else(|| self.files.holder(network, ip)).unwrap_or_default();
        Some(format!("container {holder} has {ip}"))
    }

    /// A free address of this host's blocks, in the subnet that is asked for.
    fn any_free(&self, network: &str, ask: &Key) -> Result<IpAddr, &'static str> {
        let Some(Record::Ask(asked)) = self.cache.get(ask).and_then(|item| item.record.as_ref()) else {
            return Err("the question is gone");
        };
        let net = self.local.nets.get(network).ok_or("it has left the network")?;
        let record = self.cache.net(&Key::Net(network.to_owned())).ok_or("the network has no record")?;
        let spaces = Space::of(record);
        let space = spaces.get(asked.subnet).ok_or("the network has no such subnet")?;
        let lent: BTreeSet<IpAddr> = self.cache.loans(network).map(|(ip, ..)| ip).collect();
        let is_free = |ip: &IpAddr| {
            !net.uses(*ip)
                && !net.blocks.own.contains(ip)
                && !lent.contains(ip)
                && !net.marked.contains(ip)
                && net.limits.gives(*ip)
        };
        // From the emptiest block, so that none is left without addresses sooner than it must be.
        let mut blocks: Vec<IpAddr> =
            net.blocks.blocks.iter().filter(|first| space.is_block(**first)).copied().collect();
        blocks.sort_by_key(|first| std::cmp::Reverse(net.free_in(space, *first)));
        // Its last one: the next ADD here takes the first.
        let free = blocks.iter().flat_map(|first| space.usable(*first).filter(is_free).last()).next();
        free.ok_or("it has no free address")
    }
}
