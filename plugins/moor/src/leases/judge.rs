//! Whether a lease is used. An address is called leaked only when nothing of its container is left
//! anywhere, and everything could be looked at.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use host::Owner;
use serde::Serialize;

use crate::model::{Model, State};

use super::stores::Lease;

/// The state of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// Its container, or its address, is there.
    Used,
    /// Nothing is left of its container, but it is too young to be judged.
    New,
    /// Nothing is left of its container.
    Leaked,
    /// The same, and it was written before this boot.
    EarlierBoot,
    /// The file is empty: the address is free.
    Free,
    /// It could not be decided.
    Unknown,
}

impl LeaseState {
    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::New => "new",
            Self::Leaked => "leaked",
            Self::EarlierBoot => "earlier boot",
            Self::Free => "free",
            Self::Unknown => "unknown",
        }
    }

    /// Whether nothing is left of the container.
    pub fn is_dead(self) -> bool {
        matches!(self, Self::Leaked | Self::EarlierBoot)
    }
}

/// What shows that a container is there.
#[derive(Debug, Default)]
pub struct Evidence {
    /// Containers with an attachment that is there.
    alive: HashSet<String>,
    /// Containers with an attachment that could not be looked at.
    unknown: HashSet<String>,
    /// Containers of processes.
    processes: HashSet<String>,
    /// Containers that a label of a link names.
    labels: HashSet<String>,
    /// Addresses of links.
    addresses: HashSet<IpAddr>,
    /// Whether everything could be looked at.
    is_whole: bool,
}

/// How a lease is judged, beside the evidence.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Now.
    pub now: SystemTime,
    /// When this host was booted.
    pub boot: SystemTime,
    /// A younger lease is not judged.
    pub older_than: Duration,
}

impl Limits {
    /// The limits at this moment.
    pub fn of(older_than: Duration) -> Self {
        let now = SystemTime::now();
        let up = sys::clock::since_boot().map(Duration::from_nanos).unwrap_or_default();
        Self { now, boot: now.checked_sub(up).unwrap_or(SystemTime::UNIX_EPOCH), older_than }
    }
}

impl Evidence {
    /// Takes it from the model.
    pub fn of(model: &Model) -> Self {
        let kernel = &model.kernel;
        let mut evidence = Self {
            is_whole: model.is_whole && kernel.namespaces.iter().all(|one| one.fault.is_none()),
            ..Self::default()
        };
        for one in &model.attachments {
            match one.state {
                State::Gone => false,
                State::Unknown => evidence.unknown.insert(one.container_id.clone()),
                _ => evidence.alive.insert(one.container_id.clone()),
            };
        }
        let containers = model.processes.by_pid.values().filter_map(|process| process.container.as_ref());
        evidence.processes = containers.map(|container| container.id.clone()).collect();
        let links = kernel.namespaces.iter().flat_map(|one| &one.links).chain(&kernel.host.links);
        let labels = links.filter_map(|link| link.alias.as_deref()).filter_map(container_of_label);
        evidence.labels = labels.map(ToOwned::to_owned).collect();
        let addresses = kernel.namespaces.iter().flat_map(|one| &one.addresses);
        let addresses = addresses.chain(&kernel.host.addresses);
        evidence.addresses = addresses.map(|address| address.net.ip()).collect();
        evidence
    }

    /// The state of a lease, and what shows that it is used.
    pub fn judge(&self, lease: &Lease, limits: &Limits) -> (LeaseState, Vec<&'static str>) {
        if lease.container_id.is_empty() {
            return (LeaseState::Free, Vec::new());
        }
        let found = self.found(lease);
        let age = limits.now.duration_since(lease.written).unwrap_or_default();
        let state = if !found.is_empty() {
            LeaseState::Used
        } else if age < limits.older_than {
            LeaseState::New
        } else if !self.is_whole || self.unknown.contains(&lease.container_id) {
            LeaseState::Unknown
        } else if lease.written < limits.boot {
            LeaseState::EarlierBoot
        } else {
            LeaseState::Leaked
        };
        (state, found)
    }

    fn found(&self, lease: &Lease) -> Vec<&'static str> {
        let id = &lease.container_id;
        // nerdctl puts the containerd namespace before the id.
        let bare = id.rsplit_once('-').map_or("", |(_, bare)| bare);
        let is_labelled = || {
            let label = Owner::new("", id, "").label();
            container_of_label(&label).is_some_and(|id| self.labels.contains(id))
        };
        let checks = [
            (self.addresses.contains(&lease.address), "address"),
            (self.alive.contains(id), "record"),
            (self.processes.contains(id) || self.processes.contains(bare), "process"),
            (!self.labels.is_empty() && is_labelled(), "alias"),
        ];
        checks.into_iter().filter_map(|(is_there, word)| is_there.then_some(word)).collect()
    }
}

/// The container in the label of a link.
fn container_of_label(label: &str) -> Option<&str> {
    label.strip_prefix("moor/").and_then(|rest| rest.rsplit_once('/')).map(|(_, container)| container)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn state(evidence: &Evidence, id: &str, age: u64) -> LeaseState {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let limits =
            Limits { now, boot: now - Duration::from_secs(5000), older_than: Duration::from_secs(600) };
        let written = now - Duration::from_secs(age);
        let address = "10.1.2.3".parse().unwrap();
        let lease = Lease { address, container_id: id.into(), ifname: "eth0".into(), written };
        evidence.judge(&lease, &limits).0
    }

    #[test]
    fn each_trace_of_a_container_keeps_its_lease() {
        let set = |text: &str| HashSet::from([text.to_owned()]);
        let none = Evidence { is_whole: true, ..Evidence::default() };
        assert_eq!(state(&none, "ns-c1", 700), LeaseState::Leaked);
        assert_eq!(state(&none, "ns-c1", 500), LeaseState::New);
        assert_eq!(state(&none, "ns-c1", 6000), LeaseState::EarlierBoot);
        assert_eq!(state(&none, "", 700), LeaseState::Free);
        let address = HashSet::from(["10.1.2.3".parse().unwrap()]);
        for evidence in [
            Evidence { alive: set("ns-c1"), ..Evidence::default() },
            Evidence { processes: set("c1"), ..Evidence::default() },
            Evidence { labels: set("ns-c1"), ..Evidence::default() },
            Evidence { addresses: address, ..Evidence::default() },
        ] {
            let evidence = Evidence { is_whole: true, ..evidence };
            assert_eq!(state(&evidence, "ns-c1", 6000), LeaseState::Used, "{evidence:?}");
        }
    }

    #[test]
    fn what_could_not_be_looked_at_is_never_leaked() {
        assert_eq!(state(&Evidence::default(), "c1", 700), LeaseState::Unknown);
        let unknown = HashSet::from(["c1".to_owned()]);
        let evidence = Evidence { is_whole: true, unknown, ..Evidence::default() };
        assert_eq!(state(&evidence, "c1", 6000), LeaseState::Unknown);
    }
}
