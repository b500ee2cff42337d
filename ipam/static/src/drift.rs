//! CHECK: the settings against the result of ADD.

use cni::{AddResult, Error, IpConfig, Route};
use ipnetwork::IpNetwork;

use crate::config::Settings;

/// Compares the settings with an earlier result, which may hold more than they do: the plugin that
/// called static may choose a gateway and add routes.
///
/// # Errors
/// The result lacks an address or a route, or has it with another gateway; the error has all of
/// them.
pub fn compare(settings: &Settings, result: &AddResult, ifname: &str) -> Result<(), Error> {
    let of_ips = settings.ips.iter().filter_map(|ip| address(ip, &result.ips, ifname));
    let of_routes = settings.routes.iter().filter_map(|wanted| route(wanted, &result.routes, ifname));
    let found: Vec<String> = of_ips.chain(of_routes).collect();
    if found.is_empty() { Ok(()) } else { Err(Error::internal(format!("static: {}", found.join("; ")))) }
}

/// How the address differs. The text begins as the reference's does.
fn address(wanted: &IpConfig, ips: &[IpConfig], ifname: &str) -> Option<String> {
    let fits = |ip: &&IpConfig| {
        ip.address == wanted.address && (wanted.gateway.is_none() || ip.gateway == wanted.gateway)
    };
    if ips.iter().find(fits).is_some() {
        return None;
    }
    let ip = wanted.address.ip();
    let others = ips.iter().filter(|other| other.address.ip() == ip).map(shown).collect::<Vec<_>>();
    let others = if others.is_empty() { "nothing".to_owned() } else { others.join(" and ") };
    Some(format!(
        "Failed to match addr {ip} on interface {ifname}: expected {}, found {others}",
        shown(wanted)
    ))
}

fn shown(ip: &IpConfig) -> String {
    match ip.gateway {
        Some(gateway) => format!("{} with gateway {gateway}", ip.address),
        None => format!("{} without gateway", ip.address),
    }
}

/// How the route differs.
fn route(wanted: &Route, routes: &[Route], ifname: &str) -> Option<String> {
    let network = |dst: &IpNetwork| (dst.network(), dst.prefix());
    let fits = |route: &&Route| {
        network(&route.dst) == network(&wanted.dst) && (wanted.gw.is_none() || route.gw == wanted.gw)
    };
    if routes.iter().find(fits).is_some() {
        return None;
    }
    let by_way_of = wanted.gw.map(|gw| format!(" by way of {gw}")).unwrap_or_default();
    Some(format!("the result for interface {ifname} has no route to {}{by_way_of}", wanted.dst))
}

#[cfg(test)]
mod tests {
    use cni::testing::{ip, route};

    use super::*;

    fn settings(ips: Vec<IpConfig>, routes: Vec<Route>) -> Settings {
        Settings { ips, routes, dns: cni::Dns::default(), unused_gateways: Vec::new() }
    }

    fn drift(settings: &Settings, ips: Vec<IpConfig>, routes: Vec<Route>) -> String {
        let result = AddResult { ips, routes, ..AddResult::default() };
        compare(settings, &result, "eth0").map_or_else(|error| error.msg, |()| String::new())
    }

    /// ST-B3
    #[test]
    fn the_result_may_hold_more() {
        let settings = settings(vec![ip(None, "10.0.0.5/24", None)], vec![route("0.0.0.0/0")]);
        let ips = vec![ip(None, "10.9.0.5/24", None), ip(Some(2), "10.0.0.5/24", Some("10.0.0.1"))];
        let routes =
            vec![Route { gw: Some([10, 0, 0, 1].into()), ..route("0.0.0.0/0") }, route("192.0.2.0/24")];
        assert_eq!(drift(&settings, ips, routes), "");
    }

    /// ST-B3, ST-14
    #[test]
    fn every_difference_is_in_the_error() {
        let wanted = settings(
            vec![ip(None, "10.0.0.5/24", Some("10.0.0.1")), ip(None, "fd00::5/64", None)],
            vec![Route { gw: Some([10, 0, 0, 2].into()), ..route("192.0.2.0/24") }],
        );
        let ips = vec![ip(None, "10.0.0.5/24", Some("10.0.0.9")), ip(None, "10.0.0.5/16", None)];
        assert_eq!(
            drift(&wanted, ips, vec![route("192.0.2.0/24")]),
            "static: Failed to match addr 10.0.0.5 on interface eth0: \
             expected 10.0.0.5/24 with gateway 10.0.0.1, \
             found 10.0.0.5/24 with gateway 10.0.0.9 and 10.0.0.5/16 without gateway; \
             Failed to match addr fd00::5 on interface eth0: expected fd00::5/64 without gateway, found nothing; \
             the result for interface eth0 has no route to 192.0.2.0/24 by way of 10.0.0.2"
        );
    }

    #[test]
    fn host_bits_of_a_route_do_not_count() {
        let wanted = settings(vec![], vec![route("10.1.2.3/8")]);
        assert_eq!(drift(&wanted, vec![], vec![route("10.0.0.0/8")]), "");
    }
}
