//! The host's own side: its addresses and link, its entries in the kernel, and leaving.

use std::collections::BTreeMap;
use std::time::Duration;

use std::net::IpAddr;

use cluster::key::Key;
use cluster::mac;
use cluster::record::Net;
use cluster::wanted::{Entries, Item, Me, View};
use netlink::Netlink;
use sys::IpFamily;

use super::Engine;
use crate::etcd::Client;
use crate::kernel::{self, OverlayLinks, Programmer};
use crate::log::log;
use crate::names::Names;
use crate::state::local::NetLocal;

impl Engine {
    /// Finds the MTU of the link with this host's first address.
    pub fn find_mtu(&mut self) {
        let mut find = || -> sys::Result<Option<u32>> {
            let Some(ip) = self.local.host.addresses.first() else { return Ok(None) };
            let netlink = Netlink::open()?;
            let addresses = netlink.addresses(None)?;
            let Some(address) = addresses.iter().find(|address| address.net.ip() == *ip) else {
                return Ok(None);
            };
            self.underlay = Some(address.index);
            Ok(netlink.link_by_index(address.index)?.map(|link| link.mtu))
        };
        match find() {
            Ok(Some(mtu)) => {
                self.local.host.mtu = mtu.clamp(576, 65_536);
                self.troubles.remove("underlay");
            }
            Ok(None) => {
                let ip = self.local.host.addresses.first();
                let why =
                    format!("{ip:?} is no address of this host: no VXLAN packet leaves; see \"hostAddress\"");
                self.troubles.insert("underlay".to_owned(), why);
            }
            Err(error) => self.trouble("underlay", &error),
        }
    }

    /// Looks again at the source of VXLAN packets, after addresses of this host have changed.
    pub fn find_addresses(&mut self) {
        if self.settings.host_addresses.is_empty()
            && let Some(source) = self.first_member.as_deref().and_then(source_to)
            && self.local.host.addresses != [source]
        {
            self.local.host.addresses = vec![source];
            self.changed = true;
        }
        self.find_mtu();
    }

    /// Whether the kernel and names are to be brought up to what is known.
    pub fn has_changed(&mut self, now: Duration) -> bool {
        let is_due = self.changed || self.changed_at.is_some_and(|at| now >= at);
        if is_due {
            (self.changed, self.changed_at) = (false, None);
        }
        is_due && self.cache.is_whole()
    }

    /// Programs what other hosts' containers need here, and writes their names.
    pub fn program(&mut self, kernel: &mut Programmer, names: &mut Names, now: Duration) {
        // Whoever has another's identity touches nothing.
        if self.with_view(now, |view| self.why_not_member(view)).is_some() {
            return;
        }
        let Some(source) = self.local.host.addresses.first().copied() else { return };
        let addresses = &self.local.host.addresses;
        let me = Me { host: &self.local.id, addresses, underlay: IpFamily::of(source) };
        let items = self.cache.believed().filter_map(|(key, item)| {
            Some(Item { key, record: item.record.as_ref()?, created: item.created })
        });
        let view = View::of(items, me);
        kernel.follow_underlay(self.underlay);
        let mut all_names = BTreeMap::new();
        let mut programmed = Vec::new();
        for (network, net) in &self.local.nets {
            let record = self.cache.net(&Key::Net(network.clone())).or(net.copy.as_ref());
            let Some(record) = record.filter(|_| !net.attachments.is_empty()) else { continue };
            all_names.insert(network.clone(), view.names(network));
            let Some(links) = links(network, record, net, source, self.local.port) else { continue };
            let entries = view.entries(network);
            let Entries { forwarding, flood, neighbours } = entries;
            programmed.push(network.clone());
            match kernel.set(network, links, kernel::Entries { forwarding, flood, neighbours }) {
                Ok(()) => drop(self.refused.remove(network)),
                Err(error) => {
                    log(&format_args!("{error:#}"));
                    self.refused.insert(network.clone(), format!("{error:#}"));
                }
            }
        }
        // Our own address too: the guard is for packets from anywhere.
        let members = view.members().into_iter().chain(addresses.iter().copied()).collect();
        let members = if programmed.is_empty() { Vec::new() } else { members };
        match kernel.set_members(members) {
            Ok(()) => drop(self.troubles.remove("guard")),
            Err(error) => drop(self.troubles.insert("guard".to_owned(), format!("{error:#}"))),
        }
        let gone: Vec<String> = kernel
            .networks()
            .filter(|name| !programmed.iter().any(|here| here == name))
            .map(str::to_owned)
            .collect();
        for network in gone {
            kernel.forget(&network);
            self.refused.remove(&network);
        }
        self.left_out = view.left_out().map(|left_out| left_out.to_string()).collect();
        let failed = names.set(&all_names);
        self.troubles.remove("names");
        if let Some((network, why)) = failed.into_iter().next() {
            self.troubles.insert("names".to_owned(), format!("names of network {network}: {why}"));
        }
    }

    /// Whether the host may leave the cluster.
    ///
    /// # Errors
    /// It has attachments: how many.
    pub fn may_leave(&mut self, force: bool) -> Result<(), String> {
        // An IPAM plugin frees an address after the agent was told of its container's end.
        for network in self.local.nets.keys().cloned().collect::<Vec<_>>() {
            self.refresh(&network);
        }
        let count: usize = self.local.nets.values().map(|net| net.attachments.len()).sum();
        if count > 0 && !force {
            return Err(format!(
                "{count} containers of this host are on networks over hosts; detach them, or use --force"
            ));
        }
        // Containers of other plugins with addresses of the cluster have no record.
        let used = self.local.nets.iter().find(|(_, net)| !net.leases.is_empty());
        if let (Some((network, net)), false) = (used, force) {
            return Err(format!(
                "{} addresses of network {network} are in use on this host; detach their containers, or use --force",
                net.leases.len()
            ));
        }
        Ok(())
    }

    /// From here on the host takes its records out of etcd.
    pub fn begin_to_leave(&mut self) {
        self.local.leaving = true;
        self.pending.clear();
    }

    /// Whether nothing of the host is in etcd any more.
    pub fn has_left(&self) -> bool {
        self.cache.is_whole()
            && !self.cache.has(&Key::Host(self.local.id.clone()))
            && !self.cache.has(&Key::Alive(self.local.id.clone()))
            && self.cache.belongings(&self.local.id).is_empty()
    }

    /// Removes the host's files.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn remove_files(&mut self) -> sys::Result<()> {
        for network in self.local.nets.keys().cloned().collect::<Vec<_>>() {
            self.files.remove_network(&network)?;
        }
        host::piece::forget_members()?;
        self.files.remove_lease()?;
        self.files.remove_identity()
    }
}

/// The source of packets to a member, if it can be that of VXLAN packets.
fn source_to(member: &str) -> Option<IpAddr> {
    Client::source_towards(member).filter(|source| !source.is_loopback() && !source.is_unspecified())
}

/// The links of a network on this host; none of one that has addresses alone.
fn links(network: &str, net: &Net, local: &NetLocal, source: IpAddr, port: u16) -> Option<OverlayLinks> {
    Some(OverlayLinks {
        network: network.to_owned(),
        vni: net.vni?,
        local: source,
        port,
        mtu: net.mtu?,
        bridge_mac: mac::of_address(*local.blocks.own.first()?),
        ipv6: net.subnets.iter().any(ipnetwork::IpNetwork::is_ipv6),
    })
}
