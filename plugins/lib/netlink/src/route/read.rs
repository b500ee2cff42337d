//! Routes as the kernel describes them: `struct rtmsg` and its attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::{
    RTA_DST, RTA_GATEWAY, RTA_METRICS, RTA_MULTIPATH, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY, RTA_TABLE, RTA_VIA,
    RTAX_ADVMSS, RTAX_MTU, RTNH_F_ONLINK, Route,
};
use crate::addr::{AF_INET, AF_INET6};
use crate::attr::{Attr, Attrs, Malformed, ip_from};

/// Length of `struct rtmsg`.
const HEADER: usize = 12;
/// Length of `struct rtnexthop` (linux/rtnetlink.h): u16 length, u8 flags, u8 weight - 1, i32
/// index.
const HOP_HEADER: usize = 8;
/// linux/rtnetlink.h: a cached copy, not a route.
const RTM_F_CLONED: u32 = 0x200;

/// Reads the payload of an RTM_NEWROUTE: no route if it is of another family (a kernel without IPv6
/// answers with all families) or a cached copy, several if it has several next hops.
pub(crate) fn routes(family: u8, payload: &[u8]) -> Result<Vec<Route>, Malformed> {
    let short = Malformed("a route is too short");
    let (&[of, prefix, _, _, table, protocol, scope, kind], rest) =
        payload.split_first_chunk().ok_or(short)?;
    let flags = u32::from_ne_bytes(*rest.first_chunk().ok_or(short)?);
    let unspecified: IpAddr = match of {
        _ if of != family || flags & RTM_F_CLONED != 0 => return Ok(Vec::new()),
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return Ok(Vec::new()),
    };
    let network = |ip| IpNetwork::new(ip, prefix).map_err(|_| Malformed("a prefix is too long"));
    let mut route = Route {
        table: table.into(),
        protocol,
        scope,
        kind,
        onlink: flags & RTNH_F_ONLINK != 0,
        ..Route::new(network(unspecified)?)
    };
    let mut multipath = None;
    for attr in Attrs::after(payload, HEADER)? {
        let attr = attr?;
        match attr.kind {
            RTA_DST => route.dst = network(attr.ip()?)?,
            RTA_OIF => route.index = Some(attr.u32()?),
            RTA_PREFSRC => route.source = Some(attr.ip()?),
            RTA_PRIORITY => route.priority = Some(attr.u32()?),
            RTA_TABLE => route.table = attr.u32()?,
            RTA_METRICS => metrics(&attr, &mut route)?,
            RTA_MULTIPATH => multipath = Some(attr.payload),
            RTA_GATEWAY | RTA_VIA => route.gateway = Some(gateway(&attr)?),
            _ => {}
        }
    }
    multipath.map_or(Ok(vec![route]), |bytes| hops(&route, bytes))
}

fn gateway(attr: &Attr<'_>) -> Result<IpAddr, Malformed> {
    match attr.kind {
        // `struct rtvia`: u16 family, then the address.
        RTA_VIA => ip_from(attr.payload.get(2..).unwrap_or_default()),
        _ => attr.ip(),
    }
}

fn metrics(attr: &Attr<'_>, route: &mut Route) -> Result<(), Malformed> {
    for metric in attr.nested() {
        let metric = metric?;
        match metric.kind {
            RTAX_MTU => route.mtu = Some(metric.u32()?),
            RTAX_ADVMSS => route.advmss = Some(metric.u32()?),
            _ => {}
        }
    }
    Ok(())
}

fn hops(route: &Route, mut bytes: &[u8]) -> Result<Vec<Route>, Malformed> {
    let wrong = Malformed("a next hop's length is wrong");
    let mut routes = Vec::new();
    while let Some((&[low, high, flags, _], rest)) = bytes.split_first_chunk() {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let index = u32::from_ne_bytes(*rest.first_chunk().ok_or(wrong)?);
        let attrs = Attrs::new(bytes.get(HOP_HEADER..length).ok_or(wrong)?);
        let onlink = u32::from(flags) & RTNH_F_ONLINK != 0;
        let mut hop = Route { index: Some(index), onlink, ..*route };
        for attr in attrs {
            let attr = attr?;
            if matches!(attr.kind, RTA_GATEWAY | RTA_VIA) {
                hop.gateway = Some(gateway(&attr)?);
            }
        }
        routes.push(hop);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(routes)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::attr::Writer;

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut bytes in vec(any::<u8>(), 0..200)) {
            for family in [AF_INET, AF_INET6] {
                if let Some(first) = bytes.first_mut() {
                    *first = family;
                }
                let _ = routes(family, &bytes);
            }
        }

        #[test]
        fn any_next_hops_are_read_without_panic(bytes in vec(any::<u8>(), 0..60)) {
            let _ = hops(&Route::new("0.0.0.0/0".parse().unwrap()), &bytes);
        }
    }

    #[test]
    fn a_multipath_route_is_one_route_per_next_hop() {
        let mut writer = Writer::default();
        writer.raw(&[AF_INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0]);
        let hop = |index: u32, gateway: [u8; 4]| {
            let mut attrs = Writer::default();
            attrs.bytes(RTA_GATEWAY, &gateway);
            [&16u16.to_ne_bytes()[..], &[0, 0], &index.to_ne_bytes(), &attrs.finish().unwrap()].concat()
        };
        writer.bytes(RTA_MULTIPATH, &[hop(3, [10, 0, 0, 1]), hop(4, [10, 1, 0, 1])].concat());
        let read = routes(AF_INET, &writer.finish().unwrap()).unwrap();
        let expected = [(3, "10.0.0.1"), (4, "10.1.0.1")].map(|(index, gateway)| Route {
            index: Some(index),
            gateway: Some(gateway.parse().unwrap()),
            ..Route::new("0.0.0.0/0".parse().unwrap())
        });
        assert_eq!(read, expected);
    }
}
