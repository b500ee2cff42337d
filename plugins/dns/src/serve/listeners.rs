//! Where questions come in: the gateways' addresses, and sockets in containers' namespaces.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use nix::net::if_::if_indextoname;

use super::presence::Presence;
use crate::event_loop::{Id, ListenError, Slab, listen_at};
use crate::map::Map;
use crate::record::{Key, Mode};
use crate::source::{Poller, Source};
use crate::zone::{Asker, Attached, Network, Slot, Zone};

/// Where containers ask.
const DNS_PORT: u16 = 53;
/// linux/netdevice.h: the loopback link's index, in every namespace.
const LOOPBACK: u32 = 1;
/// How many links' names are kept.
const LINKS_KEPT: usize = 1024;

/// Whose questions come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Those of the networks that have their gateway here.
    Gateway(SocketAddr, Vec<Slot>),
    /// Those of one container.
    Container(Slot, Key),
}

/// A pair of sockets.
#[derive(Debug)]
pub struct Listener {
    /// For datagrams.
    pub udp: UdpSocket,
    /// For connections.
    pub tcp: TcpListener,
    /// Whose questions come in.
    pub origin: Origin,
    /// Where a container's namespace is looked for.
    pub presence: Presence,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The pairs.
    pub all: Slab<Listener>,
    links: Links,
}

/// Names of links, as they were when they were asked for.
#[derive(Debug, Default)]
pub struct Links {
    names: Map<u32, String>,
}

impl Links {
    /// Whether the link has one of these names. What was remembered is not taken for a reason to say no: a bridge
    /// may be gone and come back.
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
    /// Who asks from that address, having come by that link, and whether that is this host itself; `None` if it is not to
    /// be answered at all.
    pub fn admit<'z>(
        &self,
        links: &mut Links,
        zone: &'z Zone,
        link: Option<u32>,
        source: IpAddr,
    ) -> Option<(Asker<'z>, bool)> {
        match self {
            Self::Container(slot, key) => zone.asker_of(*slot, key).map(|asker| (asker, false)),
            Self::Gateway(_, shared) => {
                let link = link?;
                let asker = zone.asker(shared, source)?;
                let mut fits = |network: &Network, owner: Option<&Attached>| {
                    let record = network.record();
                    (owner.is_some() || record.subnets.is_empty() || network.contains(source))
                        && links.is_one_of(link, |name| {
                            record.ingress.iter().any(|allowed| allowed == name)
                                || owner.is_some_and(|owner| owner.ingress.as_deref() == Some(name))
                        })
                };
                let near = link == LOOPBACK
                    || fits(asker.network(), asker.attached())
                    // It may be near another network that has its gateway here.
                    || shared.len() > 1
                        && shared.iter().filter_map(|slot| zone.network(*slot)).any(|network| fits(network, network.owner(source)));
                near.then_some((asker, link == LOOPBACK))
            }
        }
    }

    /// The container, if it is one's own socket.
    pub fn container(&self) -> Option<(Slot, &Key)> {
        match self {
            Self::Container(slot, key) => Some((*slot, key)),
            Self::Gateway(..) => None,
        }
    }
}

impl Listeners {
    /// What is there, and the links' names: to be used side by side.
    pub fn split(&mut self, id: Id) -> Option<(&Listener, &mut Links)> {
        self.all.get(id).map(|listener| (listener, &mut self.links))
    }

    /// Our own addresses. Whatever port is really ours, what is asked at port 53 there comes to us: containers are led so,
    /// and the host is.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let own = self.all.iter().filter_map(|(_, listener)| match listener.origin {
            Origin::Gateway(address, _) => Some(address),
            Origin::Container(..) => None,
        });
        own.flat_map(|address| [address, SocketAddr::new(address.ip(), DNS_PORT)]).collect()
    }

    /// Takes a pair of sockets in.
    ///
    /// # Errors
    /// The kernel refused to watch them.
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

    /// Takes the sockets of a container in, in the place of its former ones.
    ///
    /// # Errors
    /// The kernel refused to watch them.
    pub fn adopt(&mut self, poller: &Poller, listener: Listener) -> nix::Result<()> {
        self.close(|held| held.origin == listener.origin);
        self.insert(poller, listener).map(|_| ())
    }

    /// Closes those sockets.
    pub fn close(&mut self, which: impl Fn(&Listener) -> bool) {
        let gone: Vec<Id> =
            self.all.iter().filter(|(_, listener)| which(listener)).map(|(id, _)| id).collect();
        for id in gone {
            self.all.remove(id);
        }
    }

    /// Opens what the networks ask for, and closes what none asks for any more. What could not be opened is told,
    /// and for which network.
    pub fn follow(&mut self, poller: &Poller, zone: &Zone) -> Vec<(Slot, String)> {
        // Links may have got other names.
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
