//! The codes of options (RFC 2132, and as noted), and their values.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

/// Fills up.
pub const PAD: u8 = 0;
/// The mask of the address.
pub const SUBNET_MASK: u8 = 1;
/// Routers, the preferred first.
pub const ROUTERS: u8 = 3;
/// Name servers, the preferred first.
pub const NAME_SERVERS: u8 = 6;
/// The client's name.
pub const HOST_NAME: u8 = 12;
/// The domain in which names are resolved.
pub const DOMAIN_NAME: u8 = 15;
/// The MTU of the link.
pub const MTU: u8 = 26;
/// Routes to classful destinations.
pub const STATIC_ROUTES: u8 = 33;
/// Time servers.
pub const NTP_SERVERS: u8 = 42;
/// The address that the client asks for.
pub const REQUESTED_ADDRESS: u8 = 50;
/// Seconds.
pub const LEASE_TIME: u8 = 51;
/// Options are in the fields of file and server name too.
pub const OVERLOAD: u8 = 52;
/// See [`super::Kind`].
pub const MESSAGE_TYPE: u8 = 53;
/// The server's address.
pub const SERVER: u8 = 54;
/// The codes of wanted options.
pub const REQUEST_LIST: u8 = 55;
/// The server's reason for a refusal.
pub const MESSAGE: u8 = 56;
/// The longest message that the client takes.
pub const MAX_SIZE: u8 = 57;
/// Seconds until the client asks its server for more time (T1).
pub const RENEWAL_TIME: u8 = 58;
/// Seconds until it asks every server (T2).
pub const REBINDING_TIME: u8 = 59;
/// The kind of client.
pub const VENDOR_CLASS: u8 = 60;
/// Identifies the client.
pub const CLIENT_ID: u8 = 61;
/// The class of user (RFC 3004).
pub const USER_CLASS: u8 = 77;
/// Domains in which names are looked up (RFC 3397).
pub const DOMAIN_SEARCH: u8 = 119;
/// Routes; with this option, those of routers and of [`STATIC_ROUTES`] are ignored (RFC 3442).
pub const CLASSLESS_ROUTES: u8 = 121;
/// The last option.
pub const END: u8 = 255;

/// A number of seconds.
pub fn seconds(value: &[u8]) -> Option<u32> {
    <[u8; 4]>::try_from(value).ok().map(u32::from_be_bytes)
}

/// One address.
pub fn address(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// A list of addresses that a host can have; others are left out.
pub fn hosts(value: &[u8]) -> Vec<Ipv4Addr> {
    let mut hosts: Vec<Ipv4Addr> = Vec::new();
    for host in value.as_chunks::<4>().0.iter().copied().map(Ipv4Addr::from) {
        if is_host(host) && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// Whether a host on a network can have the address.
pub fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    // 240.0.0.0/4 is reserved, with the broadcast address (RFC 1112, section 4).
    first != 0 && first < 240 && !address.is_loopback() && !address.is_multicast()
}

/// Destinations and routers of [`CLASSLESS_ROUTES`]; `None` if the value is malformed.
pub fn classless_routes(mut value: &[u8]) -> Option<Vec<(Ipv4Network, Ipv4Addr)>> {
    let mut routes = Vec::new();
    while let Some((length, rest)) = value.split_first() {
        let significant = usize::from(length.div_ceil(8));
        let (prefix, rest) = rest.split_at_checked(significant)?;
        let (router, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        octets.get_mut(..significant)?.copy_from_slice(prefix);
        // Bits beyond the length are ignored.
        let net = Ipv4Network::new(octets.into(), *length).ok()?;
        routes.push((Ipv4Network::new(net.network(), *length).ok()?, Ipv4Addr::from(*router)));
        value = rest;
    }
    Some(routes)
}

/// Destinations and routers of [`STATIC_ROUTES`]: the class of a destination gives its length.
pub fn static_routes(value: &[u8]) -> Vec<(Ipv4Network, Ipv4Addr)> {
    let pairs = value.as_chunks::<8>().0.iter();
    pairs
        .filter_map(|[a, b, c, d, router @ ..]| {
            let destination = Ipv4Addr::new(*a, *b, *c, *d);
            let length = match a {
                // A default route may not be here.
                0 => return None,
                1..=127 => 8,
                128..=191 => 16,
                192..=223 => 24,
                _ => return None,
            };
            // A destination with host bits is one host.
            let net = Ipv4Network::new(destination, length).ok()?;
            let net =
                if net.network() == destination { net } else { Ipv4Network::new(destination, 32).ok()? };
            Some((net, Ipv4Addr::from(*router)))
        })
        .collect()
}
