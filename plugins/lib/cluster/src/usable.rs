//! Which addresses containers and hosts can have.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::left_out::Fault;

/// A fault of a member, unless it is so.
pub fn hold(is_so: bool, member: &'static str, why: &'static str) -> Result<(), Fault> {
    if is_so { Ok(()) } else { Err(Fault::Member(member, why)) }
}

/// An address that a container or a host can have, in its one form: unicast.
pub fn is_usable(ip: IpAddr) -> bool {
    let is_special = match ip {
        IpAddr::V4(ip) => {
            ip.is_broadcast() || ip.octets().first() == Some(&0) || ip.octets() >= [240, 0, 0, 0]
        }
        IpAddr::V6(_) => ip.to_canonical() != ip,
    };
    !is_special && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()
}

/// Whether packets to other hosts can be sent to this address, without naming a link.
pub fn is_destination(ip: IpAddr) -> bool {
    is_usable(ip) && !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// Whether a subnet's addresses are such as containers can have.
pub fn is_usable_subnet(subnet: IpNetwork) -> bool {
    // Link-local IPv6 addresses are every link's own.
    is_destination(subnet.broadcast()) && is_destination(subnet.network())
}
