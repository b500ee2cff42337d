//! What follows from changes: the files that plugins read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use cluster::block::Space;
use cluster::key::Key;

use super::Engine;
use crate::state::want::Need;
use crate::steps;

impl Engine {
    /// Brings the files of all networks up to what is known.
    pub fn settle(&mut self, now: Duration) {
        if !self.cache.is_whole() {
            return;
        }
        let wanted: BTreeSet<String> = self.with_view(now, |view| {
            let networks = view.needs.iter().map(Need::network);
            networks
                .filter(|network| view.cache.has(&Key::Net((*network).to_owned())))
                .map(str::to_owned)
                .collect()
        });
        for network in wanted {
            if !self.local.nets.contains_key(&network) {
                self.open_network(&network);
            }
        }
        for network in self.local.nets.keys().cloned().collect::<Vec<_>>() {
            self.settle_network(&network, now);
        }
    }

    fn settle_network(&mut self, network: &str, now: Duration) {
        let Some(record) = self.cache.net(&Key::Net(network.to_owned())).cloned() else {
            // Whether it is still used here decides what becomes of it.
            self.refresh(network);
            return self.forget(network, now);
        };
        let Some(net) = self.local.nets.get_mut(network) else { return };
        if net.copy.as_ref() != Some(&record) {
            match self.files.write_copy(network, &record) {
                Ok(()) => net.copy = Some(record.clone()),
                Err(error) => return self.trouble(network, &error),
            }
        }
        let spaces = Space::of(&record);
        let cache = &self.cache;
        net.lost.retain(|first| !cache.has(&Key::Block { network: network.to_owned(), first: *first }));
        let loans: BTreeSet<IpAddr> =
            cache.loans(network).filter(|(_, lent, _)| lent.to == self.local.id).map(|(ip, ..)| ip).collect();
        net.used_loans.retain(|ip| loans.contains(ip));
        net.loans_since.retain(|ip, _| loans.contains(ip));
        for ip in loans {
            net.loans_since.entry(ip).or_insert(now);
        }
        self.write_files(network, now);
        let free: Vec<IpAddr> = self.with_view(now, |view| {
            let Some(net) = view.local.nets.get(network) else { return Vec::new() };
            let blocks = net.blocks.blocks.iter().copied();
            let is_free = |first: &IpAddr| {
                let space = spaces.iter().find(|space| space.is_block(*first));
                space.is_some_and(|space| steps::is_wholly_free(view, network, net, space, *first))
            };
            blocks.filter(is_free).collect()
        });
        if let Some(net) = self.local.nets.get_mut(network) {
            net.free_since.retain(|first, _| free.contains(first));
            for first in free {
                net.free_since.entry(first).or_insert(now);
            }
        }
    }

    /// Writes `blocks.json`, if it says something else.
    pub(super) fn write_files(&mut self, network: &str, now: Duration) {
        let blocks = self.with_view(now, |view| steps::blocks_file(view, network));
        let Some(net) = self.local.nets.get_mut(network) else { return };
        if net.blocks == blocks {
            return;
        }
        match self.files.write_blocks(network, &blocks) {
            Ok(()) => {
                let before = |list: &[IpAddr], ip: &IpAddr| list.contains(ip);
                let is_new = blocks.blocks.iter().any(|first| !before(&net.blocks.blocks, first))
                    || blocks.borrowed.iter().any(|ip| !before(&net.blocks.borrowed, ip))
                    || net.blocks.lent.iter().any(|ip| !before(&blocks.lent, ip));
                net.grown += u64::from(is_new);
                net.blocks = blocks;
                self.troubles.remove("blocks");
            }
            Err(error) => self.trouble("blocks", &error),
        }
    }

    /// Writes into `blocks.json`, of which etcd is not asked, whether addresses are given.
    pub(crate) fn write_closed(&mut self, network: &str) {
        let closed = self.local.closed;
        let Some(net) = self.local.nets.get_mut(network) else { return };
        // A network of which there is no such file gives nothing anyway.
        if net.blocks.closed == closed || net.blocks.v == 0 {
            return;
        }
        let mut blocks = net.blocks.clone();
        blocks.closed = closed;
        match self.files.write_blocks(network, &blocks) {
            Ok(()) => net.blocks = blocks,
            Err(error) => self.trouble("blocks", &error),
        }
    }

    /// Removes the files of a network that is no more, unless somebody here still has it: then it is
    /// made again.
    fn forget(&mut self, network: &str, now: Duration) {
        let is_wanted = self.with_view(now, |view| view.needs.iter().any(|need| need.network() == network));
        let Some(net) = self.local.nets.get(network) else { return };
        if net.is_in_use()
            || !net.lost.is_empty()
            || is_wanted
            || !self.with_view(now, |view| steps::belongings_in(view, network).is_empty())
            || self.cache.has(&Key::Net(network.to_owned()))
        {
            return;
        }
        match self.files.remove_network(network) {
            Ok(()) => drop(self.local.nets.remove(network)),
            Err(error) => self.trouble(network, &error),
        }
    }
}
