//! What a record says.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink::Mac;

use crate::ports::{Chosen, Container};
use crate::{Attached, Namespace, OverlayNetwork, Owner, Zone};

/// The packet rules of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Their owner.
    pub owner: Owner,
    /// Its published ports.
    pub containers: Vec<Container>,
    /// The iptables chain of its ports, if they are there: these are not restored.
    pub chain: Option<String>,
    /// The chosen ones among its ports.
    pub chosen: Vec<Chosen>,
    /// Links that got `route_localnet` because of published ports.
    pub localnet: Vec<String>,
    /// Masqueraded addresses, and the subnets inside which they are not masqueraded.
    pub masquerade: Option<(Vec<IpAddr>, Vec<IpNetwork>)>,
    /// The iptables chain that masquerades it, and the addresses that lead to it.
    pub masquerade_chain: Option<(String, Vec<IpAddr>)>,
    /// A bridge port, and the MAC address that it accepts.
    pub mac_filter: Option<(String, Mac)>,
    /// A link of the host, and the source addresses that it accepts.
    pub sources: Option<(String, Vec<IpAddr>)>,
    /// A bridge port, and the MAC address and the source addresses of its frames.
    pub frames: Option<(String, Mac, Vec<IpAddr>)>,
    /// Its overlay network.
    pub overlay: Option<OverlayNetwork>,
    /// Links of the host towards it, and its addresses, with connections that bypass the rules.
    pub fast_path: Option<(Vec<String>, Vec<IpAddr>)>,
    /// Its addresses that chains of iptables accept: these are not restored.
    pub accepted: Vec<IpAddr>,
    /// Its addresses in a zone of firewalld.
    pub zone: Option<Zone>,
    /// What it has behind the host's firewall.
    pub firewall: Option<Attached>,
    /// The container's network namespace, if no link of the host shows whether the attachment is
    /// alive.
    pub netns: Option<Namespace>,
}

impl Record {
    /// The record of an attachment without rules.
    pub fn new(owner: Owner) -> Self {
        Self {
            owner,
            containers: Vec::new(),
            chain: None,
            chosen: Vec::new(),
            localnet: Vec::new(),
            masquerade: None,
            masquerade_chain: None,
            mac_filter: None,
            sources: None,
            frames: None,
            overlay: None,
            fast_path: None,
            accepted: Vec::new(),
            zone: None,
            firewall: None,
            netns: None,
        }
    }
}
