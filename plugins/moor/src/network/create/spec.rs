//! What a person asks for, as it is written: by flags, in a compose file, or in the networks of
//! another tool.

use std::collections::BTreeMap;

/// A network to be made. Everything is text, and nothing is checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spec {
    /// The name.
    pub name: String,
    /// `bridge`, `macvlan`, `ipvlan` or `overlay`; empty means `bridge`.
    pub driver: String,
    /// Subnets: `10.1.0.0/24`.
    pub subnets: Vec<String>,
    /// Gateways; each belongs to the subnet that holds it.
    pub gateways: Vec<String>,
    /// Parts of subnets that addresses are given from: `10.1.0.128/25`, or `FIRST-LAST`.
    pub ip_ranges: Vec<String>,
    /// Addresses that others have, by a name.
    pub aux_addresses: Vec<(String, String)>,
    /// Whether there are IPv4 addresses; `None` follows the subnets.
    pub ipv4: Option<bool>,
    /// Whether there are IPv6 addresses; `None` follows the subnets.
    pub ipv6: Option<bool>,
    /// No way outside.
    pub internal: bool,
    /// `default`, `host-local`, `none`, `dhcp`, `static` or `cluster`; empty means `default`.
    pub ipam_driver: String,
    /// Keys of the IPAM plugin.
    pub ipam_options: Vec<(String, String)>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver, by the names that docker and podman have for them.
    pub options: Vec<(String, String)>,
    /// No names for containers.
    pub disable_dns: bool,
    /// Name servers that queries are forwarded to.
    pub dns: Vec<String>,
    /// Routes of containers: `DESTINATION,GATEWAY[,METRIC]`.
    pub routes: Vec<String>,
    /// Mark the network as nerdctl's.
    pub for_nerdctl: bool,
}
