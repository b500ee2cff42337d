//! A network: what a configuration asks for against what its record fixes, its bounds, and the names
//! of its links.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sys::IpFamily;

use crate::block;
use crate::left_out::Fault;
use crate::record::Net;
use crate::usable::{hold, is_usable, is_usable_subnet};

/// Bytes of outer headers of a VXLAN packet, the inner Ethernet header among them: IPv4, IPv6.
const VXLAN_OVERHEAD: (u32, u32) = (50, 70);
/// Bytes of WireGuard's headers around that packet: underlay IPv4, IPv6. Inside is always IPv6.
const WIREGUARD_OVERHEAD: (u32, u32) = (60, 80);
/// The largest MTU of a container's link, in bytes: an outer packet of 65,535.
pub const MTU_MAX: u32 = 65_485;
/// The smallest MTU of a link with IPv4, and with IPv6 (RFC 8200, section 5).
const MTU_MIN: (u32, u32) = (576, 1280);
/// The bounds of a block's size.
pub const BLOCK_SIZES: (u32, u32) = (4, 1024);

/// Checks what a configuration asks for, and of a record what both have in common. A VXLAN id or an
/// MTU of 0, which stands for any, is for [`crate::check`] to refuse in a record.
///
/// # Errors
/// The member, and why.
pub fn check(net: &Net) -> Result<(), Fault> {
    let families: Vec<_> = net.subnets.iter().map(|subnet| IpFamily::of(subnet.ip())).collect();
    let is_sound = match *families {
        [_] => true,
        [one, other] => one != other,
        _ => false,
    };
    hold(is_sound, "subnets", "is not one subnet, or one of each family")?;
    for subnet in &net.subnets {
        let lengths = if subnet.is_ipv4() { 8..=29 } else { 32..=120 };
        hold(
            lengths.contains(&subnet.prefix()),
            "subnets",
            "has one that is not /8 to /29, IPv6 /32 to /120",
        )?;
        hold(subnet.ip() == subnet.network(), "subnets", "has one with host bits")?;
        hold(is_usable_subnet(*subnet), "subnets", "has addresses that no container can have")?;
    }
    hold(net.gateways.len() == net.subnets.len(), "gateways", "is not one for each subnet")?;
    for (subnet, gateway) in net.subnets.iter().zip(&net.gateways) {
        let is_inside = subnet.contains(*gateway) && IpFamily::of(*gateway) == IpFamily::of(subnet.ip());
        hold(is_inside, "gateways", "has one outside its subnet")?;
        let is_free = is_usable(*gateway) && !block::is_network_or_broadcast(*subnet, *gateway);
        hold(is_free, "gateways", "has a network's own or broadcast address")?;
    }
    let size = net.block_size;
    let is_size = size.is_power_of_two() && (BLOCK_SIZES.0..=BLOCK_SIZES.1).contains(&size);
    hold(is_size, "blockSize", "is not a power of two from 4 to 1024")?;
    let fits = net.subnets.iter().all(|subnet| u128::from(size) <= block::addresses(*subnet));
    hold(fits, "blockSize", "is larger than a subnet")?;
    let mtu = net.mtu.unwrap_or(MTU_MAX);
    hold(mtu == 0 || (mtu_min(&net.subnets)..=MTU_MAX).contains(&mtu), "mtu", "is too small or too large")
}

/// The smallest MTU of a network with these subnets, in bytes.
pub fn mtu_min(subnets: &[IpNetwork]) -> u32 {
    if subnets.iter().any(IpNetwork::is_ipv6) { MTU_MIN.1 } else { MTU_MIN.0 }
}

/// The MTU of containers' links that an underlay link carries, in bytes: `auto`. `underlay` is the
/// family of the outer packets.
pub fn mtu_of_underlay(link: u32, underlay: IpFamily, encrypted: bool) -> u32 {
    let overhead = if encrypted {
        VXLAN_OVERHEAD.1 + underlay.choose(WIREGUARD_OVERHEAD.0, WIREGUARD_OVERHEAD.1)
    } else {
        underlay.choose(VXLAN_OVERHEAD.0, VXLAN_OVERHEAD.1)
    };
    link.saturating_sub(overhead).min(MTU_MAX)
}

/// The default of `blockSize`, by the smallest subnet.
pub fn default_block_size(subnets: &[IpNetwork]) -> u32 {
    let bits = subnets.iter().map(|subnet| IpFamily::of(subnet.ip()).bits() - subnet.prefix()).min();
    match bits.unwrap_or_default() {
        12.. => 64,
        9.. => 16,
        _ => 8,
    }
}

/// The first address of a subnet that can be a gateway: the default.
pub fn default_gateway(subnet: IpNetwork) -> Option<IpAddr> {
    block::address(subnet, 1)
}

/// The names of a network's links on every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// Its bridge, `mo` and 10 hex digits.
    pub bridge: String,
    /// Its VXLAN device, `mx` and the same digits.
    pub vxlan: String,
}

impl Links {
    /// Those of this network.
    pub fn of(network: &str) -> Self {
        let hash = sys::fnv1a(network.bytes()) & 0xff_ffff_ffff;
        Self { bridge: format!("mo{hash:010x}"), vxlan: format!("mx{hash:010x}") }
    }
}

/// A member of a configuration that differs from the network's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differs {
    /// The key of the configuration.
    pub key: &'static str,
    /// What the configuration asks for.
    pub asked: String,
    /// What the record has.
    pub recorded: String,
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, asked, recorded } = self;
        write!(f, "{key} is {asked} here, and {recorded} in the network's record, which all hosts share")
    }
}

/// What a configuration asks for that the network's record has otherwise. A VXLAN id or an MTU of 0
/// in `want` agrees with every one.
pub fn differences(want: &Net, have: &Net) -> Vec<Differs> {
    let mut found = Vec::new();
    let mut compare = |key, asked: String, recorded: String| {
        if asked != recorded {
            found.push(Differs { key, asked, recorded });
        }
    };
    compare("subnets", list(&want.subnets), list(&have.subnets));
    compare("gateway", list(&want.gateways), list(&have.gateways));
    compare("blockSize", want.block_size.to_string(), have.block_size.to_string());
    let presence = |vni: Option<u32>| if vni.is_some() { "overlay" } else { "cluster alone" }.to_owned();
    compare("the kind of network", presence(want.vni), presence(have.vni));
    if let (Some(asked @ 1..), Some(recorded)) = (want.vni, have.vni) {
        compare("the VXLAN id", asked.to_string(), recorded.to_string());
    }
    if let (Some(asked @ 1..), Some(recorded)) = (want.mtu, have.mtu) {
        compare("mtu", asked.to_string(), recorded.to_string());
    }
    compare("encrypted", want.encrypted.to_string(), have.encrypted.to_string());
    compare("multicast", want.multicast.to_string(), have.multicast.to_string());
    compare("internal", want.internal.to_string(), have.internal.to_string());
    found
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether two subnets have an address in common.
pub fn overlap(one: IpNetwork, other: IpNetwork) -> bool {
    one.is_ipv4() == other.is_ipv4() && (one.contains(other.network()) || other.contains(one.network()))
}

/// The first of `others` that has an address in common with one of the subnets, with that subnet:
/// other networks, routes of the host, or the underlay's addresses as /32 and /128.
pub fn overlapping<'a, T>(
    subnets: &[IpNetwork],
    others: impl IntoIterator<Item = (IpNetwork, &'a T)>,
) -> Option<(IpNetwork, IpNetwork, &'a T)>
where
    T: ?Sized,
{
    others.into_iter().find_map(|(other, what)| {
        let subnet = subnets.iter().find(|subnet| overlap(**subnet, other))?;
        Some((*subnet, other, what))
    })
}

#[cfg(test)]
mod tests;
