//! What the project's networks and services are, and what of the files cannot be honoured.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::Value;

use crate::network::create::Suite;
use crate::publish::Publish;
use crate::yaml::Place;

use super::flags;
use super::networks::{Network, Settings};
use super::project::Project;
use super::services::{Member, ModeKind, Service};
use super::spec;

/// The label with the project's name.
pub const PROJECT_LABEL: &str = "com.docker.compose.project";
/// The label with the network's key.
pub const NETWORK_LABEL: &str = "com.docker.compose.network";

/// The plan of a project, as `compose plan --json` prints it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The project's name.
    pub project: String,
    /// Its networks.
    pub networks: Vec<PlannedNetwork>,
    /// Its services.
    pub services: Vec<PlannedService>,
    /// What cannot be honoured.
    pub not_honoured: Vec<Remark>,
}

/// A network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedNetwork {
    /// The key in the file.
    pub key: String,
    /// The name of the network.
    pub name: String,
    /// Somebody else makes it.
    pub external: bool,
    /// The driver of the project's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// The subnets of the file. None means that `create` chooses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<PlannedSubnet>,
    /// It has no way outside.
    pub internal: bool,
    /// Whether it has IPv6 addresses, when the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// The driver's options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The list that `create` writes. A subnet that it chooses is missing in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflist: Option<Value>,
}

/// A subnet of a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedSubnet {
    /// The subnet.
    pub subnet: String,
    /// The gateway, when the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// What addresses are given of, when it is not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// Addresses of others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// A service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedService {
    /// The name.
    pub name: String,
    /// The name of its container.
    pub container_name: String,
    /// What it has instead of networks of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<String>,
    /// Its networks, in the order of its interfaces.
    pub networks: Vec<PlannedMember>,
    /// Its published ports, as `-p` takes them.
    pub ports: Vec<String>,
    /// The ports that it serves on its networks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<String>,
    /// The flags of `podman run`.
    pub podman: Vec<String>,
    /// The flags of `nerdctl run`.
    pub nerdctl: Vec<String>,
}

/// A service on a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMember {
    /// The name of the network.
    pub network: String,
    /// The names that it has there.
    pub names: Vec<String>,
    /// Its addresses, when the file has them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Its MAC address, when the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The name of the interface, when the file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifname: Option<String>,
    /// The network with the highest has the default route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw_priority: Option<i64>,
}

/// A key that cannot be honoured.
#[derive(Debug, PartialEq, Serialize)]
pub struct Remark {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1.
    pub column: usize,
    /// The path of the key.
    pub key: String,
    /// The runtime that cannot; none means that nothing here can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<&'static str>,
    /// Why.
    pub reason: String,
}

/// Remarks so far.
pub struct Remarks<'f> {
    files: &'f [PathBuf],
    all: Vec<Remark>,
}

impl<'f> Remarks<'f> {
    /// None so far, about these files.
    pub fn new(files: &'f [PathBuf]) -> Self {
        Self { files, all: Vec::new() }
    }

    /// Nothing here can honour the key.
    pub fn add(&mut self, at: Place, key: String, reason: impl Into<String>) {
        self.push(at, key, None, reason.into());
    }

    /// A runtime cannot honour the key.
    pub fn of_runtime(&mut self, at: Place, key: String, runtime: &'static str, reason: &str) {
        self.push(at, key, Some(runtime), reason.into());
    }

    fn push(&mut self, at: Place, key: String, runtime: Option<&'static str>, reason: String) {
        let file = self.files.get(at.file).cloned().unwrap_or_default();
        self.all.push(Remark { file, line: at.line, column: at.column, key, runtime, reason });
    }

    /// The remarks, in the order of the files.
    pub fn finish(mut self) -> Vec<Remark> {
        let number = |remark: &Remark| self.files.iter().position(|file| *file == remark.file);
        self.all.sort_by_key(|remark| (number(remark), remark.line, remark.column));
        self.all
    }
}

impl Plan {
    /// The plan of a project that was read from these files, on a host with these plugins.
    pub fn new(project: &Project, files: &[PathBuf], suite: Suite) -> Self {
        let mut remarks = Remarks::new(files);
        let mut networks = Vec::new();
        for network in &project.networks {
            networks.push(planned(project, network, suite, &mut remarks));
        }
        let services =
            project.services.iter().map(|service| plan_service(project, service, &mut remarks)).collect();
        check_ports(project, &mut remarks);
        Self { project: project.name.clone(), networks, services, not_honoured: remarks.finish() }
    }
}

fn planned(project: &Project, network: &Network, suite: Suite, remarks: &mut Remarks<'_>) -> PlannedNetwork {
    let settings = network.settings.clone().unwrap_or_default();
    let is_own = network.settings.is_some();
    PlannedNetwork {
        key: network.key.clone(),
        name: network.name.clone(),
        external: !is_own,
        driver: is_own.then(|| settings.driver.clone().unwrap_or_else(|| "bridge".into())),
        subnets: subnets(&settings),
        internal: settings.internal,
        ipv6: settings.ipv6,
        options: settings.options.clone(),
        labels: if is_own { labels(project, network, &settings) } else { BTreeMap::new() },
        conflist: spec::list(project, network, suite, remarks),
    }
}

/// The file's labels, and those by which the project's networks are found again.
pub fn labels(project: &Project, network: &Network, settings: &Settings) -> BTreeMap<String, String> {
    let mut labels = settings.labels.clone();
    labels.insert(PROJECT_LABEL.into(), project.name.clone());
    labels.insert(NETWORK_LABEL.into(), network.key.clone());
    labels
}

fn subnets(settings: &Settings) -> Vec<PlannedSubnet> {
    let planned = settings.subnets.iter().map(|subnet| PlannedSubnet {
        subnet: subnet.subnet.to_string(),
        gateway: subnet.gateway,
        ip_range: subnet.range.map(|range| range.to_string()),
        aux_addresses: subnet.aux.clone(),
    });
    planned.collect()
}

fn plan_service(project: &Project, service: &Service, remarks: &mut Remarks<'_>) -> PlannedService {
    let container_name = container_name(project, service);
    let member = |member: &Member| PlannedMember {
        network: project.network(&member.network).map(|network| network.name.clone()).unwrap_or_default(),
        names: names(service, member, &container_name),
        addresses: member.addresses.iter().map(|(address, _)| *address).collect(),
        mac: member.mac.as_ref().map(|(mac, _)| mac.clone()),
        ifname: member.ifname.as_ref().map(|(name, _)| name.clone()),
        gw_priority: member.gw_priority.map(|(priority, _)| priority),
    };
    let mut planned = PlannedService {
        name: service.name.clone(),
        network_mode: service.mode.as_ref().map(|mode| mode_word(project, &mode.kind)),
        networks: service.members.iter().map(member).collect(),
        ports: ports(service, remarks),
        expose: service.expose.clone(),
        podman: Vec::new(),
        nerdctl: Vec::new(),
        container_name,
    };
    planned.podman = flags::podman(&planned);
    planned.nerdctl = flags::nerdctl(&planned);
    remark_service(project, service, remarks);
    flags::remark(service, remarks);
    planned
}

/// The name of a service's container, as docker's compose has it.
fn container_name(project: &Project, service: &Service) -> String {
    let usual = || format!("{}-{}-1", project.name, service.name);
    service.container_name.clone().unwrap_or_else(usual)
}

fn names(service: &Service, member: &Member, container: &str) -> Vec<String> {
    let mut names = vec![service.name.clone()];
    for name in member.aliases.iter().map(String::as_str).chain([container]) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

fn mode_word(project: &Project, mode: &ModeKind) -> String {
    match mode {
        ModeKind::Word(word) => (*word).to_owned(),
        ModeKind::Container(name) => format!("container:{name}"),
        ModeKind::Service(name) => {
            let name = project.service(name).map(|service| container_name(project, service));
            format!("container:{}", name.unwrap_or_default())
        }
    }
}

/// The published ports; a service without a network of its own cannot publish any.
fn ports(service: &Service, remarks: &mut Remarks<'_>) -> Vec<String> {
    let reason = match service.mode.as_ref().map(|mode| &mode.kind) {
        None | Some(ModeKind::Word("bridge")) => {
            return service.ports.iter().map(|published| published.ports.to_string()).collect();
        }
        Some(ModeKind::Word("host")) => "the service has the host's ports as they are",
        Some(ModeKind::Word(_)) => "the service has no network",
        Some(_) => "publish them where the networks come from",
    };
    if let Some(first) = service.ports.first() {
        remarks.add(first.at, format!("services.{}.ports", service.name), reason);
    }
    Vec::new()
}

fn remark_service(project: &Project, service: &Service, remarks: &mut Remarks<'_>) {
    let path = |key: &str| format!("services.{}.{key}", service.name);
    if let Some(at) = service.mac_address {
        remarks.add(at, path("mac_address"), "give it to one network of the service");
    }
    for link in &service.links {
        let other = project.service(&link.service);
        let meets = |member: &Member| {
            let others = other.into_iter().flat_map(|other| &other.members);
            others.into_iter().find(|others| others.network == member.network).cloned()
        };
        let common = service.members.iter().find_map(meets);
        match common {
            None => {
                remarks.add(link.at, path("links"), format!("it is on no network with {:?}", link.service))
            }
            Some(member) if link.alias != link.service && !member.aliases.contains(&link.alias) => {
                let text = "names are known to all of a network, not to one service alone";
                let service = &link.service;
                let instead = format!("{text}; give {service:?} the alias {:?} instead", link.alias);
                remarks.add(link.at, path("links"), instead);
            }
            Some(_) => {}
        }
    }
    for member in &service.members {
        for (key, at) in &member.ignored {
            let reason = match *key {
                "link_local_ips" => "no plugin gives link-local addresses of choice",
                _ => "an attachment has no options of the driver under CNI",
            };
            remarks.add(*at, path(&format!("networks.{}.{key}", member.network)), reason);
        }
    }
}

/// Two services that publish one port cannot run together.
fn check_ports(project: &Project, remarks: &mut Remarks<'_>) {
    let mut all = Vec::new();
    for service in project.services.iter().filter(|service| service.mode.is_none()) {
        for published in &service.ports {
            let other = all.iter().find(|(_, ports): &&(&str, Publish)| ports.collides(&published.ports));
            if let Some((other, _)) = other {
                let reason = format!("{other} publishes the same port of the host");
                remarks.add(published.at, format!("services.{}.ports", service.name), reason);
            }
            all.push((&service.name, published.ports));
        }
    }
}
