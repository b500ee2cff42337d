//! The subnets and ranges of one file (L04x).

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::json::{Member, Node, Span};
use crate::subnets::{masked, overlap};

use super::read::shortened;
use super::report::{File, Plugin, Report};

/// The most ranges of a section that are compared with each other; host-local takes no more.
const RANGES_MAX: usize = 1024;

/// The addresses that a plugin of a file gives.
#[derive(Clone, Debug)]
pub(super) struct Subnet {
    /// The subnet.
    pub subnet: IpNetwork,
    /// The first address that is given, and the last.
    pub given: (IpAddr, IpAddr),
    /// Where it stands.
    pub span: Span,
    /// The set of ranges that it is in.
    set: usize,
}

/// Checks the addresses of a plugin's IPAM plugin, and returns the subnets that are sound.
pub(super) fn check(file: &File, plugin: &Plugin<'_>, report: &mut Report) -> Vec<Subnet> {
    let Some((name, _)) = plugin.ipam else { return Vec::new() };
    let Some(ipam) = plugin.node.any_case("ipam").map(|member| &member.value) else { return Vec::new() };
    let mut section = Section { file, plugin, report, found: Vec::new() };
    match name {
        "host-local" => section.host_local(ipam),
        "static" => section.fixed(ipam),
        "cluster" => section.cluster(ipam),
        _ => {}
    }
    section.found
}

struct Section<'f, 'r> {
    file: &'f File,
    plugin: &'f Plugin<'f>,
    report: &'r mut Report,
    found: Vec<Subnet>,
}

impl Section<'_, '_> {
    fn host_local(&mut self, ipam: &Node) {
        if ipam.any_case("subnet").is_some_and(|member| member.value.text() != Some("")) {
            self.range(ipam, 0);
        }
        let sets = ipam.any_case("ranges").map(|member| member.value.items()).unwrap_or_default();
        for (index, set) in sets.iter().enumerate() {
            let before = self.found.len();
            for range in set.items() {
                if range.any_case("subnet").is_none() && !range.members().is_empty() {
                    let text = "a range needs \"subnet\"";
                    self.report.error("L041", &self.file.source, &range.span, text);
                }
                self.range(range, index + 1);
            }
            self.one_family(before);
        }
        self.routes(ipam);
        self.overlaps();
    }

    /// The subnets of the plugin cluster, their gateways, and the bounds of what is given.
    fn cluster(&mut self, ipam: &Node) {
        let Some(member) = ipam.any_case("subnets") else { return };
        for item in member.value.items() {
            let (source, span) = (&self.file.source, item.span.clone());
            let Some(text) = item.text() else { continue };
            let Ok(written) = cni::parse_cidr(text) else {
                let text = format!("{:?} is no subnet", shortened(text));
                self.report.error("L041", source, &span, text);
                continue;
            };
            let subnet = masked(written);
            if subnet.ip() != written.ip() {
                let text = format!("{written} is the address of a host: a subnet has no host bits");
                self.report.error("L040", source, &span, text).fix(format!("did you mean \"{subnet}\"?"));
            }
            let twin = self.found.iter().find(|other| other.subnet.is_ipv4() == subnet.is_ipv4());
            if let Some(other) = twin.map(|other| other.subnet) {
                let text = format!("a network of the cluster has one subnet of a family, and {other} is one");
                self.report.error("L043", source, &span, text);
            }
            let given = (subnet.network(), subnet.broadcast());
            self.found.push(Subnet { subnet, given, span, set: 0 });
        }
        let gateways = ipam.any_case("gateway").map(|member| &member.value);
        let gateways = gateways.into_iter().flat_map(|value| {
            if value.items().is_empty() { std::slice::from_ref(value) } else { value.items() }
        });
        let bounds = ["rangeStart", "rangeEnd"].map(|key| ipam.any_case(key).map(|member| &member.value));
        for item in gateways.chain(bounds.into_iter().flatten()) {
            let Some(text) = item.text().filter(|text| !text.is_empty()) else { continue };
            let fault = match cni::parse_ip(text) {
                Ok(ip) if self.found.iter().any(|one| one.subnet.contains(ip.to_canonical())) => continue,
                Ok(ip) => format!("{ip} is outside of the subnets"),
                Err(error) => format!("{:?} is no address: {error}", shortened(text)),
            };
            self.report.error("L041", &self.file.source, &item.span, fault);
        }
        self.routes(ipam);
    }

    /// The addresses of the plugin static, each with the host's part.
    fn fixed(&mut self, ipam: &Node) {
        let entries = ipam.any_case("addresses").map(|member| member.value.items()).unwrap_or_default();
        for entry in entries {
            let Some((address, member)) = self.prefix(entry, "address") else { continue };
            let span = member.value.span.clone();
            let subnet = masked(address);
            let gateway = self.address(entry, "gateway", subnet);
            self.inside(gateway, subnet, "gateway");
            self.found.push(Subnet { subnet, given: (address.ip(), address.ip()), span, set: 0 });
        }
        self.routes(ipam);
    }

    fn range(&mut self, range: &Node, set: usize) {
        let Some((written, member)) = self.prefix(range, "subnet") else { return };
        let (source, span) = (&self.file.source, member.value.span.clone());
        let subnet = masked(written);
        if subnet.ip() != written.ip() {
            let text = format!("{written} is the address of a host: a subnet has no host bits");
            self.report.error("L040", source, &span, text).fix(format!("did you mean \"{subnet}\"?"));
        }
        let small = subnet.prefix() > if subnet.is_ipv4() { 30 } else { 126 };
        if small {
            let text = format!("{subnet} has no address to give: host-local refuses it");
            self.report.warning("L046", source, &span, text);
        }
        // ptp has a route of its own to the gateway.
        let gateway = self.address(range, "gateway", subnet);
        if self.plugin.name != "ptp" {
            self.inside(gateway, subnet, "gateway");
        }
        let start = self.address(range, "rangeStart", subnet);
        let end = self.address(range, "rangeEnd", subnet);
        let start = self.inside(start, subnet, "rangeStart");
        let end = self.inside(end, subnet, "rangeEnd");
        let given = (
            start.as_ref().map_or(subnet.network(), |(ip, _)| *ip),
            end.as_ref().map_or(subnet.broadcast(), |(ip, _)| *ip),
        );
        if given.0 > given.1 {
            let at = start.or(end).map_or(span.clone(), |(_, span)| span);
            let text = format!("a range from {} to {} has no address", given.0, given.1);
            self.report.error("L041", &self.file.source, &at, text).fix("exchange the two");
        } else if !small {
            self.found.push(Subnet { subnet, given, span, set });
        }
    }

    /// A prefix, as the plugins read it.
    fn prefix<'n>(&mut self, object: &'n Node, key: &str) -> Option<(IpNetwork, &'n Member)> {
        let member = object.any_case(key)?;
        let text = member.value.text()?;
        match cni::parse_cidr(text) {
            Ok(prefix) => Some((prefix, member)),
            Err(error) => {
                let found = format!("{:?} is no subnet: {error}", shortened(text));
                let bare = cni::parse_ip(text).ok();
                let fix = bare.map(|ip| format!("\"{ip}/{}\"", if ip.is_ipv4() { 24 } else { 64 }));
                let fix = fix.map(|prefix| format!("with the length of its prefix, such as {prefix}"));
                self.report.error("L041", &self.file.source, &member.value.span, found).fix_if(fix);
                None
            }
        }
    }

    /// An address of the family of a subnet, and where it stands.
    fn address(&mut self, object: &Node, key: &str, subnet: IpNetwork) -> Option<(IpAddr, Span)> {
        let member = object.any_case(key)?;
        let text = member.value.text().filter(|text| !text.is_empty())?;
        let span = member.value.span.clone();
        let fault = match cni::parse_ip(text).map(|ip| ip.to_canonical()) {
            Ok(ip) if ip.is_ipv4() == subnet.is_ipv4() => return Some((ip, span)),
            Ok(ip) => format!("{ip} is not of the family of {subnet}"),
            Err(error) => format!("{:?} is no address: {error}", shortened(text)),
        };
        self.report.error("L041", &self.file.source, &span, fault);
        None
    }

    /// L041: the address, if it is in the subnet.
    fn inside(
        &mut self,
        found: Option<(IpAddr, Span)>,
        subnet: IpNetwork,
        key: &str,
    ) -> Option<(IpAddr, Span)> {
        let (ip, span) = found?;
        if subnet.contains(ip) {
            return Some((ip, span));
        }
        let text = format!("the {key} {ip} is outside of {subnet}");
        self.report.error("L041", &self.file.source, &span, text);
        None
    }

    /// L043
    fn one_family(&mut self, before: usize) {
        let set = self.found.get(before..).unwrap_or_default();
        let Some(first) = set.first() else { return };
        let other = set.iter().find(|range| range.subnet.is_ipv4() != first.subnet.is_ipv4());
        if let Some(other) = other.map(|other| other.span.clone()) {
            let text = "a set has ranges of one family: a container gets one address of each set";
            self.report.error("L043", &self.file.source, &other, text).fix("make two sets of it");
        }
    }

    /// L042
    fn overlaps(&mut self) {
        let ranges = self.found.get(..RANGES_MAX).unwrap_or(&self.found);
        let mut order: Vec<&Subnet> = ranges.iter().collect();
        order.sort_by_key(|range| (range.subnet.is_ipv6(), range.given.0));
        let pairs = order.windows(2).filter_map(|pair| match pair {
            [one, other]
                if one.given.1 >= other.given.0 && one.subnet.is_ipv4() == other.subnet.is_ipv4() =>
            {
                Some(if one.span.start > other.span.start { (*one, *other) } else { (*other, *one) })
            }
            _ => None,
        });
        let pairs: Vec<(Span, IpNetwork, bool)> = pairs
            .map(|(later, earlier)| (later.span.clone(), earlier.subnet, later.set == earlier.set))
            .collect();
        for (span, earlier, is_one_set) in pairs {
            let of = if is_one_set { "of its set" } else { "of another set" };
            let text = format!("this range overlaps with one of {earlier} {of}");
            self.report.error("L042", &self.file.source, &span, text);
        }
    }

    fn routes(&mut self, ipam: &Node) {
        let routes = ipam.any_case("routes").map(|member| member.value.items()).unwrap_or_default();
        for route in routes {
            match route.any_case("dst") {
                Some(_) => drop(self.prefix(route, "dst")),
                None => {
                    let text = "a route needs \"dst\"";
                    self.report.error("L041", &self.file.source, &route.span, text);
                }
            }
            let gateway = route.any_case("gw").filter(|member| member.value.text() != Some(""));
            if let Some(member) = gateway
                && member.value.text().is_some_and(|text| cni::parse_ip(text).is_err())
            {
                let text = "this is no address of a gateway";
                self.report.error("L041", &self.file.source, &member.value.span, text);
            }
        }
    }
}

impl Subnet {
    /// Whether both would give one address to two containers.
    pub(super) fn gives_the_same(&self, other: &Self) -> bool {
        overlap(self.subnet, other.subnet) && self.given.0 <= other.given.1 && other.given.0 <= self.given.1
    }
}
