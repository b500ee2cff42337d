//! A project: what its files have, checked.

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use crate::yaml::{Fault, Key, Node, Place};

use super::interpolate::Interpolation;
use super::merge::merge;
use super::networks::{self, Network};
use super::services::{self, Member, ModeKind, Service};
use super::{keys, services::Mode};

/// A project.
#[derive(Debug)]
pub struct Project {
    /// The name.
    pub name: String,
    /// The networks, in the order of the file; `default` comes last unless the file has it.
    pub networks: Vec<Network>,
    /// The services, in the order of the file.
    pub services: Vec<Service>,
    /// Variables without a value.
    pub unset: BTreeSet<String>,
}

/// What names a project beside its files.
#[derive(Clone, Copy, Debug)]
pub struct Naming<'n> {
    /// `-p`, or `COMPOSE_PROJECT_NAME`.
    pub given: Option<&'n str>,
    /// The directory of the first file.
    pub dir: &'n Path,
}

impl Project {
    /// Reads the documents, each laid over the one before.
    pub fn read(
        documents: &[Rc<Node>],
        variable: &dyn Fn(&str) -> Option<String>,
        naming: Naming<'_>,
    ) -> Result<Self, Fault> {
        let mut interpolation = Interpolation::new(variable);
        let mut whole: Option<Rc<Node>> = None;
        for document in documents {
            let document = interpolation.tree(&keys::select(document)?)?;
            whole = Some(match whole {
                Some(base) => merge(&base, &document, &mut Vec::new()),
                None => document,
            });
        }
        let whole = whole.ok_or_else(|| Fault::new(Place::default(), "no file"))?;
        let name = name(&whole, naming)?;
        let mut project =
            Self { networks: Vec::new(), services: Vec::new(), unset: interpolation.unset(), name };
        for (key, value) in entries(&whole, "networks")? {
            let network = networks::read(&key.text, key.at, value, &project.name)?;
            project.networks.push(network);
        }
        for (key, value) in entries(&whole, "services")? {
            project.services.push(services::read(&key.text, key.at, value)?);
        }
        project.add_default();
        project.check()?;
        Ok(project)
    }

    /// The network of this key.
    pub fn network(&self, key: &str) -> Option<&Network> {
        self.networks.iter().find(|network| network.key == key)
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// `default` exists when a service is on it, and the file needs not have it.
    fn add_default(&mut self) {
        let is_default = |member: &&Member| member.network == "default";
        let member = self.services.iter().flat_map(|service| &service.members).find(is_default);
        if let Some(member) = member
            && self.network("default").is_none()
        {
            let name = format!("{}_default", self.name);
            let settings = Some(networks::Settings::default());
            self.networks.push(Network { key: "default".into(), at: member.at, name, settings });
        }
    }

    fn check(&self) -> Result<(), Fault> {
        let mut names = BTreeSet::new();
        if let Some(twice) = self.networks.iter().find(|network| !names.insert(&network.name)) {
            return Err(Fault::new(twice.at, format!("another network has the name {:?}, too", twice.name)));
        }
        self.services.iter().try_for_each(|service| self.check_service(service))?;
        self.check_addresses()
    }

    fn check_service(&self, service: &Service) -> Result<(), Fault> {
        for member in &service.members {
            let Some(network) = self.network(&member.network) else {
                let keys = self.networks.iter().map(|network| network.key.as_str());
                let meant = crate::suggest::nearest(&member.network, keys);
                let meant = meant.map(|meant| format!("; did you mean {meant:?}?")).unwrap_or_default();
                let text = format!("the network {:?} is not among \"networks\"{meant}", member.network);
                return Err(Fault::new(member.at, text));
            };
            check_member(member, network)?;
        }
        if let Some(link) = service.links.iter().find(|link| self.service(&link.service).is_none()) {
            return Err(Fault::new(link.at, format!("the service {:?} does not exist", link.service)));
        }
        self.check_mode(service)
    }

    /// A service may have the networks of one that has the networks of another one, but not its own.
    fn check_mode(&self, service: &Service) -> Result<(), Fault> {
        let mut seen = BTreeSet::from([service.name.as_str()]);
        let mut next = service.mode.as_ref();
        while let Some(Mode { at, kind: ModeKind::Service(name) }) = next {
            let Some(other) = self.service(name) else {
                return Err(Fault::new(*at, format!("the service {name:?} does not exist")));
            };
            if !seen.insert(name) {
                return Err(Fault::new(*at, format!("the service {name:?} waits for its own networks")));
            }
            next = other.mode.as_ref();
        }
        Ok(())
    }

    /// Two services cannot have one address.
    fn check_addresses(&self) -> Result<(), Fault> {
        let mut taken = BTreeSet::new();
        for member in self.services.iter().flat_map(|service| &service.members) {
            for (address, at) in &member.addresses {
                if !taken.insert((&member.network, *address)) {
                    let text = format!("another service has {address} on {:?}, too", member.network);
                    return Err(Fault::new(*at, text));
                }
            }
        }
        Ok(())
    }
}

/// An address is inside of a subnet that the file has; another one cannot be known to hold it.
fn check_member(member: &Member, network: &Network) -> Result<(), Fault> {
    let Some(settings) = &network.settings else { return Ok(()) };
    for (address, at) in &member.addresses {
        let inside = settings.subnets.iter().find(|subnet| subnet.subnet.contains(*address));
        let Some(subnet) = inside else {
            let text = format!("{address} is in no subnet that the file gives {:?}", network.key);
            return Err(Fault::new(*at, text));
        };
        let taken = subnet.aux.iter().find(|(_, taken)| *taken == address).map(|(name, _)| name.as_str());
        let taken = taken.or_else(|| (subnet.gateway() == *address).then_some("the gateway"));
        if let Some(owner) = taken {
            return Err(Fault::new(*at, format!("{address} is the address of {owner}")));
        }
    }
    Ok(())
}

fn entries<'t>(whole: &'t Node, key: &str) -> Result<impl Iterator<Item = &'t (Key, Rc<Node>)>, Fault> {
    let node = whole.map("a compose file")?.get(key).filter(|node| !node.is_null());
    let map = node.map(|node| node.map(&format!("{key:?}"))).transpose()?;
    Ok(map.into_iter().flat_map(|map| &map.0))
}

fn name(whole: &Node, naming: Naming<'_>) -> Result<String, Fault> {
    if let Some(given) = naming.given {
        return is_name(given).then(|| given.to_owned()).ok_or_else(|| not_a_name(Place::default(), given));
    }
    if let Some(node) = whole.map("a compose file")?.get("name") {
        let name = node.text("\"name\"")?;
        return is_name(name).then(|| name.to_owned()).ok_or_else(|| not_a_name(node.at, name));
    }
    let name = naming.dir.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let known = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    let name: String = name.chars().filter(known).collect();
    let name = name.trim_start_matches(['_', '-']);
    if name.is_empty() {
        return Err(Fault::new(
            Place::default(),
            "the directory's name is no name of a project; give one with -p",
        ));
    }
    Ok(name.to_owned())
}

fn not_a_name(at: Place, name: &str) -> Fault {
    let what = "is no name of a project: lower-case letters, digits, \"_\" and \"-\"";
    Fault::new(at, format!("{name:?} {what}"))
}

/// Whether it is the name of a project.
pub fn is_name(name: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) && name.chars().all(known)
}
