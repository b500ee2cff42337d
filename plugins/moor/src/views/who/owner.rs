//! The owners of what was asked for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netlink::Mac;
use serde::Serialize;

use crate::context::Context;
use crate::leases;
use crate::model::{Attachment, HostPort, Model, Place, Processes, State};
use crate::networks::Networks;
use crate::overlay::Remote;

use super::meaning::Meaning;

/// An owner.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Owned {
    /// What was asked for.
    pub what: String,
    /// The container's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The container's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The container's interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// The runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The state of the attachment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The container's port, of a published one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_port: Option<u16>,
    /// The other host that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The link of this host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_link: Option<String>,
    /// The process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The process's program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// The path of the namespace, if nothing else is known of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// How it is known.
    pub evidence: Vec<String>,
}

impl Owned {
    fn of(what: &str, one: &Attachment, evidence: Vec<String>) -> Self {
        Self {
            what: what.to_owned(),
            container_id: Some(one.container_id.clone()),
            name: one.name.clone(),
            network: Some(one.network.clone()).filter(|network| !network.is_empty()),
            ifname: Some(one.ifname.clone()),
            runtime: one.runtime.clone(),
            state: Some(one.state),
            host_link: one.host_link.clone(),
            evidence,
            ..Self::default()
        }
    }

    /// Who it is, as a phrase.
    pub fn text(&self) -> String {
        if let Some(host) = &self.host {
            return self.text_of_host(host);
        }
        let Some(id) = &self.container_id else { return self.text_without_container() };
        let short = id.get(..12).unwrap_or(id);
        let mut text = self.runtime.as_ref().map(|runtime| format!("{runtime} ")).unwrap_or_default();
        match &self.name {
            Some(name) => text += &format!("{name} ({short})"),
            None => text += short,
        }
        if let Some(network) = &self.network {
            text += &format!(" on {network}");
        }
        match (self.to_port, &self.ifname) {
            (Some(port), _) => text += &format!(" -> {port}"),
            (None, Some(ifname)) => text += &format!(", {ifname}"),
            (None, None) => {}
        }
        match self.state {
            Some(state @ (State::Gone | State::Unknown)) => text + &format!(" ({})", state.word()),
            _ => text,
        }
    }

    /// A container on another host.
    fn text_of_host(&self, host: &str) -> String {
        let mut text = self.name.clone().unwrap_or_else(|| "a container".into());
        if let Some(network) = &self.network {
            text += &format!(" on {network}");
        }
        text += &format!(", on host {host}");
        if self.state == Some(State::Silent) { text + " (silent)" } else { text }
    }

    fn text_without_container(&self) -> String {
        match (&self.program, self.pid, &self.host_link, &self.netns) {
            (Some(program), Some(pid), ..) => format!("{program}, pid {pid}, no container"),
            (None, Some(pid), ..) => format!("pid {pid}, no container"),
            (_, _, Some(link), _) => format!("this host, {link}"),
            (_, _, None, Some(netns)) => format!("namespace {netns}"),
            _ => "this host".into(),
        }
    }
}

/// What is looked into.
pub struct Finder<'a> {
    pub context: &'a Context,
    pub networks: &'a Networks,
    pub model: &'a Model,
    pub ports: &'a [HostPort],
    pub remote: &'a [Remote],
}

impl Finder<'_> {
    /// The owners of what one meaning names.
    pub fn find(&self, text: &str, meaning: &Meaning) -> Vec<Owned> {
        match meaning {
            Meaning::Address(address) => {
                let mut owners = self.address(text, *address);
                owners.extend(self.remote(text, "address", |one| one.addresses.contains(address)));
                owners
            }
            Meaning::Port { port, protocol, address } => self.port(*port, protocol.as_deref(), *address),
            Meaning::Mac(mac) => self.mac(text, *mac),
            Meaning::Link(name) => self.link(text, |link| link.name == *name),
            Meaning::Index(index) => self.link(text, |link| link.index == *index),
            Meaning::Container(container) => {
                let mut owners = self.container(text, container);
                owners.extend(self.remote(text, "name", |one| one.names.contains(container)));
                owners
            }
        }
    }

    /// Containers on other hosts of the cluster.
    fn remote(&self, text: &str, what: &str, is_it: impl Fn(&Remote) -> bool) -> Vec<Owned> {
        let found = self.remote.iter().filter(|one| is_it(one));
        let owned = found.map(|one| Owned {
            name: one.names.first().cloned(),
            network: Some(one.network.clone()),
            host: Some(if one.host.is_empty() { one.host_id.clone() } else { one.host.clone() }),
            state: Some(if one.silent { State::Silent } else { State::Remote }),
            ..plain(text, &format!("{what} published by its host"))
        });
        owned.collect()
    }

    fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.model.attachments.iter()
    }

    fn address(&self, text: &str, address: IpAddr) -> Vec<Owned> {
        let leases = leases::of_address(self.context, self.networks, self.model, address);
        let mut owners = Vec::new();
        let kernel = &self.model.kernel;
        for one in self.attachments().filter(|one| one.addresses.contains(&address)) {
            let is_in_kernel = one
                .namespace
                .and_then(|at| kernel.namespaces.get(at))
                .is_some_and(|namespace| namespace.addresses.iter().any(|other| other.net.ip() == address));
            let has_lease = leases.iter().any(|(_, lease)| lease.container_id == one.container_id);
            let checks = [
                (is_in_kernel, "address in its namespace"),
                (has_lease, "lease"),
                (one.record.is_some(), "cache"),
            ];
            let evidence = checks.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text.to_owned());
            owners.push(Owned::of(text, one, evidence.collect()));
        }
        for (at, namespace) in kernel.namespaces.iter().enumerate() {
            let is_known = |one: &Attachment| one.namespace == Some(at) && one.addresses.contains(&address);
            if namespace.addresses.iter().any(|other| other.net.ip() == address)
                && !self.attachments().any(is_known)
            {
                owners.push(self.namespace(text, at, "address in the namespace"));
            }
        }
        if let Some(own) = kernel.host.addresses.iter().find(|other| other.net.ip() == address) {
            let link = kernel.host_link(own.index).map(|link| link.name.clone());
            owners.push(Owned { host_link: link, ..plain(text, "address of this host") });
        }
        for (network, lease) in leases {
            let is_known = |one: &Owned| one.container_id.as_ref() == Some(&lease.container_id);
            if !owners.iter().any(is_known) {
                let attachment = self.attachments().find(|one| one.container_id == lease.container_id);
                let mut owned =
                    attachment.map_or_else(Owned::default, |one| Owned::of(text, one, Vec::new()));
                owned.container_id = Some(lease.container_id);
                (owned.what, owned.network) = (text.to_owned(), Some(network));
                owned.ifname = Some(lease.ifname).filter(|ifname| !ifname.is_empty());
                owned.evidence = vec!["lease alone".into()];
                owners.push(owned);
            }
        }
        owners
    }

    /// A namespace without an attachment: by its processes.
    fn namespace(&self, text: &str, at: usize, evidence: &str) -> Owned {
        let mut owned = plain(text, evidence);
        let Some(namespace) = self.model.kernel.namespaces.get(at) else { return owned };
        if let Some(one) = self.attachments().find(|one| one.namespace == Some(at)) {
            return Owned::of(text, one, owned.evidence);
        }
        owned.netns = namespace.path().map(|path| path.to_string_lossy().into_owned());
        owned.pid = namespace.pids.first().copied();
        owned.program = owned.pid.and_then(Processes::program);
        let process = owned.pid.and_then(|pid| self.model.processes.by_pid.get(&pid));
        if let Some(container) = process.and_then(|process| process.container.as_ref()) {
            owned.container_id = Some(container.id.clone());
            owned.runtime = container.runtime.map(ToOwned::to_owned);
        }
        owned
    }

    fn port(&self, port: u16, protocol: Option<&str>, address: Option<IpAddr>) -> Vec<Owned> {
        let takes = |one: &&HostPort| {
            let protocol = protocol.unwrap_or(&one.protocol);
            one.takes(protocol, port, address)
        };
        self.ports.iter().filter(takes).map(|one| self.port_owner(one, port)).collect()
    }

    fn port_owner(&self, port: &HostPort, number: u16) -> Owned {
        let what = match port.address {
            Some(address) => format!("{}/{}", std::net::SocketAddr::new(address, number), port.protocol),
            None => format!("{number}/{}", port.protocol),
        };
        let evidence = match port.by {
            "moor" => "published (nf_tables inet moor)".to_owned(),
            "socket" => "listening socket".to_owned(),
            "record" => "asked for by the runtime; no rule seen".to_owned(),
            by => format!("published ({by})"),
        };
        let is_it = |one: &&Attachment| {
            Some(&one.container_id) == port.container_id.as_ref()
                && Some(&one.network) == port.network.as_ref()
        };
        let shift = number.saturating_sub(port.port);
        let mut owned = match self.attachments().find(is_it) {
            Some(one) => Owned::of(&what, one, vec![evidence]),
            None => Owned {
                container_id: port.container_id.clone(),
                network: port.network.clone(),
                runtime: port.runtime.clone(),
                ..plain(&what, &evidence)
            },
        };
        owned.to_port = port.to_port.and_then(|to| to.checked_add(shift));
        (owned.pid, owned.program) = (port.pid, port.program.clone());
        owned
    }

    fn mac(&self, text: &str, mac: Mac) -> Vec<Owned> {
        let kernel = &self.model.kernel;
        let mut owners = Vec::new();
        for (at, namespace) in kernel.namespaces.iter().enumerate() {
            for link in namespace.links.iter().filter(|link| link.mac == Some(mac)) {
                let is_it = |one: &&Attachment| {
                    one.namespace == Some(at) && one.mac.as_ref().is_some_and(|own| *own == mac.to_string())
                };
                owners.push(match self.attachments().find(is_it) {
                    Some(one) => Owned::of(text, one, vec!["link in its namespace".into()]),
                    None => {
                        let owned = self.namespace(text, at, "link in the namespace");
                        Owned { ifname: Some(link.name.clone()), ..owned }
                    }
                });
            }
        }
        for link in kernel.host.links.iter().filter(|link| link.mac == Some(mac)) {
            owners.extend(self.link(text, |other| other.index == link.index));
        }
        let gone = |one: &&Attachment| {
            one.state == State::Gone && one.mac.as_ref().is_some_and(|own| *own == mac.to_string())
        };
        owners.extend(self.attachments().filter(gone).map(|one| Owned::of(text, one, vec!["cache".into()])));
        owners
    }

    fn link(&self, text: &str, is_it: impl Fn(&netlink::Link) -> bool) -> Vec<Owned> {
        let kernel = &self.model.kernel;
        let Some(link) = kernel.host.links.iter().find(|link| is_it(link)) else { return Vec::new() };
        let led_to = self.attachments().filter(|one| one.host_ifindex == Some(link.index));
        let evidence = format!("{} of this host leads there", link.name);
        let mut owners: Vec<_> = led_to.map(|one| Owned::of(text, one, vec![evidence.clone()])).collect();
        if owners.is_empty() {
            let kind = link.kind.as_deref().unwrap_or("device");
            owners.push(Owned {
                host_link: Some(link.name.clone()),
                ..plain(text, &format!("{kind} of this host"))
            });
        }
        owners
    }

    fn container(&self, text: &str, container: &str) -> Vec<Owned> {
        let how = match container {
            _ if container.starts_with("pid:") => "process",
            _ if container.starts_with('/') => "namespace",
            _ => "name or id",
        };
        let found = self.model.matches(container);
        if !found.is_empty() {
            return found.into_iter().map(|one| Owned::of(text, one, vec![how.to_owned()])).collect();
        }
        match self.model.place_of(container) {
            Some(Place::At(at)) => vec![self.namespace(text, at, how)],
            Some(Place::Host) => {
                let pid: Option<u32> = container.strip_prefix("pid:").and_then(|pid| pid.parse().ok());
                let program = pid.and_then(Processes::program);
                vec![Owned { pid, program, ..plain(text, "in this host's own namespace") }]
            }
            _ => Vec::new(),
        }
    }
}

fn plain(what: &str, evidence: &str) -> Owned {
    Owned { what: what.to_owned(), evidence: vec![evidence.to_owned()], ..Owned::default() }
}

/// What to report when the beginning of an id means several containers, and nothing else is meant.
pub fn ambiguity(text: &str, meanings: &[Meaning], found: &[Owned]) -> Option<String> {
    let is_exact = |one: &Owned| one.evidence.iter().any(|evidence| evidence != "name or id");
    let ids: BTreeSet<&str> = found.iter().filter_map(|one| one.container_id.as_deref()).collect();
    let is_meant = meanings.iter().any(|meaning| matches!(meaning, Meaning::Container(_)));
    (is_meant && ids.len() > 1 && !found.iter().any(is_exact))
        .then(|| format!("{text:?} means {} containers", ids.len()))
}
