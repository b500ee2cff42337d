//! DHCPv6 (RFC 8415) and router advertisements (RFC 4861): messages, what they grant, and the
//! exchange with servers. Pure.

pub mod advert;
pub mod ask;
pub mod client;
pub mod grant;
mod message;
#[cfg(test)]
mod tests;

pub use advert::{Advert, Heard};
pub use ask::Ask;
pub use client::Client;
pub use grant::{Delegated, Grant};
pub use message::{Kind, Message};

use std::net::Ipv6Addr;

/// Whether a host can have the address on a network of its own: neither of the link alone nor of no
/// host.
pub fn is_host(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        // Of IPv4: neither kind is sent over a link.
        || address.to_ipv4_mapped().is_some())
}

/// Addresses of a list of 16 bytes each, without repetitions and those that no host can have.
fn hosts(value: &[u8], is_wanted: impl Fn(Ipv6Addr) -> bool) -> Vec<Ipv6Addr> {
    let mut hosts: Vec<Ipv6Addr> = Vec::new();
    for host in value.as_chunks::<16>().0.iter().copied().map(Ipv6Addr::from) {
        if hosts.len() < HOSTS_MAX && is_wanted(host) && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Whether it can be a resolver: of this network or of the link.
fn is_resolver(address: Ipv6Addr) -> bool {
    is_host(address) || address.is_unicast_link_local()
}

/// More than any network has.
const HOSTS_MAX: usize = 16;
