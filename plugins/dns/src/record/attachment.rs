//! The record of an attachment.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::name::encoded;

/// What an attachment is found by, whatever its names are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// `CNI_CONTAINERID`
    pub container: String,
    /// `CNI_IFNAME`
    pub ifname: String,
}

impl Key {
    /// The name of its file. No container id holds an `@`.
    pub fn file_name(&self) -> String {
        format!("{}@{}.json", encoded(&self.container), self.ifname)
    }
}

/// An attachment: its names and where they lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// [`super::VERSION`]
    pub v: u32,
    /// The network's name.
    pub network: String,
    /// What it is found by.
    #[serde(flatten)]
    pub key: Key,
    /// In lower case, each once, the primary one first; never empty.
    pub names: Vec<String>,
    /// The container's addresses on this network.
    pub ips: Vec<IpAddr>,
    /// Servers for what this container asks of the outside; the network's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstreams: Option<Vec<SocketAddr>>,
    /// The link of the host that leads to this container alone (ptp): its questions arrive by it, besides by the
    /// links of [`super::Network::ingress`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<String>,
    /// Path of the container's network namespace, in mode [`super::Mode::Netns`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// When it was attached, in nanoseconds of CLOCK_BOOTTIME: of a container's networks the earlier come first.
    pub order: u64,
}
