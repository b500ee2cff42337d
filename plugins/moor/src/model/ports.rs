//! The ports of this host that lead somewhere, and who has them.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use host::Owner;
use host::iptables::{old_ports_chain, ports_chain};
use host::rules::published::{self, Listed};
use host::rules::{self, is_without_nf_tables};
use nft::Protocol;
use serde::Serialize;

use crate::files;
use crate::output::Note;

use super::{Attachment, Model, Processes, State, sockets};

/// The longest command line that is read, in bytes.
const COMMAND_MAX: u64 = 256 * 1024;

/// A port of the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// The port, or the first one of a range.
    pub port: u16,
    /// The last one of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<u16>,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The host's address; none means every address of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The container's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<IpAddr>,
    /// The container's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_port: Option<u16>,
    /// The container's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// The container's name, else the beginning of its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Its runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// The process that listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// `moor`, `moor (iptables)`, `portmap (nft)`, `portmap (iptables-nft)`, `socket`, or `record`:
    /// a runtime asked for it, and no rule is seen.
    pub by: &'static str,
    /// Whether another owner has it too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub conflict: bool,
}

impl HostPort {
    /// Whether a connection to this port, and at this address, could come here.
    pub fn takes(&self, protocol: &str, port: u16, address: Option<IpAddr>) -> bool {
        let has_port = self.port <= port && port <= self.last.unwrap_or(self.port);
        self.protocol == protocol && has_port && meets(self.address, address)
    }

    /// Who has it: the container, else the process.
    pub fn owner(&self) -> String {
        let id = self.container_id.as_deref().map(|id| id.get(..12).unwrap_or(id));
        match (self.container.as_deref().or(id), &self.program, self.pid) {
            (Some(container), ..) => container.to_owned(),
            (None, Some(program), Some(pid)) => format!("{program}, pid {pid}"),
            (None, None, Some(pid)) => format!("pid {pid}"),
            (None, ..) => String::new(),
        }
    }

    /// The family of what it is published to: rules of one family see no packets of the other.
    fn family(&self) -> Option<bool> {
        self.to.or(self.address).map(|address| address.is_ipv6())
    }
}

fn meets(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// Reads the ports, by number.
pub fn read(model: &Model, notes: &mut Vec<Note>) -> Vec<HostPort> {
    let mut all = Vec::new();
    match published(model) {
        Ok(ports) => all.extend(ports),
        Err(error) if is_without_nf_tables(&error) => {}
        Err(error) => notes.push(Note::new("rules", format!("{error:#}"))),
    }
    all.extend(recorded(model, &all));
    all.extend(listening(model, notes));
    note_legacy_tables(notes);
    mark_conflicts(&mut all);
    all.sort_by(|a, b| (a.port, &a.protocol, a.address, a.by).cmp(&(b.port, &b.protocol, b.address, b.by)));
    all
}

/// The ports that packet rules publish.
fn published(model: &Model) -> sys::Result<Vec<HostPort>> {
    let nft = rules::open()?;
    let mut all = Vec::new();
    for listed in published::published(&nft)? {
        let by = if listed.is_in_iptables { "moor (iptables)" } else { "moor" };
        let owner = Owner::of_label(&listed.owner);
        let of = |owner: &Owner| {
            model.attachments.iter().find(|one| {
                (&one.network, &one.container_id, &one.ifname)
                    == (&owner.network, &owner.container_id, &owner.ifname)
            })
        };
        let mut port = of_rule(&listed, by, owner.as_ref().and_then(of));
        if let (None, Some(owner)) = (&port.container_id, owner) {
            port.network = Some(owner.network);
            port.container_id = Some(owner.container_id);
        }
        all.push(port);
    }
    for listed in published::published_by_reference(&nft)? {
        let of = |one: &&Attachment| one.container_id == listed.owner;
        let candidates = || model.attachments.iter().filter(of);
        let owner =
            candidates().find(|one| one.addresses.contains(&listed.to)).or_else(|| candidates().next());
        let mut port = of_rule(&listed, "portmap (nft)", owner);
        port.container_id.get_or_insert(listed.owner);
        all.push(port);
    }
    all.extend(in_iptables(model, &published::chains_of_iptables(&nft)?));
    Ok(all)
}

fn of_rule(listed: &Listed, by: &'static str, owner: Option<&Attachment>) -> HostPort {
    let (first, last) = listed.ports;
    let port = HostPort {
        port: first,
        last: (last != first).then_some(last),
        protocol: Protocol(listed.proto).to_string(),
        address: listed.address,
        to: Some(listed.to),
        to_port: listed.target,
        by,
        ..HostPort::default()
    };
    owned(port, owner)
}

fn owned(port: HostPort, owner: Option<&Attachment>) -> HostPort {
    let Some(owner) = owner else { return port };
    HostPort {
        container_id: Some(owner.container_id.clone()),
        container: Some(owner.shown_name().to_owned()),
        network: Some(owner.network.clone()).filter(|network| !network.is_empty()),
        runtime: owner.runtime.clone(),
        ..port
    }
}

/// The reference's chains of iptables are named by a hash of network and container; the ports are
/// in the record.
fn in_iptables(model: &Model, chains: &[(sys::IpFamily, String)]) -> Vec<HostPort> {
    let mut all = Vec::new();
    for one in model.attachments.iter().filter(|one| !one.ports.is_empty() && !chains.is_empty()) {
        let names = [ports_chain, old_ports_chain].map(|name| name(&one.network, &one.container_id));
        for (family, _) in chains.iter().filter(|(_, chain)| names.contains(chain)) {
            let of_family = |ip: &&IpAddr| sys::IpFamily::of(**ip) == *family;
            let to = one.addresses.iter().find(of_family).copied();
            all.extend(ports_of(one, "portmap (iptables-nft)").map(|port| HostPort { to, ..port }));
        }
    }
    all
}

fn ports_of<'a>(one: &'a Attachment, by: &'static str) -> impl Iterator<Item = HostPort> + 'a {
    one.ports.iter().map(move |port| {
        let host = HostPort {
            port: port.host_port,
            protocol: port.protocol.clone(),
            address: port.host_ip.filter(|ip| !ip.is_unspecified()),
            to: one.addresses.first().copied(),
            to_port: Some(port.container_port),
            by,
            ..HostPort::default()
        };
        owned(host, Some(one))
    })
}

/// The ports that records of living attachments have, and that no rule was seen of.
fn recorded(model: &Model, known: &[HostPort]) -> Vec<HostPort> {
    let is_alive = |one: &&Attachment| matches!(one.state, State::Up | State::Drift);
    let all = model.attachments.iter().filter(is_alive).flat_map(|one| ports_of(one, "record"));
    // A port of 0 was chosen by the plugin.
    let is_new = |port: &HostPort| {
        let is_same = |known: &HostPort| {
            known.container_id == port.container_id && known.takes(&port.protocol, port.port, port.address)
        };
        port.port != 0 && !known.iter().any(is_same)
    };
    all.filter(is_new).collect()
}

/// The sockets that listen.
fn listening(model: &Model, notes: &mut Vec<Note>) -> Vec<HostPort> {
    let sockets = sockets::read(notes);
    let mut pids: Vec<u32> = model.processes.by_pid.keys().copied().collect();
    pids.sort_unstable();
    let (owners, hidden) = sockets::owners(&sockets, pids.into_iter());
    if hidden > 0 && sockets.iter().any(|socket| socket.owner(&owners).is_none()) {
        let text = format!("the sockets of {hidden} processes may not be looked at (needs CAP_SYS_PTRACE)");
        notes.push(Note::new("sockets", text));
    }
    let mut programs: HashMap<u32, Option<String>> = HashMap::new();
    let port = |socket: sockets::Socket| {
        let pid = socket.owner(&owners);
        let program =
            pid.and_then(|pid| programs.entry(pid).or_insert_with(|| Processes::program(pid)).clone());
        let address = Some(socket.address).filter(|address| !address.is_unspecified());
        let protocol = socket.protocol.to_owned();
        let port = HostPort {
            port: socket.port,
            protocol,
            address,
            pid,
            program,
            by: "socket",
            ..HostPort::default()
        };
        match pid {
            Some(pid) => of_process(model, pid, port),
            None => port,
        }
    };
    sockets.into_iter().map(port).collect()
}

/// The container that a process listens for: its own, or the one that docker-proxy hands to.
fn of_process(model: &Model, pid: u32, port: HostPort) -> HostPort {
    if let Some(container) = model.processes.by_pid.get(&pid).and_then(|process| process.container.as_ref()) {
        let is_its = |one: &&Attachment| one.container_id.ends_with(&container.id);
        let mut port = owned(port, model.attachments.iter().find(is_its));
        port.container_id.get_or_insert_with(|| container.id.clone());
        port.runtime = port.runtime.or(container.runtime.map(ToOwned::to_owned));
        return port;
    }
    if port.program.as_deref() != Some("docker-proxy") {
        return port;
    }
    let line = files::read(Path::new(&format!("/proc/{pid}/cmdline")), COMMAND_MAX).unwrap_or_default();
    let words: Vec<String> =
        line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into()).collect();
    let value = |flag: &str| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].clone());
    let to: Option<IpAddr> = value("-container-ip").and_then(|ip| ip.parse().ok());
    let to_port = value("-container-port").and_then(|port| port.parse().ok());
    let has = |one: &&Attachment| to.is_some_and(|to| one.addresses.contains(&to));
    owned(HostPort { to, to_port, ..port }, model.attachments.iter().find(has))
}

/// Rules of legacy iptables are not read: they need a second parser.
fn note_legacy_tables(notes: &mut Vec<Note>) {
    for file in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
        if fs::read_to_string(file).is_ok_and(|tables| tables.lines().any(|table| table == "nat")) {
            let text = "a nat table of legacy iptables exists and is not looked into";
            notes.push(Note::about("legacy-iptables", Path::new(file), text));
        }
    }
}

/// A published port is taken from whoever else has it, except from the same container: its runtime
/// may listen there, so that nobody else can.
fn mark_conflicts(all: &mut [HostPort]) {
    let mut conflicts = Vec::new();
    let mut by_port: HashMap<u16, Vec<usize>> = HashMap::new();
    let mut ranges = Vec::new();
    for (at, one) in all.iter().enumerate() {
        match one.last {
            Some(_) => ranges.push(at),
            None => by_port.entry(one.port).or_default().push(at),
        }
    }
    for (at, one) in all.iter().enumerate().filter(|(_, one)| !matches!(one.by, "socket" | "record")) {
        let near = match one.last {
            Some(last) => (one.port..=last).flat_map(|port| by_port.get(&port)).flatten().copied().collect(),
            None => by_port.get(&one.port).cloned().unwrap_or_default(),
        };
        for other_at in near.into_iter().chain(ranges.iter().copied()).filter(|other| *other != at) {
            let Some(other) = all.get(other_at) else { continue };
            let overlaps = one.protocol == other.protocol
                && one.port <= other.last.unwrap_or(other.port)
                && other.port <= one.last.unwrap_or(one.port)
                && meets(one.address, other.address);
            let is_other_family = matches!((one.family(), other.family()), (Some(a), Some(b)) if a != b);
            let is_own = one.container_id.is_some() && one.container_id == other.container_id;
            if overlaps && !is_own && !is_other_family {
                conflicts.extend([at, other_at]);
            }
        }
    }
    for at in conflicts {
        if let Some(one) = all.get_mut(at) {
            one.conflict = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16, by: &'static str, container: Option<&str>) -> HostPort {
        let container_id = container.map(ToOwned::to_owned);
        HostPort { port, protocol: "tcp".into(), by, container_id, ..HostPort::default() }
    }

    #[test]
    fn a_published_port_conflicts_with_another_owners_and_not_with_its_own_runtimes() {
        let range = HostPort { last: Some(9100), ..port(9000, "moor", Some("c3")) };
        let mut all = [
            port(80, "moor", Some("c1")),
            port(80, "socket", Some("c1")),
            port(81, "portmap (nft)", Some("c1")),
            port(81, "socket", None),
            port(22, "socket", None),
            port(22, "socket", Some("c2")),
            range,
            port(9050, "socket", None),
        ];
        mark_conflicts(&mut all);
        let marked: Vec<bool> = all.iter().map(|one| one.conflict).collect();
        assert_eq!(marked, [false, false, true, true, false, false, true, true]);
    }

    #[test]
    fn a_port_takes_its_own_protocol_and_address() {
        let address = "192.0.2.1".parse().ok();
        let one = HostPort { address, ..port(80, "moor", None) };
        assert!(one.takes("tcp", 80, None) && one.takes("tcp", 80, address));
        assert!(!one.takes("udp", 80, None) && !one.takes("tcp", 81, None));
        assert!(!one.takes("tcp", 80, "192.0.2.2".parse().ok()));
    }
}
