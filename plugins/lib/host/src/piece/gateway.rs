//! The gateway addresses of a bridge: shared, and fought over by those who find others there.

use ipnetwork::IpNetwork;

use super::bridge::BRIDGE_LABEL;
use super::{Drift, Kernel, Part, Place, Undo};
use crate::netlink::{Address, Link, LinkChange, NewAddress};
use crate::{Error, Result};

/// The gateway addresses of one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateways {
    /// The link that carries them: the bridge, or the host's link in a VLAN of it.
    pub link: String,
    /// The addresses, with their subnets' prefix lengths.
    pub wanted: Vec<IpNetwork>,
    /// Addresses that the same configuration gives to other containers' gateways: these may be there.
    pub known: Vec<IpNetwork>,
    /// Whether an address in the way is removed, whoever uses it.
    pub force: bool,
    /// The attachment's own port, which does not count as a user of an address in the way.
    pub own_port: String,
}

impl Gateways {
    /// Whether `have` cannot stay beside `wanted`: two IPv4 addresses mean that the subnet was changed under running
    /// containers; in IPv6 only overlapping subnets do.
    fn in_the_way(&self, wanted: &IpNetwork, have: &IpNetwork) -> bool {
        if self.wanted.contains(have) || self.known.contains(have) {
            return false;
        }
        match (wanted, have) {
            (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
            (IpNetwork::V6(wanted), IpNetwork::V6(have)) => {
                wanted.contains(have.network()) || have.contains(wanted.network())
            }
            _ => false,
        }
    }

    /// Removes what is in the way, when that is asked for or harms nobody.
    fn make_way(&self, kernel: &Kernel, link: &Link, wanted: &IpNetwork, have: &Address) -> Result<()> {
        if !self.force {
            let ports: Vec<String> = kernel
                .host
                .links()?
                .into_iter()
                .filter(|port| port.master == Some(link.index) && port.name != self.own_port)
                .map(|port| port.name)
                .collect();
            // An address on a bridge that we made and nobody uses is left over from an earlier configuration.
            if link.alias.as_deref() != Some(BRIDGE_LABEL) || !ports.is_empty() {
                return Err(Error::GatewayConflict {
                    link: self.link.clone(),
                    wanted: *wanted,
                    have: have.net,
                    ports,
                });
            }
        }
        match kernel.host.delete_address(link.index, have.net) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

impl Part for Gateways {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let link = kernel.link(Place::Host, &self.link)?;
        let mut have = kernel.host.addresses(Some(link.index))?;
        let mut added = Vec::new();
        for wanted in &self.wanted {
            if have.iter().any(|address| address.net == *wanted) {
                continue;
            }
            for other in have.extract_if(.., |other| self.in_the_way(wanted, &other.net)) {
                self.make_way(kernel, &link, wanted, &other)?;
            }
            match kernel.host.add_address(&NewAddress { index: link.index, net: *wanted, nodad: true }) {
                Ok(()) => added.push(*wanted),
                Err(error) if error.is_exists() => {} // Another first ADD was quicker.
                Err(error) => {
                    undo.push(Undo::SharedAddresses(link.index, added));
                    return Err(error.within("failed to set bridge addr".into()));
                }
            }
        }
        if !added.is_empty() {
            undo.push(Undo::SharedAddresses(link.index, added));
            self.pin_mac(kernel)?;
        }
        Ok(())
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.host.link_by_name(&self.link)? else { return Ok(Vec::new()) };
        let have = kernel.host.addresses(Some(link.index))?;
        let missing = self.wanted.iter().filter(|wanted| have.iter().all(|address| address.net != **wanted));
        Ok(missing
            .map(|wanted| Drift::new(format!("gateway address of {}", self.link), wanted, "missing"))
            .collect())
    }
}

impl Gateways {
    /// A bridge whose address others have in their neighbour tables must not change its MAC address with its ports.
    /// One that we made is pinned from birth; any other by being given the address that it has. Read anew, because
    /// the attachment's own port may just have changed it.
    fn pin_mac(&self, kernel: &Kernel) -> Result<()> {
        let link = kernel.link(Place::Host, &self.link)?;
        let is_bridge = link.bridge.is_some() && link.alias.as_deref() != Some(BRIDGE_LABEL);
        match link.mac.filter(|mac| is_bridge && mac.0 != [0; 6]) {
            None => Ok(()),
            Some(mac) => {
                let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
                let pinned = kernel.host.set_link(link.index, &change);
                pinned.map_err(|error| {
                    error.within("failed to set bridge addr: could not set bridge's mac".into())
                })
            }
        }
    }
}
