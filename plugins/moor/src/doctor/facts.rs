//! What the judgements are made from: plain data, read before any of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use host::rules::ForeignChain;
use ipnetwork::IpNetwork;

use crate::output::Note;
use crate::overlay::Asked;

/// The host.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub release: String,
    /// Parts of the kernel, by the name of their module.
    pub features: BTreeMap<&'static str, Has>,
    /// Kernel parameters that exist, by their path below `/proc/sys`.
    pub sysctls: BTreeMap<String, String>,
    pub links: Vec<LinkFacts>,
    pub addresses: Vec<(String, IpNetwork)>,
    /// Routes of all tables: destination, link.
    pub routes: Vec<(IpNetwork, String)>,
    /// Links of default routes.
    pub uplinks: Vec<String>,
    /// Links with IPv6 routes from routers.
    pub advertised: Vec<String>,
    /// Base chains of others; `None` when they could not be listed.
    pub chains: Option<Vec<ForeignChain>>,
    /// Legacy iptables tables, `ip filter`.
    pub legacy_tables: Vec<String>,
    pub conntrack: Option<Conntrack>,
    pub networks: Vec<NetworkFacts>,
    /// Files that could not be read.
    pub unreadable: Vec<Note>,
    /// The first file of the configuration directory, readable or not.
    pub first_file: Option<PathBuf>,
    pub plugins: Vec<PluginFacts>,
    /// Sockets at port 53 that are not the responder's.
    pub port53: Vec<Listener>,
    /// A control socket of the responder exists; whether it answers.
    pub responder: Option<bool>,
    pub name_servers: Vec<IpAddr>,
    pub signs: Signs,
    /// Open files of the system, and their limit.
    pub files: Option<(u64, u64)>,
    /// Addresses that several containers of one network have, and who they are.
    pub twice: Vec<(IpAddr, Vec<String>)>,
    /// Of a host that belongs to a cluster, or has a network over many hosts.
    pub overlay: Option<OverlayFacts>,
}

/// The host as a part of a cluster.
#[derive(Clone, Debug, Default)]
pub struct OverlayFacts {
    /// Networks of conflists with the plugin `overlay` or `cluster`.
    pub conflists: Vec<String>,
    /// Why the configuration of the host cannot be used.
    pub unusable: Option<String>,
    /// The members of etcd, each with what connecting to it resulted in.
    pub members: Vec<(String, Option<String>)>,
    /// Certificates, and other files that the configuration names.
    pub credentials: Vec<Credential>,
    pub agent: Asked,
    /// Attachments of this host.
    pub attached: usize,
    /// Networks that this host knows: name, MTU of the containers' links, encrypted.
    pub networks: Vec<(String, u32, bool)>,
    /// The UDP port of VXLAN.
    pub port: u16,
    /// The program that has it.
    pub port_taken: Option<String>,
    /// The host is a virtual machine of VMware.
    pub vmware: bool,
}

/// A file that the configuration of a host names.
#[derive(Clone, Debug)]
pub struct Credential {
    pub key: &'static str,
    pub path: PathBuf,
    /// Seconds until the first of its certificates expires, if it has some; or the fault.
    pub state: Result<Option<i64>, String>,
}

/// Whether the kernel has a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Has {
    Yes,
    /// Its module is installed, and is loaded when needed.
    Loadable,
    No,
    /// Only a request that could load a module would show.
    Unknown,
}

#[derive(Clone, Debug, Default)]
pub struct LinkFacts {
    pub name: String,
    pub kind: String,
    pub mtu: u32,
    pub master: Option<String>,
}

/// Counters of connection tracking.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conntrack {
    pub count: u64,
    pub max: u64,
    pub insert_failed: u64,
    pub drop: u64,
}

/// What a conflist asks for.
#[derive(Clone, Debug, Default)]
pub struct NetworkFacts {
    pub name: String,
    pub file: PathBuf,
    /// The types of its plugins and of their IPAM plugins.
    pub types: Vec<String>,
    /// Of its first plugin.
    pub bridge: Option<String>,
    pub master: Option<String>,
    pub subnets: Vec<IpNetwork>,
    pub gateways: Vec<IpAddr>,
    /// Its packets are forwarded by the host.
    pub routed: bool,
    pub hairpin: bool,
    pub host_access: bool,
    /// Each range: its size, and how many addresses are leased.
    pub ranges: Vec<RangeFacts>,
}

#[derive(Clone, Debug, Default)]
pub struct RangeFacts {
    pub text: String,
    pub size: u64,
    pub used: u64,
}

impl NetworkFacts {
    pub fn has(&self, plugin: &str) -> bool {
        self.types.iter().any(|of| of == plugin)
    }
}

/// A type that conflists name, in the path.
#[derive(Clone, Debug, Default)]
pub struct PluginFacts {
    pub name: String,
    /// The networks that name it.
    pub networks: Vec<String>,
    /// Every executable of the name in the path, in order.
    pub found: Vec<Copy>,
    /// A path outside of the plugin path, where one was found instead.
    pub elsewhere: Option<PathBuf>,
    /// What STATUS and VERSION returned, when they were run: the errors.
    pub faults: Vec<String>,
    pub path: Vec<PathBuf>,
}

/// One executable.
#[derive(Clone, Debug, Default)]
pub struct Copy {
    pub path: PathBuf,
    pub executable: bool,
    /// Its mount forbids to execute.
    pub noexec: Option<PathBuf>,
    /// By which copies are compared.
    pub digest: u64,
    pub suite: &'static str,
    /// The versions of the specification that it reports.
    pub versions: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Listener {
    pub address: IpAddr,
    pub protocol: &'static str,
    /// `dnsmasq, pid 812`.
    pub who: String,
}

/// Traces of other programs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    pub kubernetes: bool,
    /// podman with networks of CNI: its prune removes all that its own containers do not use.
    pub podman_cni: bool,
    pub firewalld: bool,
    /// The unit that makes rules again after firewalld has reloaded.
    pub firewalld_reapply: bool,
}

impl Facts {
    pub fn sysctl(&self, key: &str) -> Option<&str> {
        self.sysctls.get(key).map(String::as_str)
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        self.sysctl(key)?.trim().parse().ok()
    }

    pub fn link(&self, name: &str) -> Option<&LinkFacts> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The bridges of conflists that exist, each with its network.
    pub fn bridges(&self) -> impl Iterator<Item = (&LinkFacts, &NetworkFacts)> {
        let bridge = |network: &NetworkFacts| network.bridge.clone();
        self.networks.iter().filter_map(move |network| Some((self.link(&bridge(network)?)?, network)))
    }
}
