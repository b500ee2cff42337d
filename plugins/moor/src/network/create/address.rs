//! The text of subnets, gateways, ranges and addresses, checked against each other.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::failure::Failure;
use crate::subnets::{Range, Subnet, masked, overlap};

use super::{Spec, first_address};

/// The subnets of a description, each with its gateway, and its ranges when they are not all of it.
pub fn subnets(spec: &Spec) -> Result<Vec<Subnet>, Failure> {
    let mut subnets: Vec<Subnet> = Vec::new();
    for text in &spec.subnets {
        let subnet = subnet(text)?;
        if let Some(other) = subnets.iter().find(|other| overlap(other.subnet, subnet)) {
            return Err(Failure::refused(format!("subnets {} and {subnet} overlap", other.subnet)));
        }
        subnets.push(Subnet { subnet, gateway: None, ranges: Vec::new() });
    }
    Ok(subnets)
}

/// Sets gateways, ranges and what others have, on the subnets that hold them.
pub fn refine(subnets: &mut [Subnet], spec: &Spec) -> Result<(), Failure> {
    for text in &spec.gateways {
        let gateway = address("--gateway", text)?;
        let subnet = holder(subnets, gateway, "gateway", text)?;
        if let Some(other) = subnet.gateway.replace(gateway) {
            return Err(Failure::refused(format!(
                "gateways {other} and {gateway} are both of subnet {}",
                subnet.subnet
            )));
        }
        if gateway == subnet.subnet.network() || is_broadcast(subnet.subnet, gateway) {
            return Err(Failure::refused(format!(
                "gateway {gateway} is the network's or the broadcast address of {}",
                subnet.subnet
            )));
        }
    }
    for text in &spec.ip_ranges {
        let range = range(text)?;
        let subnet = holder(subnets, range.first, "range", text)?;
        if !subnet.subnet.contains(range.last) {
            let fault = format!("range {text} is not within subnet {}", subnet.subnet);
            return Err(Failure::refused(fault));
        }
        if !subnet.ranges.is_empty() {
            let fault = format!("subnet {} has two ranges; one is possible", subnet.subnet);
            return Err(Failure::refused(fault));
        }
        subnet.ranges.push(within_usable(subnet.subnet, range));
    }
    for subnet in subnets.iter_mut() {
        subnet.gateway = subnet.gateway.or_else(|| Some(first_address(subnet.subnet)));
    }
    let mut taken = Vec::new();
    for (name, text) in &spec.aux_addresses {
        let address = address(&format!("--aux-address {name}"), text)?;
        holder(subnets, address, "auxiliary address", text)?;
        taken.push(address);
    }
    taken.sort_unstable();
    subnets.iter_mut().try_for_each(|subnet| split(subnet, &taken))
}

/// The prefix of `--subnet`, without host bits. What is refused and clearly meant is named.
pub fn subnet(text: &str) -> Result<IpNetwork, Failure> {
    let refused = |why: &str| Failure::refused(format!("subnet {text:?}: {why}"));
    let meant = |prefix: IpNetwork| format!("did you mean {}?", masked(prefix));
    let prefix = match cni::parse_cidr(text) {
        Ok(prefix) => prefix,
        Err(_) => {
            let failure = refused("expected an address and a prefix length, such as 10.1.0.0/24");
            return Err(match guess(text.trim()) {
                Some(prefix) => failure.hint(meant(prefix)),
                None => failure,
            });
        }
    };
    if masked(prefix) != prefix {
        return Err(refused("there are bits after the prefix").hint(meant(prefix)));
    }
    if text.contains(':') && prefix.is_ipv4() {
        return Err(refused("an IPv4 prefix written as IPv6").hint(meant(prefix)));
    }
    let longest = if prefix.is_ipv4() { 30 } else { 126 };
    if prefix.prefix() > longest {
        return Err(refused(&format!("too small: a prefix of at most /{longest} is needed")));
    }
    if prefix.prefix() == 0 || prefix.ip().is_multicast() || prefix.ip().is_loopback() {
        return Err(refused("containers cannot have such addresses"));
    }
    Ok(prefix)
}

/// A prefix with a netmask, or with blanks.
fn guess(text: &str) -> Option<IpNetwork> {
    if let Ok(prefix) = cni::parse_cidr(text) {
        return Some(prefix);
    }
    let (address, mask) = text.split_once('/')?;
    IpNetwork::with_netmask(address.trim().parse().ok()?, mask.trim().parse().ok()?).ok()
}

/// An address without a prefix length.
pub fn address(what: &str, text: &str) -> Result<IpAddr, Failure> {
    cni::parse_ip(text).map_err(|_| Failure::refused(format!("{what}: {text:?} is not an address")))
}

/// `10.1.0.128/25`, or `FIRST-LAST`.
fn range(text: &str) -> Result<Range, Failure> {
    let Some((first, last)) = text.split_once('-') else {
        let prefix = cni::parse_cidr(text).map_err(|_| {
            Failure::refused(format!(
                "range {text:?}: expected a prefix such as 10.1.0.128/25, or FIRST-LAST"
            ))
        })?;
        let prefix = masked(prefix);
        return Ok(Range { first: prefix.network(), last: prefix.broadcast() });
    };
    let (first, last) = (address("range", first)?, address("range", last)?);
    if first.is_ipv4() != last.is_ipv4() || first > last {
        return Err(Failure::refused(format!("range {text:?}: the first address is after the last")));
    }
    Ok(Range { first, last })
}

fn holder<'s>(
    subnets: &'s mut [Subnet],
    address: IpAddr,
    what: &str,
    text: &str,
) -> Result<&'s mut Subnet, Failure> {
    let shown = subnets.iter().map(|subnet| subnet.subnet.to_string()).collect::<Vec<_>>().join(", ");
    subnets.iter_mut().find(|subnet| subnet.subnet.contains(address)).ok_or_else(|| match shown.as_str() {
        "" => Failure::refused(format!("{what} {text} needs --subnet")),
        _ => Failure::refused(format!("{what} {text} is in none of the subnets {shown}")),
    })
}

/// Splits the range of a subnet around the addresses that others have, so that no IPAM plugin gives
/// them away.
fn split(subnet: &mut Subnet, taken: &[IpAddr]) -> Result<(), Failure> {
    let taken: Vec<IpAddr> = taken.iter().copied().filter(|ip| subnet.subnet.contains(*ip)).collect();
    if taken.is_empty() {
        return Ok(());
    }
    let whole = subnet.ranges.first().copied().unwrap_or_else(|| usable(subnet.subnet));
    let mut parts = Vec::new();
    let mut first = Some(whole.first);
    for ip in taken.into_iter().filter(|ip| whole.first <= *ip && *ip <= whole.last) {
        let Some(start) = first else { break };
        if start < ip {
            parts.push(Range { first: start, last: previous(ip) });
        }
        first = (ip < whole.last).then(|| next(ip));
        // An address given twice: the part begins after it already.
        first = first.map(|after| after.max(start));
    }
    parts.extend(first.map(|first| Range { first, last: whole.last }));
    let gives = |part: &Range| part.first != part.last || Some(part.first) != subnet.gateway;
    parts.retain(gives);
    if parts.is_empty() {
        return Err(Failure::refused(format!("subnet {}: no address is left to give", subnet.subnet)));
    }
    subnet.ranges = parts;
    Ok(())
}

/// All addresses of the subnet that a container can have, the gateway's included.
fn usable(subnet: IpNetwork) -> Range {
    within_usable(subnet, Range { first: subnet.network(), last: subnet.broadcast() })
}

fn within_usable(subnet: IpNetwork, range: Range) -> Range {
    Range {
        first: if range.first == subnet.network() { next(range.first) } else { range.first },
        last: if is_broadcast(subnet, range.last) { previous(range.last) } else { range.last },
    }
}

fn is_broadcast(subnet: IpNetwork, ip: IpAddr) -> bool {
    subnet.is_ipv4() && subnet.broadcast() == ip
}

fn next(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4(ip.to_bits().wrapping_add(1).into()),
        IpAddr::V6(ip) => IpAddr::V6(ip.to_bits().wrapping_add(1).into()),
    }
}

fn previous(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => IpAddr::V4(ip.to_bits().wrapping_sub(1).into()),
        IpAddr::V6(ip) => IpAddr::V6(ip.to_bits().wrapping_sub(1).into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn text(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn refined(spec: &Spec) -> Result<Vec<String>, Failure> {
        let mut all = subnets(spec)?;
        refine(&mut all, spec)?;
        Ok(all.iter().map(|subnet| serde_json::to_string(subnet).unwrap()).collect())
    }

    #[test]
    fn what_is_meant_clearly_is_proposed() {
        for (given, meant) in [
            ("10.0.0.5/24", Some("10.0.0.0/24")),
            ("10.0.0.0/33", None),
            ("10.0.0.0/255.0.0.0", Some("10.0.0.0/8")),
            ("::ffff:10.0.0.0/120", Some("10.0.0.0/24")),
            (" 10.0.0.0/24", Some("10.0.0.0/24")),
            ("10.0.0.0", None),
            ("10.0.0.0/31", None),
            ("", None),
        ] {
            let failure = subnet(given).unwrap_err();
            assert_eq!(failure.hint, meant.map(|meant| format!("did you mean {meant}?")), "{given}");
        }
        assert_eq!(subnet("fd00:1::/64").unwrap().to_string(), "fd00:1::/64");
    }

    #[test]
    fn a_gateway_belongs_to_the_subnet_that_holds_it_in_any_order() {
        let spec = Spec {
            subnets: text(&["10.1.0.0/24", "10.2.0.0/24"]),
            gateways: text(&["10.2.0.9", "10.1.0.9"]),
            ..Spec::default()
        };
        let expected = [
            r#"{"subnet":"10.1.0.0/24","gateway":"10.1.0.9"}"#,
            r#"{"subnet":"10.2.0.0/24","gateway":"10.2.0.9"}"#,
        ];
        assert_eq!(refined(&spec).unwrap(), expected);
        for gateway in ["10.3.0.1", "10.1.0.0", "10.1.0.255", "fd00::1", "x"] {
            let spec = Spec { gateways: text(&[gateway]), ..spec.clone() };
            assert!(refined(&spec).is_err(), "{gateway}");
        }
    }

    #[test]
    fn ranges_are_split_around_the_addresses_of_others() {
        let mut spec = Spec { subnets: text(&["10.1.0.0/24"]), ..Spec::default() };
        let parts = |spec: &Spec| {
            let mut all = subnets(spec).unwrap();
            refine(&mut all, spec).map(|()| {
                all[0].ranges.iter().map(|part| format!("{}-{}", part.first, part.last)).collect::<Vec<_>>()
            })
        };
        spec.ip_ranges = text(&["10.1.0.128/25"]);
        assert_eq!(parts(&spec).unwrap(), ["10.1.0.128-10.1.0.254"]);
        spec.aux_addresses = vec![("r".into(), "10.1.0.130".into()), ("s".into(), "10.1.0.130".into())];
        assert_eq!(parts(&spec).unwrap(), ["10.1.0.128-10.1.0.129", "10.1.0.131-10.1.0.254"]);
        spec.ip_ranges = text(&["10.1.0.5-10.1.0.6"]);
        assert_eq!(parts(&spec).unwrap(), ["10.1.0.5-10.1.0.6"]);
        spec.aux_addresses = vec![("a".into(), "10.1.0.5".into()), ("b".into(), "10.1.0.6".into())];
        assert!(parts(&spec).is_err());
        spec.ip_ranges.clear();
        spec.aux_addresses = vec![("a".into(), "10.1.0.2".into()), ("b".into(), "10.1.0.254".into())];
        assert_eq!(parts(&spec).unwrap(), ["10.1.0.3-10.1.0.253"], "the gateway alone is no range");
    }

    #[test]
    fn a_range_lies_in_one_subnet() {
        let spec = |range: &str| Spec {
            subnets: text(&["10.1.0.0/24"]),
            ip_ranges: text(&[range]),
            ..Spec::default()
        };
        for range in
            ["10.2.0.0/25", "10.1.0.9-10.1.0.3", "10.1.0.9-10.1.1.3", "10.1.0.9", "10.1.0.0/16", "a-b"]
        {
            assert!(refined(&spec(range)).is_err(), "{range}");
        }
    }
}
