//! The gateway addresses on the host's link: on a bridge they are shared, and possibly in conflict
//! with existing ones.

use ipnetwork::IpNetwork;
use netlink::{Address, Link, LinkChange, NewAddress, Route};
use nix::errno::Errno;
use sys::{Error, Result, sysctl};

use super::bridge::BRIDGE_LABEL;
use super::{Kernel, Part, Place, Undo};
use crate::{Conflict, Drift};

/// RFC 4291, section 2.5.6, in bits.
const LINK_LOCAL_PREFIX: u8 = 64;

/// The gateway addresses of one attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateways {
    /// The link that carries them: the bridge, the host's link in a VLAN of it, or the host's end of
    /// the container's veth pair.
    pub link: String,
    /// The addresses, with their subnets' prefix lengths.
    pub wanted: Vec<IpNetwork>,
    /// Gateway addresses of the same configuration for other containers: these may exist.
    pub known: Vec<IpNetwork>,
    /// Whether a conflicting address is removed, even if it is in use.
    pub force: bool,
    /// The attachment's own port, which does not count as a user of a conflicting address.
    pub own_port: String,
}

impl Gateways {
    /// Whether `have` conflicts with `wanted`: two IPv4 addresses mean that the subnet was changed
    /// under running containers; in IPv6 only overlapping subnets conflict.
    fn in_the_way(&self, wanted: &IpNetwork, have: &IpNetwork) -> bool {
        if self.wanted.contains(have) || self.known.contains(have) {
            return false;
        }
        match (wanted, have) {
            (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
            // Every link has link-local addresses, in the same subnet.
            (_, IpNetwork::V6(have)) if have.ip().is_unicast_link_local() => false,
            (IpNetwork::V6(wanted), IpNetwork::V6(have)) => {
                wanted.contains(have.network()) || have.contains(wanted.network())
            }
            _ => false,
        }
    }

    fn failed(&self, error: Error) -> Error {
        let step = match self.link == self.own_port {
            true => "failed to add IP addr to veth",
            false => "failed to set bridge addr",
        };
        error.within(step.into())
    }

    /// Removes a conflicting address, when that is configured or harmless.
    fn make_way(&self, kernel: &Kernel, link: &Link, wanted: &IpNetwork, have: &Address) -> Result<()> {
        if !self.force {
            let ports: Vec<String> = kernel
                .host
                .links()?
                .into_iter()
                .filter(|port| port.master == Some(link.index) && port.name != self.own_port)
                .map(|port| port.name)
                .collect();
            // One of ours, on a bridge of ours without users, is left over from an earlier
            // configuration. Any other was added on purpose.
            if link.alias.as_deref() != Some(BRIDGE_LABEL) || !have.marked || !ports.is_empty() {
                return Err(Conflict::Gateway {
                    link: self.link.clone(),
                    wanted: *wanted,
                    have: have.net,
                    ports,
                }
                .into());
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
        Self::keep_mac(kernel, &link)?;
        let mut have = kernel.host.addresses(Some(link.index))?;
        let mut added = Vec::new();
        for wanted in &self.wanted {
            if have.iter().any(|address| address.net == *wanted) {
                continue;
            }
            for other in have.extract_if(.., |other| self.in_the_way(wanted, &other.net)) {
                self.make_way(kernel, &link, wanted, &other)?;
            }
            match add(kernel, &link, *wanted) {
                Ok(()) => added.push(*wanted),
                Err(error) if error.is_exists() => {} // Another first ADD was quicker.
                Err(error) => {
                    undo.push(Undo::SharedAddresses(link.index, added));
                    return Err(self.failed(error));
                }
            }
        }
        if !added.is_empty() {
            undo.push(Undo::SharedAddresses(link.index, added));
        }
        self.add_link_local(kernel, &link, &have)
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

/// Whether we created the link: a bridge, or the host's link in a VLAN of one.
fn is_ours(link: &Link) -> bool {
    link.alias.as_deref() == Some(BRIDGE_LABEL) || link.kind.as_deref() == Some("veth")
}

/// Adds an address without duplicate detection. If IPv6 is off for the host's new links, it is
/// turned on for a link that we created, as for the container's.
fn add(kernel: &Kernel, link: &Link, net: IpNetwork) -> Result<()> {
    let new = NewAddress { index: link.index, net, nodad: true };
    match kernel.host.add_marked_address(&new) {
        Err(error) if net.is_ipv6() && error.errno() == Some(libc::EACCES) => {
            let key = format!("net/ipv6/conf/{}/disable_ipv6", link.name);
            if !is_ours(link) {
                return Err(error.within(format!("IPv6 is off on {}: set {key} to 0", link.name)));
            }
            sysctl::write(&key, "0")?;
            kernel.host.add_marked_address(&new)
        }
        added => added,
    }
}

impl Gateways {
    /// The host resolves its IPv6 neighbours from the link's link-local address. The kernel
    /// generates it when the link gets its carrier, and may run duplicate detection for seconds
    /// (`net.ipv6.conf.all.accept_dad`). So a link that we created gets it now; its MAC address was
    /// generated for this link, so the address is unique.
    fn add_link_local(&self, kernel: &Kernel, link: &Link, have: &[Address]) -> Result<()> {
        let needed = self.wanted.iter().any(IpNetwork::is_ipv6) && is_ours(link);
        let Some(mac) = link.mac.filter(|_| needed) else { return Ok(()) };
        if have.iter().any(|address| address.net.is_ipv6() && address.scope == Route::SCOPE_LINK) {
            return Ok(());
        }
        let net = IpNetwork::new(mac.link_local().into(), LINK_LOCAL_PREFIX)
            .map_err(|_| Error::new("make a link-local address of", mac.to_string(), Errno::EINVAL))?;
        match add(kernel, link, net) {
            Err(error) if !error.is_exists() => Err(self.failed(error)),
            _ => Ok(()),
        }
    }

    /// A bridge in other hosts' neighbour tables must keep its MAC address as ports come and go.
    /// One that we created has its own from the start. Any other follows its ports unless its owner
    /// set the address, and our port sorts after the others ([`netlink::Mac::of_port`]). So only a
    /// bridge without other ports has changed: its previous address is restored, or it keeps the
    /// current one if it had none.
    fn keep_mac(kernel: &Kernel, link: &Link) -> Result<()> {
        if link.bridge.is_none() || link.alias.as_deref() == Some(BRIDGE_LABEL) {
            return Ok(());
        }
        let Some(before) = kernel.found_mac.filter(|before| link.mac.is_some_and(|mac| mac != *before))
        else {
            return Ok(());
        };
        // Whoever has set the address since, as the reference's ADD does, is right. A bridge that
        // follows its ports has the address of one.
        let is_its_ports = |port: &Link| port.master == Some(link.index) && port.mac == link.mac;
        if !kernel.host.links()?.iter().any(is_its_ports) {
            return Ok(());
        }
        let mac = if before.is_zero() { link.mac } else { Some(before) };
        let change = LinkChange { mac, ..LinkChange::default() };
        let pinned = kernel.host.set_link(link.index, &change);
        pinned.map_err(|error| error.within("failed to set bridge addr: could not set bridge's mac".into()))
    }
}
