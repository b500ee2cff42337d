//! Prints results with the keys, the key order and the omissions of every version (C-050..C-056,
//! C-062, C-063).

use super::{AddResult, Dns, Interface, IpConfig, Route};
use crate::Version;
use crate::json::Json;
use crate::version::Format;

/// The members of an object; empty and unset values are omitted.
#[derive(Default)]
struct Members(Vec<(String, Json)>);

impl Members {
    fn put(&mut self, key: &str, value: impl Into<Json>) {
        self.0.push((key.to_owned(), value.into()));
    }

    fn put_text(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.put(key, text);
        }
    }

    fn put_some<T: ToString>(&mut self, key: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.put_text(key, &value.to_string());
        }
    }

    fn put_nonzero(&mut self, key: &str, number: u32) {
        if number != 0 {
            self.put(key, u64::from(number));
        }
    }

    fn put_list<T>(&mut self, key: &str, items: &[T], of: impl Fn(&T) -> Json) {
        if !items.is_empty() {
            self.put(key, Json::Array(items.iter().map(of).collect()));
        }
    }

    /// From 1.0.0 on, keys are sorted at every level (C-052).
    fn sorted(mut self) -> Json {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        Json::Object(self.0)
    }

    fn in_order(self) -> Json {
        Json::Object(self.0)
    }
}

/// The result must be convertible to the version.
pub(super) fn tree(result: &AddResult, version: Version) -> Json {
    let mut out = Members::default();
    out.put("cniVersion", version.as_str());
    match version.format() {
        Format::V0_2 => {
            for (key, ipv4) in [("ip4", true), ("ip6", false)] {
                if let Some(ip) = result.ips.iter().find(|ip| ip.address.is_ipv4() == ipv4) {
                    out.put(key, two_ip(ip, &result.routes));
                }
            }
            out.put("dns", dns(&result.dns).in_order());
            out.in_order()
        }
        Format::V0_3 => {
            out.put_list("interfaces", &result.interfaces, |link| interface(link, false).in_order());
            out.put_list("ips", &result.ips, |ip| four_ip(ip).in_order());
            out.put_list("routes", &result.routes, |r| route(r).in_order());
            out.put("dns", dns(&result.dns).in_order());
            out.in_order()
        }
        Format::V1_0 => {
            out.put_list("interfaces", &result.interfaces, |link| interface(link, true).sorted());
            out.put_list("ips", &result.ips, |ip| one_ip(ip).sorted());
            out.put_list("routes", &result.routes, |r| route(r).sorted());
            if !result.dns.is_empty() {
                out.put("dns", dns(&result.dns).sorted());
            }
            out.sorted()
        }
    }
}

/// An address with the routes of its family, which have no attributes here (C-062).
fn two_ip(ip: &IpConfig, routes: &[Route]) -> Json {
    let mut out = Members::default();
    out.put("ip", ip.address.to_string());
    out.put_some("gateway", ip.gateway.as_ref());
    let mine: Vec<_> = routes.iter().filter(|r| r.dst.is_ipv4() == ip.address.is_ipv4()).collect();
    out.put_list("routes", &mine, |r| {
        let bare = Route { mtu: 0, advmss: 0, priority: 0, table: None, scope: None, ..(*r).clone() };
        route(&bare).in_order()
    });
    out.in_order()
}

fn four_ip(ip: &IpConfig) -> Members {
    let mut out = Members::default();
    out.put("version", if ip.address.is_ipv4() { "4" } else { "6" });
    out.0.extend(one_ip(ip).0);
    out
}

fn one_ip(ip: &IpConfig) -> Members {
    let mut out = Members::default();
    if let Some(index) = ip.interface {
        out.put("interface", index as u64);
    }
    out.put("address", ip.address.to_string());
    out.put_some("gateway", ip.gateway.as_ref());
    out
}

fn interface(link: &Interface, all: bool) -> Members {
    let mut out = Members::default();
    out.put("name", link.name.as_str());
    out.put_some("mac", link.mac.as_ref());
    if all {
        out.put_nonzero("mtu", link.mtu.unwrap_or(0));
    }
    out.put_some("sandbox", link.sandbox.as_ref());
    if all {
        out.put_some("socketPath", link.socket_path.as_ref());
        out.put_some("pciID", link.pci_id.as_ref());
    }
    out
}

fn route(route: &Route) -> Members {
    let mut out = Members::default();
    out.put("dst", route.dst.to_string());
    out.put_some("gw", route.gw.as_ref());
    out.put_nonzero("mtu", route.mtu);
    out.put_nonzero("advmss", route.advmss);
    out.put_nonzero("priority", route.priority);
    if let Some(table) = route.table {
        out.put("table", u64::from(table));
    }
    if let Some(scope) = route.scope {
        out.put("scope", u64::from(scope));
    }
    out
}

fn dns(dns: &Dns) -> Members {
    let text = |text: &String| Json::from(text.as_str());
    let mut out = Members::default();
    out.put_list("nameservers", &dns.nameservers, text);
    out.put_text("domain", &dns.domain);
    out.put_list("search", &dns.search, text);
    out.put_list("options", &dns.options, text);
    out
}
