//! `/etc/moor/cluster.json`: how a host reaches etcd, and how the cluster treats it. No secret is in
//! it, only paths of secrets.

use std::net::IpAddr;
use std::path::PathBuf;

/// What a plugin does when etcd is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnreachable {
    /// It goes on with what this host has.
    #[default]
    Local,
    /// An ADD that cannot be published fails.
    Fail,
}

/// The settings, checked, with their defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `https://host:port`, or `http://` to loopback.
    pub endpoints: Vec<String>,
    /// PEM file of the authority that signed the members' certificates.
    pub ca: Option<PathBuf>,
    /// PEM file of this host's certificate.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// etcd's user.
    pub user: Option<String>,
    /// File with the user's password, 0600.
    pub password_file: Option<PathBuf>,
    /// Plain HTTP to other hosts is allowed, and the members' names are not checked.
    pub insecure: bool,
    /// Keys begin with `<prefix>/1/`.
    pub prefix: String,
    /// The host's name, for people; the node name if absent.
    pub host_name: Option<String>,
    /// The sources of VXLAN packets, at most one of a family; empty: the source address of the route
    /// to the first member that answers.
    pub host_addresses: Vec<IpAddr>,
    /// UDP port of VXLAN.
    pub port: u16,
    /// UDP port of VXLAN inside WireGuard.
    pub encrypted_port: u16,
    /// UDP port of WireGuard.
    pub wireguard_port: u16,
    /// Seconds until a host without a sign of life is silent.
    pub host_ttl_s: u32,
    /// Seconds until a silent host's addresses are free; 0: never by itself.
    pub reclaim_after_s: u32,
    /// The longest wait of a plugin for the agent or etcd, in milliseconds.
    pub timeout_ms: u32,
    /// What ADD does when etcd is away.
    pub when_unreachable: WhenUnreachable,
}
