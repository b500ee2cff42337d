//! One network: its names and the owners of its addresses.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use cluster::local::RemoteAttachment;

use super::addresses::Addresses;
use super::remote::Host;
use crate::map::Map;
use crate::record::{self, Attachment, Key};

/// A network with its attachments.
#[derive(Debug)]
pub struct Network {
    record: record::Network,
    /// The network's name as a suffix, in lower case.
    suffix: String,
    upstreams: Option<Rc<[SocketAddr]>>,
    attachments: Map<Key, Rc<Attached>>,
    names: Map<Box<[u8]>, Addresses>,
    owners: Map<IpAddr, Vec<Rc<Attached>>>,
    /// Other hosts with containers on the network, by their ids.
    pub(super) hosts: Map<String, Host>,
    /// The primary names of remote addresses, which other hosts have.
    pointers: Map<IpAddr, Vec<Rc<str>>>,
}

/// An attachment.
#[derive(Debug)]
pub struct Attached {
    pub(super) container: Rc<str>,
    pub(super) upstreams: Option<Rc<[SocketAddr]>>,
    names: Box<[String]>,
    ips: Box<[IpAddr]>,
    /// Path of its network namespace, if the responder has sockets there.
    pub(crate) netns: Option<String>,
    /// The namespace at that path at ADD.
    pub(crate) namespace: Option<record::Namespace>,
    /// The link that leads to it only.
    pub(crate) ingress: Option<String>,
}

impl Attached {
    /// Its first name.
    pub fn primary(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }

    /// The record that it was read from.
    pub(super) fn record(&self, network: &str, key: &Key, order: u64) -> Attachment {
        Attachment {
            v: record::VERSION,
            network: network.to_owned(),
            key: key.clone(),
            names: self.names.to_vec(),
            ips: self.ips.to_vec(),
            upstreams: self.upstreams.as_deref().map(<[SocketAddr]>::to_vec),
            ingress: self.ingress.clone(),
            netns: self.netns.clone(),
            namespace: self.namespace,
            order,
        }
    }
}

impl Network {
    pub(super) fn new(record: record::Network) -> Self {
        let mut network = Self {
            suffix: String::new(),
            upstreams: None,
            attachments: Map::default(),
            names: Map::default(),
            owners: Map::default(),
            hosts: Map::default(),
            pointers: Map::default(),
            record,
        };
        network.derive();
        network
    }

    pub(super) fn set_record(&mut self, record: record::Network) {
        self.record = record;
        self.derive();
    }

    fn derive(&mut self) {
        self.suffix = self.record.name.to_ascii_lowercase();
        self.upstreams = self.record.upstreams.as_deref().map(Rc::from);
    }

    /// The network's record.
    pub fn record(&self) -> &record::Network {
        &self.record
    }

    /// Counts the attachments.
    pub fn len(&self) -> usize {
        self.attachments.len()
    }

    /// Whether there is no attachment.
    pub fn is_empty(&self) -> bool {
        self.attachments.is_empty()
    }

    /// The attachments.
    pub fn attachments(&self) -> impl Iterator<Item = (&Key, &Attached)> {
        self.attachments.iter().map(|(key, attached)| (key, attached.as_ref()))
    }

    /// The attachment with that key.
    pub fn attached(&self, key: &Key) -> Option<&Attached> {
        self.attachments.get(key).map(Rc::as_ref)
    }

    pub(super) fn insert(&mut self, record: Attachment, container: Rc<str>) {
        let attached = Rc::new(Attached {
            container,
            upstreams: record.upstreams.as_deref().map(Rc::from),
            names: record.names.into(),
            ips: record.ips.into(),
            netns: record.netns,
            namespace: record.namespace,
            ingress: record.ingress,
        });
        for name in &attached.names {
            let addresses = self.names.entry(name.as_bytes().into()).or_default();
            attached.ips.iter().for_each(|ip| addresses.insert(*ip, false));
        }
        for ip in &attached.ips {
            self.owners.entry(*ip).or_default().push(Rc::clone(&attached));
        }
        self.attachments.insert(record.key, attached);
    }

    pub(super) fn remove(&mut self, key: &Key) {
        let Some(attached) = self.attachments.remove(key) else { return };
        for name in &attached.names {
            if let Some(addresses) = self.names.get_mut(name.as_bytes()) {
                attached.ips.iter().for_each(|ip| addresses.remove(*ip, false));
                if addresses.is_empty() {
                    self.names.remove(name.as_bytes());
                }
            }
        }
        for ip in &attached.ips {
            if let Some(owners) = self.owners.get_mut(ip) {
                owners.retain(|owner| !Rc::ptr_eq(owner, &attached));
                if owners.is_empty() {
                    self.owners.remove(ip);
                }
            }
        }
    }

    /// Adds a container of another host, which is silent or not.
    pub(super) fn insert_remote(&mut self, container: &RemoteAttachment, silent: bool) {
        let Some(primary) = container.names.first() else { return };
        for name in &container.names {
            let addresses = self.names.entry(name.as_bytes().into()).or_default();
            container.ips.iter().for_each(|ip| addresses.insert(*ip, silent));
        }
        let primary: Rc<str> = primary.as_str().into();
        for ip in &container.ips {
            self.pointers.entry(*ip).or_default().push(Rc::clone(&primary));
        }
    }

    /// Removes what [`Network::insert_remote`] added.
    pub(super) fn remove_remote(&mut self, container: &RemoteAttachment, silent: bool) {
        let Some(primary) = container.names.first() else { return };
        for name in &container.names {
            if let Some(addresses) = self.names.get_mut(name.as_bytes()) {
                container.ips.iter().for_each(|ip| addresses.remove(*ip, silent));
                if addresses.is_empty() {
                    self.names.remove(name.as_bytes());
                }
            }
        }
        for ip in &container.ips {
            if let Some(held) = self.pointers.get_mut(ip) {
                if let Some(at) = held.iter().position(|held| **held == **primary) {
                    held.remove(at);
                }
                if held.is_empty() {
                    self.pointers.remove(ip);
                }
            }
        }
    }

    /// The primary name of the container that has the address, on this host or on another.
    pub(super) fn pointer(&self, ip: IpAddr) -> Option<&str> {
        let remote = || self.pointers.get(&ip)?.last().map(|name| &**name);
        self.owner(ip).map(Attached::primary).or_else(remote)
    }

    pub(super) fn addresses(&self, name: &[u8]) -> Option<&Addresses> {
        self.names.get(name)
    }

    /// The attachment that has the address; of several, the latest.
    pub fn owner(&self, ip: IpAddr) -> Option<&Attached> {
        self.owners.get(&ip)?.last().map(Rc::as_ref)
    }

    /// Whether a subnet of the network contains the address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.record.subnets.iter().any(|subnet| subnet.contains(ip))
    }

    /// The suffixes that names are found under: the domain, and the network's name.
    pub(super) fn suffixes(&self) -> impl Iterator<Item = &str> {
        self.record
            .domain
            .as_deref()
            .into_iter()
            .chain([self.suffix.as_str()])
            .filter(|suffix| !suffix.is_empty())
    }

    pub(super) fn upstreams(&self) -> Option<&Rc<[SocketAddr]>> {
        self.upstreams.as_ref()
    }
}
