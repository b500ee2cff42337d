//! The sockets that receive queries: at gateway addresses, and in containers' network
//! namespaces.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use nix::net::if_::if_indextoname;

use super::presence::Presence;
use crate::event_loop::{Id, ListenError, Slab, listen_at};
use crate::map::Map;
use crate::record::{Key, Mode};
use crate::source::{Poller, Source};
use crate::zone::{Attached, Network, Querier, Slot, Zone};

/// The port that containers send queries to.
const DNS_PORT: u16 = 53;
/// linux/netdevice.h: the index of the loopback link, in every namespace.
const LOOPBACK: u32 = 1;
/// Link names in the cache.
const LINKS_KEPT: usize = 1024;

/// What a listener serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An address of the host, and the networks that have it as gateway.
    Gateway(SocketAddr, Vec<Slot>),
    /// One container, in its network namespace.
    Container(Slot, Key),
}

/// A UDP and a TCP socket.
#[derive(Debug)]
pub struct Listener {
    /// The UDP socket.
    pub udp: UdpSocket,
    /// The TCP socket.
    pub tcp: TcpListener,
    /// What it serves.
    pub origin: Origin,
    /// Where a container's namespace was.
    pub presence: Presence,
}

/// All listeners.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The listeners.
    pub all: Slab<Listener>,
    links: Links,
}

/// A cache of link names by index.
#[derive(Debug, Default)]
pub struct Links {
    names: Map<u32, String>,
}

impl Links {
    /// Whether the link has an allowed name. A cached name only confirms: a link may have
    /// been deleted and created again.
    fn is_one_of(&mut self, link: u32, allowed: impl Fn(&str) -> bool) -> bool {
        if self.names.get(&link).is_some_and(|name| allowed(name)) {
            return true;
        }
        let Some(name) = if_indextoname(link).ok().and_then(|name| name.into_string().ok()) else {
            return false;
        };
        let yes = allowed(&name);
        if self.names.len() >= LINKS_KEPT {
            self.names.clear();
        }
        self.names.insert(link, name);
        yes
    }
}

impl Origin {
    /// Identifies the client by source address and incoming link, and whether it is this
    /// host itself; `None` if the query must be ignored.
    pub fn identify<'z>(
        &self,
        links: &mut Links,
        zone: &'z Zone,
        link: Option<u32>,
        source: IpAddr,
    ) -> Option<(Querier<'z>, bool)> {
        match self {
            Self::Container(slot, key) => {
                zone.querier_in_namespace(*slot, key).map(|querier| (querier, false))
            }
            Self::Gateway(_, shared) => {
                let link = link?;
                let querier = zone.querier(shared, source)?;
                let mut fits = |network: &Network, owner: Option<&Attached>| {
                    let record = network.record();
                    (owner.is_some() || record.subnets.is_empty() || network.contains(source))
                        && links.is_one_of(link, |name| {
                            record.ingress.iter().any(|allowed| allowed == name)
                                || owner.is_some_and(|owner| owner.ingress.as_deref() == Some(name))
                        })
                };
                let reachable = link == LOOPBACK
                    || fits(querier.network(), querier.attached())
                    // Another network with this gateway may have the link.
                    || shared.len() > 1
                        && shared.iter().filter_map(|slot| zone.network(*slot)).any(|network| fits(network, network.owner(source)));
                reachable.then_some((querier, link == LOOPBACK))
            }
        }
    }

    /// The container, for a listener in its namespace.
    pub fn container(&self) -> Option<(Slot, &Key)> {
        match self {
            Self::Container(slot, key) => Some((*slot, key)),
            Self::Gateway(..) => None,
        }
    }
}

impl Listeners {
    /// The listener and the link cache, borrowed separately.
    pub fn listener_and_links(&mut self, id: Id) -> Option<(&Listener, &mut Links)> {
        self.all.get(id).map(|listener| (listener, &mut self.links))
    }

    /// Our own addresses. Port 53 of each counts too, whatever port we listen at: queries
    /// of containers and of the host are redirected from there.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let own = self.all.iter().filter_map(|(_, listener)| match listener.origin {
            Origin::Gateway(address, _) => Some(address),
            Origin::Container(..) => None,
        });
        own.flat_map(|address| [address, SocketAddr::new(address.ip(), DNS_PORT)]).collect()
    }

    /// Adds a listener.
    ///
    /// # Errors
    /// The kernel refused to watch it.
    pub fn insert(&mut self, poller: &Poller, listener: Listener) -> nix::Result<Id> {
        let id = self.all.insert(listener);
        let watched = self.all.get(id).map_or(Ok(()), |listener| {
            poller.watch(&listener.udp, Source::Datagram, id)?;
            poller.watch(&listener.tcp, Source::Accept, id)
        });
        match watched {
            Ok(()) => Ok(id),
            Err(errno) => {
                self.all.remove(id);
                Err(errno)
            }
        }
    }

    /// Adds the listener of a container in place of its previous one.
    ///
    /// # Errors
    /// The kernel refused to watch it.
    pub fn adopt(&mut self, poller: &Poller, listener: Listener) -> nix::Result<()> {
        self.close(|held| held.origin == listener.origin);
        self.insert(poller, listener).map(|_| ())
    }

    /// Closes the matching listeners.
    pub fn close(&mut self, which: impl Fn(&Listener) -> bool) {
        let gone: Vec<Id> =
            self.all.iter().filter(|(_, listener)| which(listener)).map(|(id, _)| id).collect();
        for id in gone {
            self.all.remove(id);
        }
    }

    /// Opens the sockets that the networks need and closes the rest. Returns what could not
    /// be opened, by network.
    pub fn apply(&mut self, poller: &Poller, zone: &Zone) -> Vec<(Slot, String)> {
        // Links may have been renamed.
        self.links.names.clear();
        let mut wanted: Map<SocketAddr, Vec<Slot>> = Map::default();
        for (slot, network) in zone.networks() {
            let record = network.record();
            if record.mode == Mode::Gateway && !network.is_empty() {
                for ip in &record.listen {
                    wanted.entry(SocketAddr::new(*ip, record.port)).or_default().push(slot);
                }
            }
        }
        self.close(|held| match &held.origin {
            Origin::Gateway(address, _) => !wanted.contains_key(address),
            Origin::Container(slot, key) => {
                zone.network(*slot).is_none_or(|network| network.attached(key).is_none())
            }
        });
        let have: Map<SocketAddr, Id> = self
            .all
            .iter()
            .filter_map(|(id, listener)| match listener.origin {
                Origin::Gateway(address, _) => Some((address, id)),
                Origin::Container(..) => None,
            })
            .collect();
        let mut failed = Vec::new();
        for (address, slots) in wanted {
            if let Some(listener) = have.get(&address).and_then(|id| self.all.get_mut(*id)) {
                listener.origin = Origin::Gateway(address, slots);
            } else if let Err(error) = self.open(poller, address, slots.clone()) {
                failed.extend(slots.into_iter().map(|slot| (slot, error.clone())));
            }
        }
        failed
    }

    fn open(&mut self, poller: &Poller, address: SocketAddr, slots: Vec<Slot>) -> Result<(), String> {
        let (udp, tcp) = listen_at(address).map_err(|error| explained(&error))?;
        let listener =
            Listener { udp, tcp, origin: Origin::Gateway(address, slots), presence: Presence::default() };
        self.insert(poller, listener).map(|_| ()).map_err(|errno| format!("watch {address}: {errno}"))
    }
}

fn explained(error: &ListenError) -> String {
    match error.is_address_in_use() {
        true => {
            format!(
                "{error}: another server has it; stop that, or bind it to other addresses, or set \"port\""
            )
        }
        false => error.to_string(),
    }
}
