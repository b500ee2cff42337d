//! The host's own link next to the containers' on their parent: macvlan and ipvlan links do not
//! reach their parent, but they reach each other.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink::{Link, LinkChange, Mac, Macvlan, NeighbourState, Netlink, NewAddress, Route, Stacked};
use sys::{Error, Result};

use super::shared::{self, GROUP, is_ours};
use super::{ChildKind, Kernel, Part, Place, Undo, host_routes, sysctl};
use crate::Drift;
use crate::owner::part;

/// The host's link next to one network's containers, created with the first attachment and deleted
/// with the last one, and the host's routes to one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shim {
    /// Its name: [`super::shared_name`] of network and parent.
    pub name: String,
    /// The network's name.
    pub network: String,
    /// Name of the parent, a link of the host.
    pub parent: String,
    /// Its kind.
    pub kind: ChildKind,
    /// A macvlan's Ethernet address.
    pub mac: Option<Mac>,
    /// Its link-local address, through which the containers reach the host's IPv6 addresses; `None`
    /// if not needed.
    pub link_local: Option<Ipv6Addr>,
    /// Addresses of the host that are only on this link.
    pub addresses: Vec<IpAddr>,
    /// The routes to the attachment.
    pub routes: Vec<HostRoute>,
    /// The containers' Ethernet address, if the host would not receive their answers to ARP
    /// requests: their packets to an IPv4 address of the parent go to the parent.
    pub neighbour: Option<Mac>,
    /// [`crate::Owner::tag`] of the attachment: the metric that identifies its routes.
    pub tag: u32,
}

/// A route of the host to a container's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRoute {
    /// The container's address.
    pub to: IpAddr,
    /// The host's address that the container can answer to.
    pub source: IpAddr,
}

/// Prefix of the aliases of shims.
pub(super) const ALIAS: &str = "moor:shim:";

/// The letter in the names of shims ([`super::shared_name`]).
pub(super) const LETTER: char = 'h';

/// The alias of a network's shims.
pub(super) fn alias(network: &str) -> String {
    format!("{ALIAS}{}", part(network))
}

/// Whether a link of ours is a shim rather than a parent.
pub(super) fn is_one(link: &Link) -> bool {
    matches!(link.kind.as_deref(), Some("macvlan" | "ipvlan"))
}

/// Deletes the routes with tags that are gone, and the shim if it has none left.
pub(super) fn sweep(host: &Netlink, shim: &Link, is_gone: impl Fn(u32) -> bool) -> Result<()> {
    let mut left = false;
    for route in host_routes::list(host, shim.index)? {
        if !is_gone(route.priority.unwrap_or(0)) {
            left = true;
            continue;
        }
        // First what the route leads to.
        let _ = host.delete_neighbour(shim.index, route.dst.ip());
        match host.delete_route(&route) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    if left {
        return Ok(());
    }
    shared::delete_unless(shared::others_use(host, shim)?, host, shim)
}

impl Shim {
    fn ensure(&self, kernel: &Kernel) -> Result<Link> {
        let host = &kernel.host;
        let link = match host.link_by_name(&self.name)? {
            Some(link) => link,
            None => {
                self.create(kernel)?;
                kernel.link(Place::Host, &self.name)?
            }
        };
        if !is_ours(&link) || link.kind.as_deref() != Some(self.kind.driver()) {
            let source = io::Error::from_raw_os_error(libc::EEXIST);
            let message = Some(format!("it is no {} link of ours", self.kind.driver()));
            return Err(Error::Kernel { op: "use", object: self.name.clone(), message, source });
        }
        // Also for a link of another ADD, which may have been killed in the middle.
        if !link.up() {
            self.prepare()?;
        }
        let have = host.addresses(Some(link.index))?;
        for net in self.nets().filter(|net| have.iter().all(|address| address.net != *net)) {
            if self.addresses.contains(&net.ip()) {
                self.report_taken(host, &link, &net)?;
            }
            host.add_address(&NewAddress { index: link.index, net, nodad: true })?;
        }
        if !link.up() {
            let alias = alias(&self.network);
            let change = LinkChange { up: Some(true), alias: Some(&alias), ..LinkChange::default() };
            host.set_link(link.index, &change)?;
        }
        Ok(link)
    }

    fn create(&self, kernel: &Kernel) -> Result<()> {
        let parent = kernel.link(Place::Host, &self.parent)?.index;
        let link = Stacked {
            name: &self.name,
            parent,
            parent_netns_id: None,
            mac: self.mac,
            mtu: None,
            index: 0,
            group: GROUP,
        };
        match &self.kind {
            ChildKind::Macvlan { mode, .. } => {
                kernel.host.create_macvlan(&link, &Macvlan { mode: *mode, bc_queue_len: None, sources: &[] })
            }
            ChildKind::Ipvlan(ipvlan) => kernel.host.create_ipvlan(&link, *ipvlan),
            ChildKind::Vlan(vlan) => kernel.host.create_vlan(&link, vlan),
        }
    }

    /// Sets the parameters of a link that is not up yet.
    fn prepare(&self) -> Result<()> {
        for (key, value) in [
            // It answers for the host's addresses, but only to hosts that this host would answer
            // through it: the containers. For others on the wire the host stays where it was.
            ("ipv4/conf/{}/arp_filter", "1"),
            ("ipv6/conf/{}/disable_ipv6", "0"),
            // Only our addresses (IN6_ADDR_GEN_MODE_NONE), which are unique.
            ("ipv6/conf/{}/addr_gen_mode", "1"),
            ("ipv6/conf/{}/accept_dad", "0"),
        ] {
            sysctl::best_effort(&format!("net/{}", key.replace("{}", &self.name)), value);
        }
        sysctl::refuse_routers(&self.name)
    }

    /// The link's addresses with their prefix lengths: the host's own have full length.
    fn nets(&self) -> impl Iterator<Item = IpNetwork> {
        let host = self.addresses.iter().map(|ip| IpNetwork::from(*ip));
        let link_local = self.link_local.and_then(|ip| IpNetwork::new(ip.into(), 64).ok());
        host.chain(link_local)
    }

    /// Lists the routes that cannot be restored. The kernel deletes a route with its source
    /// address, and the route does not return with it: that is the host's doing, so it is restored
    /// and reported, not a drift.
    fn routes_drifts(&self, kernel: &Kernel, link: &Link) -> Result<Vec<Drift>> {
        let lost = |have: &[Route]| -> Vec<&HostRoute> {
            let there = |wanted: Route| {
                have.iter().any(|have| {
                    (have.dst, have.priority, have.source) == (wanted.dst, wanted.priority, wanted.source)
                        && host_routes::leads(have)
                })
            };
            self.routes.iter().filter(|route| !there(self.route(link.index, route))).collect()
        };
        let missing = lost(&host_routes::list(&kernel.host, link.index)?);
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let _lock = shared::lock()?;
        for route in &missing {
            if host_routes::add(&kernel.host, &self.route(link.index, route)).is_ok() {
                eprintln!("the host's route to {} was missing: made again", route.to);
            }
        }
        let missing = lost(&host_routes::list(&kernel.host, link.index)?);
        let drift = |route: &HostRoute| {
            let what = format!("the host's route to {}", route.to);
            Drift::new(what, format!("from {}", route.source), "missing")
        };
        Ok(missing.into_iter().map(drift).collect())
    }

    /// Reports other links of the host with an address that this one is about to get: which of them
    /// a container then reaches through it is undefined.
    fn report_taken(&self, host: &Netlink, link: &Link, net: &IpNetwork) -> Result<()> {
        for other in host.addresses(None)?.iter().filter(|other| other.net.ip() == net.ip()) {
            let name = host.link_by_index(other.index)?.map(|link| link.name);
            eprintln!(
                "hostAccess of network {}: the host's address {} is on {} too, not on {} alone: give each network \
                 its own by \"hostAddresses\"",
                self.network,
                net.ip(),
                name.unwrap_or_default(),
                link.name
            );
        }
        Ok(())
    }

    fn route(&self, index: u32, route: &HostRoute) -> Route {
        Route {
            index: Some(index),
            source: Some(route.source),
            priority: Some(self.tag),
            protocol: host_routes::PROTOCOL,
            ..Route::on_link(route.to.into())
        }
    }
}

impl Part for Shim {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let failed = |error: Error| error.within("failed to give the host access".into());
        // Until it has a route, nobody may delete a shim that looks unused.
        let _lock = shared::lock().map_err(failed)?;
        undo.push(Undo::HostRoutes(self.tag));
        let link = self.ensure(kernel).map_err(failed)?;
        // Others may have lost their routes.
        host_routes::restore(&kernel.host, &link).map_err(failed)?;
        for route in &self.routes {
            // The previous owner of the address may have had another Ethernet address.
            let _ = kernel.host.delete_neighbour(link.index, route.to);
            let unheard = route.to.is_ipv4() && !self.addresses.contains(&route.source);
            if let Some(mac) = self.neighbour.filter(|_| unheard) {
                let state = NeighbourState::Permanent;
                kernel.host.set_neighbour(link.index, route.to, mac, state).map_err(failed)?;
            }
            host_routes::add(&kernel.host, &self.route(link.index, route)).map_err(failed)?;
        }
        Ok(())
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let name = &self.name;
        let Some(link) = kernel.host.link_by_name(name)? else {
            return Ok(vec![Drift::new(format!("the host's interface {name}"), "present", "missing")]);
        };
        let mut drifts = Vec::new();
        let parent = kernel.host.link_by_name(&self.parent)?.map(|parent| parent.index);
        if link.kind.as_deref() != Some(self.kind.driver()) || link.peer_index != parent {
            let expected = format!("{} on {}", self.kind.driver(), self.parent);
            drifts.push(Drift::new(format!("the host's interface {name}"), expected, "something else"));
        }
        if !link.up() {
            drifts.push(Drift::new(format!("state of {name}"), "up", "down"));
        }
        let have = kernel.host.addresses(Some(link.index))?;
        let missing = self.nets().filter(|net| have.iter().all(|address| address.net != *net));
        drifts.extend(missing.map(|net| Drift::new(format!("address of {name}"), net, "missing")));
        drifts.append(&mut self.routes_drifts(kernel, &link)?);
        Ok(drifts)
    }
}
