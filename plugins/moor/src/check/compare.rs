//! Record and kernel side by side: a function of what was read.

use std::path::PathBuf;

use ipnetwork::IpNetwork;
use netlink::{Link, Route};

use super::expected::{Expected, ExpectedRoute};
use crate::model::Drift;

/// What is there.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The link in the container.
    pub link: Option<Link>,
    /// Its addresses.
    pub addresses: Vec<IpNetwork>,
    /// The routes of the container; `None` when they could not be read.
    pub routes: Option<Vec<Route>>,
    /// The host's link that leads to it, where it has one of its own.
    pub host_link: Option<Link>,
    /// The name of that link's bridge.
    pub master: Option<String>,
    /// The bridge of the list: whether it is up, and its addresses.
    pub bridge: Option<(bool, Vec<IpNetwork>)>,
    /// The content of each lease file.
    pub leases: Vec<(PathBuf, Option<String>)>,
    /// The values of `ip_forward` and of `forwarding` for IPv6; `None` when they could not be read.
    pub forwarding: [Option<bool>; 2],
    /// Others that have one of its addresses on the same network.
    pub twice: Vec<(String, String)>,
}

/// The differences.
pub fn drifts(expected: &Expected, seen: &Seen) -> Vec<Drift> {
    let mut drifts = Vec::new();
    let mut add = |what: &'static str, expected: String, actual: String| {
        drifts.push(Drift { what, expected, actual });
    };
    let Some(link) = &seen.link else {
        add("link", expected.ifname.clone(), "none".into());
        return drifts;
    };
    if link.name != expected.ifname {
        add("link", expected.ifname.clone(), link.name.clone());
    }
    if !link.up() {
        add("link state", "up".into(), "down".into());
    }
    if let Some(mac) = expected.mac.filter(|mac| link.mac != Some(*mac)) {
        add("mac", mac.to_string(), link.mac.map_or("none".into(), |mac| mac.to_string()));
    }
    if let Some(mtu) = expected.mtu.filter(|mtu| link.mtu != *mtu) {
        add("mtu", mtu.to_string(), link.mtu.to_string());
    }
    for address in expected.addresses.iter().filter(|address| !seen.addresses.contains(address)) {
        let others: Vec<_> = seen.addresses.iter().map(ToString::to_string).collect();
        add("address", address.to_string(), or_none(&others));
    }
    for route in seen.routes.iter().flat_map(|routes| missing(&expected.routes, routes)) {
        let via = route.0.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        add("route", format!("{}{via}", route.0.to), route.1);
    }
    outside(expected, seen, &mut add);
    for (file, content) in &seen.leases {
        let content = content.as_deref().map(str::trim);
        // Old releases wrote the id alone.
        let id = expected.holder.split('\r').next();
        if content != Some(&expected.holder) && (content != id || content.is_none()) {
            let actual = content.map_or("no file".into(), |text| text.replace("\r\n", " "));
            add("lease", format!("{} in {}", expected.holder.replace("\r\n", " "), file.display()), actual);
        }
    }
    for (address, other) in &seen.twice {
        add("address", format!("{address} of one container"), format!("also that of {other}"));
    }
    drifts
}

fn or_none(all: &[String]) -> String {
    if all.is_empty() { "none".into() } else { all.join(" ") }
}

/// The routes that are not there, each with what is there instead.
fn missing<'e>(expected: &'e [ExpectedRoute], routes: &'e [Route]) -> Vec<(&'e ExpectedRoute, String)> {
    let of = |wanted: &ExpectedRoute| {
        let table = wanted.table.unwrap_or(Route::MAIN_TABLE);
        let same = routes.iter().filter(|route| route.dst == wanted.to && route.table == table);
        same.map(|route| route.gateway).collect::<Vec<_>>()
    };
    let is_there = |wanted: &ExpectedRoute| {
        of(wanted).iter().any(|gateway| wanted.gateway.is_none() || *gateway == wanted.gateway)
    };
    let actual = |wanted: &ExpectedRoute| match of(wanted).first() {
        Some(Some(gateway)) => format!("via {gateway}"),
        Some(None) => "without a gateway".into(),
        None => "none".into(),
    };
    expected.iter().filter(|wanted| !is_there(wanted)).map(|wanted| (wanted, actual(wanted))).collect()
}

/// The host's side: the link, its bridge, forwarding.
fn outside(expected: &Expected, seen: &Seen, add: &mut impl FnMut(&'static str, String, String)) {
    if let Some(host) = seen.host_link.as_ref().filter(|host| !host.up()) {
        add("host link", format!("{} up", host.name), "down".into());
    }
    let Some(name) = &expected.bridge else { return };
    if seen.host_link.is_some() && seen.master.as_ref() != Some(name) {
        add("bridge", name.clone(), seen.master.clone().unwrap_or_else(|| "none".into()));
    }
    match &seen.bridge {
        None => add("bridge", format!("{name} present"), "absent".into()),
        Some((is_up, addresses)) => {
            if !is_up {
                add("bridge", format!("{name} up"), "down".into());
            }
            for gateway in expected.gateways.iter().filter(|gateway| !addresses.contains(gateway)) {
                let others: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                add("gateway", format!("{gateway} on {name}"), or_none(&others));
            }
        }
    }
    for (is_on, is_v4, word) in [(seen.forwarding[0], true, "IPv4"), (seen.forwarding[1], false, "IPv6")] {
        if is_on == Some(false) && expected.gateways.iter().any(|gateway| gateway.is_ipv4() == is_v4) {
            add("forwarding", format!("{word} on"), "off".into());
        }
    }
}
