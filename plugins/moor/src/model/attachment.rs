//! One attachment of one container to one network.

use std::net::IpAddr;
use std::path::PathBuf;

use runtime::Record;
use serde::Serialize;

/// An attachment, as `ps` prints it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The name that a person knows the container by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The pod, under Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<Pod>,
    /// The interface in the container.
    pub ifname: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The gateways of its addresses.
    pub gateways: Vec<IpAddr>,
    /// Its MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The other host that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The link on the host that leads to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_link: Option<String>,
    /// The index of that link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ifindex: Option<u32>,
    /// The path of the network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// The processes in the namespace.
    pub pids: Vec<u32>,
    /// The published ports.
    pub ports: Vec<Port>,
    /// The names that the network's DNS answers for it.
    pub names: Vec<String>,
    /// `podman`, `containerd`, `nerdctl`, `cri-o`, `docker`, `nomad`, `moor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Whether it is alive.
    pub state: State,
    /// Where kernel and record differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drift: Vec<Drift>,
    /// The runtime's record of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_file: Option<PathBuf>,
    /// When it was added: seconds since 1970, by the record's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added_at: Option<u64>,
    /// The record itself.
    #[serde(skip)]
    pub record: Option<Box<Record>>,
    /// The position of its namespace in [`super::Kernel::namespaces`].
    #[serde(skip)]
    pub namespace: Option<usize>,
}

/// How much of an id is shown, as docker has it.
const ID_SHOWN: usize = 12;

impl Attachment {
    /// The container's name, else the beginning of its id.
    pub fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or_else(|| self.short_id())
    }

    /// The beginning of the container's id.
    pub fn short_id(&self) -> &str {
        self.container_id.get(..ID_SHOWN).unwrap_or(&self.container_id)
    }

    /// Whether it holds its address, or may hold it: everything but what is gone.
    pub fn may_be_alive(&self) -> bool {
        self.state != State::Gone
    }
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Pod {
    /// The Kubernetes namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The UID, where the runtime passes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// The address of the host; none means every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The port of the host.
    pub host_port: u16,
    /// The port of the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// Whether an attachment is alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Record and kernel agree.
    Up,
    /// Record and kernel differ.
    Drift,
    /// The namespace or the link is no more.
    Gone,
    /// The kernel has it, and no file knows it.
    Unrecorded,
    /// It could not be looked at; never treated as gone.
    #[default]
    Unknown,
    /// It is on another host of the cluster.
    Remote,
    /// It is on another host, which gives no sign of life.
    Silent,
}

/// A difference between record and kernel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// What differs: `mac`, `address`, `link`.
    pub what: &'static str,
    /// As the record has it.
    pub expected: String,
    /// As the kernel has it.
    pub actual: String,
}

impl State {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Drift => "drift",
            Self::Gone => "gone",
            Self::Unrecorded => "unrecorded",
            Self::Unknown => "unknown",
            Self::Remote => "remote",
            Self::Silent => "silent",
        }
    }
}

impl Drift {
    pub(super) fn new(what: &'static str, expected: impl ToString, actual: impl ToString) -> Self {
        Self { what, expected: expected.to_string(), actual: actual.to_string() }
    }
}
