//! The record of an attachment.

use std::net::{IpAddr, SocketAddr};

use host::Owner;
use serde::{Deserialize, Serialize};

use super::name::encoded;

/// What an attachment is found by, whatever its names are: its [`Owner`] without the network, which names the directory
/// of its record, and stands once in a request to the responder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// `CNI_CONTAINERID`
    pub container: String,
    /// `CNI_IFNAME`
    pub ifname: String,
}

impl Key {
    /// The owner, on that network.
    pub fn on(&self, network: &str) -> Owner {
        Owner::new(network, &self.container, &self.ifname)
    }

    /// The name of its file. No container id holds an `@`.
    pub fn file_name(&self) -> String {
        format!("{}@{}.json", encoded(&self.container), self.ifname)
    }
}

/// The key of what dnsname registered for an address, which it kept no container's id of. No attachment of a container
/// has such a one: no id begins with `=`.
pub fn of_dnsname(ip: IpAddr) -> Key {
    Key { container: format!("{OF_DNSNAME}{ip}"), ifname: "dnsname".to_owned() }
}

/// How the names of their files begin.
pub const OF_DNSNAME: &str = "=";

/// Which network namespace it is, whatever its path leads to by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode, which another namespace may get once it is gone.
    pub inode: u64,
    /// Its cookie, which no other gets before the next boot (Linux 5.14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

/// An attachment: its names and where they lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Attachment {
    /// [`super::VERSION`]
    pub v: u32,
    /// The network's name.
    pub network: String,
    /// What it is found by.
    pub key: Key,
    /// In lower case, each once, the primary one first; never empty.
    pub names: Vec<String>,
    /// The container's addresses on this network.
    pub ips: Vec<IpAddr>,
    /// Servers for what this container asks of the outside; the network's when absent.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// The link of the host that leads to this container alone (ptp): its questions arrive by it, besides by the
    /// links of [`super::Network::ingress`].
    pub ingress: Option<String>,
    /// Path of the container's network namespace, in mode [`super::Mode::Netns`].
    pub netns: Option<String>,
    /// What was at that path at ADD. A record of an earlier release has none.
    pub namespace: Option<Namespace>,
    /// When it was attached, in nanoseconds of CLOCK_BOOTTIME: of a container's networks the earlier come first.
    pub order: u64,
}

/// As it stands in the file: the key's parts beside the others. (serde can flatten by itself, by means that take 20 KB of
/// an executable.)
#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    network: String,
    container: String,
    ifname: String,
    names: Vec<String>,
    ips: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upstreams: Option<Vec<SocketAddr>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ingress: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    namespace: Option<Namespace>,
    order: u64,
}

impl From<Written> for Attachment {
    fn from(written: Written) -> Self {
        let Written {
            v,
            network,
            container,
            ifname,
            names,
            ips,
            upstreams,
            ingress,
            netns,
            namespace,
            order,
        } = written;
        let key = Key { container, ifname };
        Self { v, network, key, names, ips, upstreams, ingress, netns, namespace, order }
    }
}

impl From<Attachment> for Written {
    fn from(attachment: Attachment) -> Self {
        let Attachment { v, network, key, names, ips, upstreams, ingress, netns, namespace, order } =
            attachment;
        let Key { container, ifname } = key;
        Self { v, network, container, ifname, names, ips, upstreams, ingress, netns, namespace, order }
    }
}
