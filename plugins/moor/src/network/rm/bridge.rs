//! The bridge of a removed network.

use std::path::Path;

use ipnetwork::IpNetwork;
use netlink::{Address, Link, Netlink};
use sys::file::{self, Hold};

use crate::failure::Failure;
use crate::networks::Network;
use crate::output::Note;
use crate::subnets::{self, Subnet};

use super::super::create::{bridges, first_address};

/// The alias of a bridge that `bridge` has made: only plugins have put addresses on it.
const LABEL: &str = "moor/bridge";
/// ADD holds it shared, so that no bridge goes that it is about to use.
const LOCK: &str = "/run/moor/bridges.lock";
/// RT_SCOPE_LINK (linux/rtnetlink.h): addresses that the kernel makes.
const LINK_SCOPE: u8 = 253;

/// Deletes the bridges of the network that a plugin made, without ports, and without an address but
/// its gateways; not one that another list names.
pub fn remove(network: &Network, others: &[&Network]) -> Result<Vec<Note>, Failure> {
    let mut notes = Vec::new();
    for name in bridges(network) {
        if others.iter().any(|other| bridges(other).any(|bridge| bridge == name)) {
            continue;
        }
        if let Some(why) = delete(name, network)? {
            notes.push(Note::new("bridge", format!("bridge {name} stays: {why}")));
        }
    }
    Ok(notes)
}

/// Deletes a bridge, and the link in the network's VLAN; returns why it stays, if it does.
fn delete(name: &str, network: &Network) -> Result<Option<String>, Failure> {
    let netlink = Netlink::open()?;
    // Without its directory no ADD of ours holds the lock.
    let lock = file::has_private_dir(Path::new(file::RUN_DIR), 1)?;
    let _lock = if lock { Some(file::lock_as(Path::new(LOCK), 0o600, Hold::Alone)?) } else { None };
    let view = View { links: netlink.links()?, addresses: netlink.addresses(None)? };
    let Some(link) = view.named(name) else { return Ok(None) };
    let vlan = view.vlan_link(link, network);
    if let Some(why) = view.keeps(link, vlan, network) {
        return Ok(Some(why));
    }
    for link in vlan.into_iter().chain([link]) {
        match netlink.delete_link(link.index) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(None)
}

/// The host's links and addresses.
struct View {
    links: Vec<Link>,
    addresses: Vec<Address>,
}

impl View {
    fn named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The host's end of a pair in the VLAN of the network, which has the gateways then.
    fn vlan_link(&self, bridge: &Link, network: &Network) -> Option<&Link> {
        let ids = network.list.plugins.iter().filter_map(|plugin| plugin.object.get("vlan")?.as_u64());
        let names: Vec<String> = ids.map(|id| format!("{}.{id}", bridge.name)).collect();
        self.links.iter().find(|link| names.contains(&link.name) && link.kind.as_deref() == Some("veth"))
    }

    /// Why the bridge stays, if it does.
    fn keeps(&self, bridge: &Link, vlan: Option<&Link>, network: &Network) -> Option<String> {
        if bridge.kind.as_deref() != Some("bridge") {
            return Some("it is no bridge".into());
        }
        let own: Vec<u32> = [Some(bridge), vlan].into_iter().flatten().map(|link| link.index).collect();
        let mut addresses = self
            .addresses
            .iter()
            .filter(|one| own.contains(&one.index) && one.scope != LINK_SCOPE)
            .peekable();
        // The reference does not mark its bridges: a gateway, or a name of the id, is the mark.
        let derived = bridge.name.strip_prefix("br-");
        let derived = derived.is_some_and(|part| part.len() >= 7 && network.id.starts_with(part));
        if bridge.alias.as_deref() != Some(LABEL) && !derived && addresses.peek().is_none() {
            return Some("nothing shows that a plugin has made it".into());
        }
        let subnets = subnets::of(&network.list);
        if let Some(address) = addresses.find(|address| !is_gateway(address.net, &subnets)) {
            return Some(format!("{} is not this network's", address.net));
        }
        let foreign = |port: &&Link| {
            port.master == Some(bridge.index) && vlan.is_none_or(|vlan| vlan.peer_index != Some(port.index))
        };
        if let Some(port) = self.links.iter().find(foreign) {
            return Some(format!("{} is its port", port.name));
        }
        let is_on_it = |other: &&Link| {
            let upper = other.kind.as_deref() != Some("veth") && other.peer_netns_id.is_none();
            upper && other.peer_index == Some(bridge.index)
        };
        self.links.iter().find(is_on_it).map(|above| format!("{} is on it", above.name))
    }
}

fn is_gateway(address: IpNetwork, subnets: &[Subnet]) -> bool {
    let gateway = |subnet: &Subnet| subnet.gateway.unwrap_or_else(|| first_address(subnet.subnet));
    subnets.iter().any(|subnet| address.ip() == gateway(subnet))
}
