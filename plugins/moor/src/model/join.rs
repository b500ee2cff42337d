//! Records and kernel in one table.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use host::Owner;
use netlink::{Link, Mac};
use serde_json::Value;

use crate::networks::Networks;

use super::cgroup::Contained;
use super::records::Recorded;
use super::{Attachment, Claim, Drift, Kernel, Model, Named, Place, Port, State, identity};

/// The path of an attachment's namespace. podman's records have it in the result alone.
pub fn path_of(recorded: &Recorded) -> Option<PathBuf> {
    let record = &recorded.record;
    let sandbox = || Claim::of(record.result.as_ref(), &record.attachment.ifname).sandbox;
    let path = record.attachment.netns.clone().filter(|path| !path.is_empty()).or_else(sandbox);
    path.filter(|path| path.starts_with('/')).map(PathBuf::from)
}

/// The attachments that records name, then those that only the kernel knows, in order.
pub fn attachments(
    model: &Model,
    networks: &Networks,
    records: Vec<Recorded>,
    claims: Vec<Claim>,
) -> Vec<Attachment> {
    let index = Index::of(&model.kernel);
    let files = Files {
        stores: identity::nerdctl_stores(),
        names: model.names.iter().map(|named| (named.key(), named)).collect(),
    };
    let mut taken = HashSet::new();
    let mut all = Vec::with_capacity(records.len());
    for (recorded, claim) in records.into_iter().zip(claims) {
        let path = path_of(&recorded);
        let found = index.find(&recorded, &claim, path.as_ref(), model.is_whole);
        taken.extend(found.link.map(|(at, link)| (at, link.index)));
        let mut attachment = described(model, &found, claim);
        name(&mut attachment, model, recorded, path, &files);
        all.push(attachment);
    }
    all.extend(unrecorded(model, networks, &taken));
    let key = |one: &Attachment| (one.network.clone(), one.container_id.clone(), one.ifname.clone());
    all.sort_by_cached_key(key);
    all
}

/// What files beside the record have of attachments.
struct Files<'m> {
    /// nerdctl's names.
    stores: Vec<PathBuf>,
    /// Names of Moor's DNS, by network, container and interface.
    names: HashMap<[&'m str; 3], &'m Named>,
}

/// What the kernel has of a record.
struct Found<'k> {
    state: State,
    place: Option<usize>,
    link: Option<(usize, &'k Link)>,
    drift: Vec<Drift>,
}

/// Ways to find a link again.
struct Index<'k> {
    kernel: &'k Kernel,
    by_mac: HashMap<Mac, Vec<(usize, &'k Link)>>,
    by_host_name: HashMap<&'k str, &'k Link>,
    by_label: HashMap<&'k str, &'k Link>,
}

impl<'k> Index<'k> {
    fn of(kernel: &'k Kernel) -> Self {
        let mut by_mac: HashMap<_, Vec<_>> = HashMap::new();
        for (at, namespace) in kernel.namespaces.iter().enumerate() {
            for link in &namespace.links {
                if let Some(mac) = link.mac.filter(|mac| !mac.is_zero()) {
                    by_mac.entry(mac).or_default().push((at, link));
                }
            }
        }
        let by_host_name = kernel.host.links.iter().map(|link| (link.name.as_str(), link)).collect();
        let labelled = |link: &'k Link| Some((link.alias.as_deref()?, link));
        let by_label = kernel.host.links.iter().filter_map(labelled).collect();
        Self { kernel, by_mac, by_host_name, by_label }
    }

    fn find(&self, recorded: &Recorded, claim: &Claim, path: Option<&PathBuf>, is_whole: bool) -> Found<'k> {
        let absent = if is_whole { State::Gone } else { State::Unknown };
        let ended = |state| Found { state, place: None, link: None, drift: Vec::new() };
        let place = path.map_or(Place::Unknown, |path| self.kernel.place(path));
        let ifname = &recorded.record.attachment.ifname;
        if let Place::At(at) = place
            && let Some(namespace) = self.kernel.namespaces.get(at)
        {
            if namespace.fault.is_some() {
                return Found { place: Some(at), ..ended(State::Unknown) };
            }
            let named = namespace.links.iter().find(|link| link.name == *ifname);
            let link = named.map(|link| (at, link)).or_else(|| self.elsewhere(recorded, claim, Some(at)));
            if let Some(link) = link {
                let drift = self.drift(ifname, claim, link);
                // Another process may have this pid by now.
                let is_stranger = is_by_pid(path) && drift.len() > 1;
                let state = match (is_stranger, drift.is_empty()) {
                    (true, _) => return ended(State::Unknown),
                    (_, true) => State::Up,
                    (_, false) => State::Drift,
                };
                return Found { state, place: Some(at), link: Some(link), drift };
            }
            return Found { place: Some(at), ..ended(if is_by_pid(path) { State::Unknown } else { absent }) };
        }
        // The path is gone, or there is none; a descriptor or a process may still hold the namespace.
        match (self.elsewhere(recorded, claim, None), place) {
            (Some(link), _) => {
                let drift = self.drift(ifname, claim, link);
                let state = if drift.is_empty() { State::Up } else { State::Drift };
                Found { state, place: Some(link.0), link: Some(link), drift }
            }
            (None, Place::Nowhere) => ended(absent),
            (None, _) => ended(State::Unknown),
        }
    }

    /// The container's link by the other end, or by its MAC address.
    fn elsewhere(&self, recorded: &Recorded, claim: &Claim, at: Option<usize>) -> Option<(usize, &'k Link)> {
        let is_there = |(place, _): &(usize, &Link)| at.is_none_or(|at| at == *place);
        let id = &recorded.record.attachment;
        let label = Owner::new(&recorded.record.network, &id.container_id, &id.ifname).label();
        let by_label = self.by_label.get(label.as_str()).and_then(|host| self.kernel.container_end(host));
        if let Some(found) = by_label.filter(is_there) {
            return Some(found);
        }
        let mac = claim.mac?;
        // The name of a host's link may be another container's by now: the MAC address decides.
        let ends = claim.host_links.iter().filter_map(|name| self.by_host_name.get(name.as_str()));
        let by_end = ends.filter_map(|host| self.kernel.container_end(host));
        if let Some(found) = by_end.filter(is_there).find(|(_, link)| link.mac == Some(mac)) {
            return Some(found);
        }
        let mut by_mac = self.by_mac.get(&mac)?.iter().copied().filter(is_there);
        let holds = |(at, link): &(usize, &Link)| {
            let namespace = self.kernel.namespaces.get(*at);
            let has = |ip: &IpAddr| {
                namespace.is_some_and(|one| one.addresses_of(link).any(|address| address.net.ip() == *ip))
            };
            at_least_one(&claim.addresses, has)
        };
        match at {
            Some(_) => by_mac.next(),
            None => by_mac.find(holds),
        }
    }

    fn drift(&self, ifname: &str, claim: &Claim, (at, link): (usize, &Link)) -> Vec<Drift> {
        let mut drift = Vec::new();
        if link.name != ifname {
            drift.push(Drift::new("link", ifname, &link.name));
        }
        if let Some(expected) = claim.mac
            && link.mac != Some(expected)
        {
            drift.push(Drift::new("mac", expected, link.mac.map_or("none".into(), |mac| mac.to_string())));
        }
        let Some(namespace) = self.kernel.namespaces.get(at) else { return drift };
        let has = |ip: &&IpAddr| namespace.addresses.iter().any(|address| address.net.ip() == **ip);
        for missing in claim.addresses.iter().filter(|ip| !has(ip)) {
            let actual: Vec<IpAddr> = global(self.kernel, at, link).collect();
            drift.push(Drift::new("address", missing, joined(&actual)));
        }
        drift.extend(self.drift_outside(claim, at, link));
        drift
    }

    /// A veth's other end under another name than the result has.
    fn drift_outside(&self, claim: &Claim, at: usize, link: &Link) -> Option<Drift> {
        let is_bridge = |name: &&String| {
            let link = self.by_host_name.get(name.as_str());
            link.is_some_and(|link| link.kind.as_deref() == Some("bridge"))
        };
        let claimed: Vec<&str> =
            claim.host_links.iter().filter(|name| !is_bridge(name)).map(String::as_str).collect();
        let host = self.kernel.host_end(at, link).filter(|_| link.kind.as_deref() == Some("veth"))?;
        let is_as_claimed = claimed.is_empty() || claimed.contains(&host.name.as_str());
        (!is_as_claimed).then(|| Drift::new("host link", claimed.join(" "), &host.name))
    }
}

fn at_least_one(all: &[IpAddr], is_one: impl Fn(&IpAddr) -> bool) -> bool {
    all.is_empty() || all.iter().any(is_one)
}

fn is_by_pid(path: Option<&PathBuf>) -> bool {
    path.is_some_and(|path| path.starts_with("/proc"))
}

fn joined(ips: &[IpAddr]) -> String {
    let texts: Vec<String> = ips.iter().map(ToString::to_string).collect();
    if texts.is_empty() { "none".into() } else { texts.join(" ") }
}

/// RT_SCOPE_UNIVERSE (linux/rtnetlink.h): addresses that others reach.
const GLOBAL: u8 = 0;

fn global<'k>(kernel: &'k Kernel, at: usize, link: &Link) -> impl Iterator<Item = IpAddr> + use<'k> {
    let index = link.index;
    let addresses = kernel.namespaces.get(at).map(|namespace| namespace.addresses.as_slice());
    let own = addresses.unwrap_or_default().iter().filter(move |address| address.index == index);
    own.filter(|address| address.scope == GLOBAL).map(|address| address.net.ip())
}

/// An attachment with what the kernel has of it, else with what the result claims.
fn described(model: &Model, found: &Found<'_>, claim: Claim) -> Attachment {
    let kernel = &model.kernel;
    let namespace = found.place.and_then(|at| kernel.namespaces.get(at));
    let mut attachment = Attachment {
        state: found.state,
        namespace: found.place,
        pids: namespace.map(|namespace| namespace.pids.clone()).unwrap_or_default(),
        gateways: claim.gateways,
        drift: found.drift.clone(),
        ..Attachment::default()
    };
    let Some((at, link)) = found.link else {
        attachment.addresses = claim.addresses;
        attachment.mac = claim.mac.map(|mac| mac.to_string());
        return attachment;
    };
    // In the result's order, then those that it does not have.
    let actual: Vec<IpAddr> = global(kernel, at, link).collect();
    let has = |ips: &[IpAddr], ip: &IpAddr| ips.contains(ip);
    attachment.addresses = claim.addresses.iter().copied().filter(|ip| has(&actual, ip)).collect();
    attachment.addresses.extend(actual.iter().copied().filter(|ip| !has(&claim.addresses, ip)));
    attachment.mac = link.mac.map(|mac| mac.to_string());
    if let Some(host) = kernel.host_end(at, link) {
        attachment.host_link = Some(host.name.clone());
        attachment.host_ifindex = Some(host.index);
    }
    attachment
}

fn name(
    attachment: &mut Attachment,
    model: &Model,
    recorded: Recorded,
    path: Option<PathBuf>,
    files: &Files<'_>,
) {
    let Recorded { record, file, at } = recorded;
    let id = &record.attachment;
    attachment.network.clone_from(&record.network);
    attachment.container_id.clone_from(&id.container_id);
    attachment.ifname.clone_from(&id.ifname);
    attachment.name = identity::name(&record, &files.stores);
    attachment.pod = identity::pod(&record);
    attachment.ports = id.capabilities.get("portMappings").map(ports).unwrap_or_default();
    let named = files.names.get(&[record.network.as_str(), &id.container_id, &id.ifname]);
    let asked = || id.capabilities.get("aliases").map(|of| aliases(of, &record.network));
    attachment.names = named.map(|named| named.names.clone()).or_else(asked).unwrap_or_default();
    attachment.netns = path.map(|path| path.to_string_lossy().into_owned());
    let contained = contained(model, &attachment.pids, &id.container_id);
    let runtime = identity::runtime(&record, attachment.netns.as_deref(), contained);
    attachment.runtime = runtime.map(ToOwned::to_owned);
    attachment.record_file = Some(file);
    attachment.added_at = at;
    attachment.record = Some(Box::new(record));
}

/// The container of the processes in a namespace: the one with this id, else any.
fn contained<'m>(model: &'m Model, pids: &[u32], id: &str) -> Option<&'m Contained> {
    let containers = || pids.iter().filter_map(|pid| model.processes.by_pid.get(pid)?.container.as_ref());
    containers().find(|one| id.ends_with(&one.id)).or_else(|| containers().next())
}

/// The ports of the capability `portMappings`.
fn ports(mappings: &Value) -> Vec<Port> {
    let mappings = mappings.as_array().map(Vec::as_slice).unwrap_or_default();
    let number =
        |one: &Value, key| one.get(key).and_then(Value::as_u64).and_then(|port| port.try_into().ok());
    let text = |one: &Value, key| one.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let port = |one: &Value| {
        Some(Port {
            host_ip: text(one, "hostIP").and_then(|ip| ip.parse().ok()),
            host_port: number(one, "hostPort")?,
            container_port: number(one, "containerPort")?,
            protocol: text(one, "protocol").map_or("tcp".into(), |protocol| protocol.to_ascii_lowercase()),
        })
    };
    mappings.iter().filter_map(port).collect()
}

/// The names of the capability `aliases`: a list, or a map by network.
fn aliases(value: &Value, network: &str) -> Vec<String> {
    let list = value.get(network).unwrap_or(value).as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|name| name.as_str().map(ToOwned::to_owned)).collect()
}

/// The links of namespaces that a link of this host leads to, and that no record names.
fn unrecorded(model: &Model, networks: &Networks, taken: &HashSet<(usize, u32)>) -> Vec<Attachment> {
    let kernel = &model.kernel;
    let mut all = Vec::new();
    for (at, namespace) in kernel.namespaces.iter().enumerate() {
        for link in namespace.links.iter().filter(|link| !taken.contains(&(at, link.index))) {
            let Some(host) = kernel.host_end(at, link) else { continue };
            let found = Found {
                state: State::Unrecorded,
                place: Some(at),
                link: Some((at, link)),
                drift: Vec::new(),
            };
            let mut attachment = described(model, &found, Claim::default());
            attachment.netns = namespace.path().map(|path| path.to_string_lossy().into_owned());
            attachment.ifname.clone_from(&link.name);
            let contained = contained(model, &namespace.pids, "");
            attachment.runtime = contained.and_then(|one| one.runtime).map(ToOwned::to_owned);
            let labels = [&host.alias, &link.alias].into_iter().flatten();
            if let Some(owner) = labels.filter_map(|label| Owner::of_label(label)).next() {
                (attachment.network, attachment.container_id) = (owner.network, owner.container_id);
            } else {
                let name = namespace.paths.first().and_then(|path| path.file_name());
                let name = name.map(|name| name.to_string_lossy().into_owned());
                let id = contained
                    .map(|one| one.id.clone())
                    .or(name)
                    .or_else(|| namespace.pids.first().map(|pid| format!("pid:{pid}")));
                attachment.container_id = id.unwrap_or_default();
                attachment.network = network_of(kernel, host, networks).unwrap_or_default();
            }
            all.push(attachment);
        }
    }
    all
}

/// The network with the bridge that a link is a port of.
fn network_of(kernel: &Kernel, host: &Link, networks: &Networks) -> Option<String> {
    let bridge = kernel.host_link(host.master?)?;
    let has = |object: &serde_json::Map<String, Value>| {
        object.get("bridge").and_then(Value::as_str) == Some(&bridge.name)
    };
    let network =
        networks.all.iter().find(|one| one.list.plugins.iter().any(|plugin| has(&plugin.object)))?;
    Some(network.name().to_owned())
}
