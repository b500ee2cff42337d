//! An overlay network on this host, as its packet rules know it.

use std::net::IpAddr;

/// What the rules need to know of an overlay network on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayNetwork {
    /// Name of its bridge.
    pub bridge: String,
    /// The UDP port of its VXLAN packets.
    pub port: u16,
    /// The host's addresses on the bridge.
    pub addresses: Vec<IpAddr>,
    /// Nothing outside is reached.
    pub internal: bool,
}
