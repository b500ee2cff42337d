//! Which networks, containers and own addresses of hosts are in force.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sys::Mac;

use super::{Item, Me, Remote, View};
use crate::block::{Space, is_network_or_broadcast};
use crate::decode::Record;
use crate::key::Key;
use crate::left_out::Fault;
use crate::mac;
use crate::record::Net;

/// Who has what in a network.
struct Claims<'a> {
    spaces: Vec<Space>,
    /// The owner of each block.
    blocks: BTreeMap<IpAddr, &'a str>,
    /// Who has each lent address.
    lent: BTreeMap<IpAddr, &'a str>,
    ips: BTreeMap<IpAddr, &'a Key>,
    macs: BTreeMap<Mac, &'a Key>,
}

/// Judges all but the hosts. `items` are in the order of their creation.
pub(super) fn judge<'a>(items: &[Item<'a>], me: Me<'_>, view: &mut View<'a>) {
    judge_nets(items, view);
    let mut networks: BTreeMap<&str, Claims<'a>> =
        view.nets.iter().map(|(name, net)| (*name, Claims::of(net))).collect();
    for item in items {
        let network = item.key.network().and_then(|network| networks.get_mut(network));
        match (item.key, item.record, network) {
            (Key::Block { first, .. }, Record::Block(block), Some(claims)) => {
                if claims.spaces.iter().any(|space| space.is_block(*first)) {
                    claims.blocks.insert(*first, &block.host);
                } else {
                    view.faults.insert(item.key, Fault::Key("no block of its network begins there"));
                }
            }
            (Key::Lent { address, .. }, Record::Lent(lent), Some(claims)) => {
                claims.lent.insert(*address, &lent.to);
            }
            _ => {}
        }
    }
    let mut found: Vec<(&'a Key, &'a str, Remote<'a>)> = Vec::new();
    for item in items {
        let Some((host, ips, text, names)) = parts(item) else { continue };
        let network = item.key.network().unwrap_or_default();
        let fault = match (networks.get_mut(network), mac::parse(text)) {
            (None, _) => Some(Fault::NoNetwork),
            (_, None) => Some(Fault::Member("mac", "is none")),
            _ if host != me.host && !view.hosts.contains_key(host) => Some(Fault::NoHost),
            (Some(claims), Some(mac)) => match claims.take(item.key, host, ips, mac) {
                Err(fault) => Some(fault),
                Ok(()) => {
                    if host != me.host {
                        found.push((item.key, network, Remote { host, ips, mac, names }));
                    }
                    None
                }
            },
        };
        view.faults.extend(fault.map(|fault| (item.key, fault)));
    }
    found.sort_by_key(|(key, ..)| *key);
    for (_, network, remote) in found {
        view.remotes.entry(network).or_default().push(remote);
    }
}

/// Host, addresses, MAC and names of a container or of a host's own addresses.
#[expect(clippy::type_complexity, reason = "taken apart at once")]
fn parts<'a>(item: &Item<'a>) -> Option<(&'a str, &'a [IpAddr], &'a str, Option<&'a [String]>)> {
    match (item.key, item.record) {
        (Key::Own { host, .. }, Record::Own(own)) => Some((host, &own.ips, &own.mac, None)),
        (Key::Endpoint(key), Record::Endpoint(endpoint)) => {
            Some((&key.host, &endpoint.ips, &endpoint.mac, Some(&endpoint.names)))
        }
        _ => None,
    }
}

fn judge_nets<'a>(items: &[Item<'a>], view: &mut View<'a>) {
    let mut vnis: BTreeMap<u32, (&'a Key, &'a str)> = BTreeMap::new();
    for item in items {
        if let (Key::Vni(vni), Record::Vni(record)) = (item.key, item.record) {
            vnis.insert(*vni, (item.key, &record.network));
        }
    }
    for item in items {
        let (Key::Net(name), Record::Net(net)) = (item.key, item.record) else { continue };
        if let Some(vni) = net.vni {
            let (key, owner) = *vnis.entry(vni).or_insert((item.key, name));
            if owner != name {
                view.faults.insert(item.key, Fault::VniTaken(vni, key.to_string()));
                continue;
            }
        }
        view.nets.insert(name, net);
    }
}

impl<'a> Claims<'a> {
    fn of(net: &Net) -> Self {
        Self {
            spaces: Space::of(net),
            blocks: BTreeMap::new(),
            lent: BTreeMap::new(),
            ips: BTreeMap::new(),
            macs: BTreeMap::new(),
        }
    }

    /// Takes addresses and MAC of a record, unless a part of them is not to be had.
    fn take(&mut self, key: &'a Key, host: &str, ips: &[IpAddr], mac: Mac) -> Result<(), Fault> {
        for ip in ips {
            self.check(host, *ip)?;
            if let Some(other) = self.ips.get(ip) {
                return Err(Fault::AddressTaken(*ip, other.to_string()));
            }
        }
        if let Some(other) = self.macs.get(&mac) {
            return Err(Fault::MacTaken(other.to_string()));
        }
        self.ips.extend(ips.iter().map(|ip| (*ip, key)));
        self.macs.insert(mac, key);
        Ok(())
    }

    /// Whether a host may have an address. One in a block of nobody may be anybody's: other IPAM
    /// plugins give such addresses.
    fn check(&self, host: &str, ip: IpAddr) -> Result<(), Fault> {
        let space = self.spaces.iter().find(|space| space.subnet.contains(ip)).ok_or(Fault::Outside(ip))?;
        if ip == space.gateway || is_network_or_broadcast(space.subnet, ip) {
            return Err(Fault::Reserved(ip));
        }
        let lent = self.lent.get(&ip);
        let holder = lent.or_else(|| self.blocks.get(&space.block_of(ip)?));
        match holder {
            Some(holder) if *holder != host => Err(Fault::OthersBlock(ip, (*holder).to_owned())),
            _ => Ok(()),
        }
    }
}
