//! The record of an attachment.

use std::net::{IpAddr, SocketAddr};

use host::Owner;
use serde::{Deserialize, Serialize};

use super::name::encoded;

/// The identity of an attachment: its [`Owner`] without the network, which names the directory of
/// the record, and stands once in a request to the responder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    /// `CNI_CONTAINERID`
    pub container: String,
    /// `CNI_IFNAME`
    pub ifname: String,
}

impl Key {
    /// The owner of what belongs to the attachment, on that network.
    pub fn on(&self, network: &str) -> Owner {
        Owner::new(network, &self.container, &self.ifname)
    }

    /// The name of its file. No container id contains an `@`.
    pub fn file_name(&self) -> String {
        format!("{}@{}.json", encoded(&self.container), self.ifname)
    }
}

/// The key of a record taken over from dnsname, which keeps addresses but no container ids. It
/// differs from all others, since no container id begins with `=`.
pub fn dnsname_key(ip: IpAddr) -> Key {
    Key { container: format!("{DNSNAME_PREFIX}{ip}"), ifname: "dnsname".to_owned() }
}

/// The beginning of such a file's name.
pub const DNSNAME_PREFIX: &str = "=";

/// The identity of a network namespace, independent of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its inode, which may be reused once the namespace is gone.
    pub inode: u64,
    /// Its cookie, which is unique until the next boot (Linux 5.14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
}

/// An attachment: its names and addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub struct Attachment {
    /// [`super::VERSION`]
    pub v: u32,
    /// The network's name.
    pub network: String,
    /// Its identity.
    pub key: Key,
    /// In lower case, without duplicates, the primary name first; never empty.
    pub names: Vec<String>,
    /// The container's addresses on this network.
    pub ips: Vec<IpAddr>,
    /// Upstream servers for this container; the network's if absent.
    pub upstreams: Option<Vec<SocketAddr>>,
    /// The link of the host that leads to this container only (ptp). Its queries arrive by
    /// this link or by those of [`super::Network::ingress`].
    pub ingress: Option<String>,
    /// Path of the container's network namespace, in mode [`super::Mode::Netns`].
    pub netns: Option<String>,
    /// The namespace at that path at ADD. Records of an earlier release have none.
    pub namespace: Option<Namespace>,
    /// When it was attached, in nanoseconds of CLOCK_BOOTTIME. Orders the networks of a
    /// container.
    pub order: u64,
}

/// The layout in the file, where the key's fields stand beside the others. (serde can flatten,
/// at the cost of 20 KB of code.)
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
