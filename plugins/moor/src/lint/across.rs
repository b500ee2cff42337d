//! What several files, or a file and this host, disagree about.

use std::collections::BTreeMap;
use std::path::Path;

use cluster::net::Links;
use runtime::{Conflist, Runtime};

use crate::context::Context;
use crate::diagnostic::Severity;
use crate::json::Span;
use crate::subnets::overlap;

use super::addresses::Subnet;
use super::host::{Host, Plugins, is_executable};
use super::order::bridge_of;
use super::read::shortened;
use super::report::{File, Form, Plugin, Report};

/// Plugins whose containers are on a wire that others are on, too.
const ON_WIRE: [&str; 4] = ["host-device", "ipvlan", "macvlan", "vlan"];

/// The subnets of a plugin of a file.
pub(super) struct Addresses<'f> {
    /// The file.
    pub file: &'f File,
    /// The plugin.
    pub plugin: Plugin<'f>,
    /// What it gives.
    pub subnets: Vec<Subnet>,
}

/// L012: networks of one name.
pub(super) fn names(files: &[File], report: &mut Report) {
    let mut first: BTreeMap<(Option<&Path>, &str), &File> = BTreeMap::new();
    // A list counts before a file of one plugin.
    let (lists, singles): (Vec<&File>, Vec<&File>) = files.iter().partition(|file| file.form == Form::List);
    for file in lists.into_iter().chain(singles) {
        let Some((name, span)) = file.name() else { continue };
        let Some(other) = first.get(&(file.source.file.parent(), name)) else {
            first.insert((file.source.file.parent(), name), file);
            continue;
        };
        let at = place_of(other, other.name().map(|(_, span)| span));
        let text = format!("{at} is called {:?}, too", shortened(name));
        report
            .error("L012", &file.source, span, text)
            .fix("libcni, so cnitool, and podman take that one, nerdctl the last; rename one");
    }
}

fn place_of(file: &File, span: Option<&Span>) -> String {
    let line = span.map_or(1, |span| file.source.place(span.clone()).line);
    format!("{}:{line}", file.source.file.display())
}

/// L055: bridges of two networks, unless VLANs keep these apart.
pub(super) fn bridges(files: &[File], report: &mut Report) {
    let mut known: BTreeMap<&str, (&File, &Span, bool)> = BTreeMap::new();
    for file in files {
        for plugin in file.plugins() {
            let Some((name, has_vlans)) = bridge_of(&plugin) else { continue };
            let span = plugin.node.any_case("bridge").map_or(plugin.span, |member| &member.value.span);
            match known.get(name) {
                Some((other, at, vlans)) if other.source.file != file.source.file => {
                    if !(has_vlans && *vlans)
                        && file.name().is_some_and(|name| Some(name.0) != other.name().map(|n| n.0))
                    {
                        let text = format!(
                            "{} has the bridge {:?}, too",
                            place_of(other, Some(at)),
                            shortened(name)
                        );
                        report
                            .error("L055", &file.source, span, text)
                            .fix("name another one: its containers and gateways would be of both networks");
                    }
                }
                Some(_) => {}
                None => drop(known.insert(name, (file, span, has_vlans))),
            }
        }
    }
}

/// L044: subnets of two networks.
pub(super) fn subnets(all: &[Addresses<'_>], report: &mut Report) {
    // In order of their first address an overlap is with one before, so it is enough to keep the
    // one that reaches furthest.
    let mut order: Vec<(&Addresses<'_>, &Subnet)> =
        all.iter().flat_map(|one| one.subnets.iter().map(move |subnet| (one, subnet))).collect();
    order.sort_by_key(|(_, subnet)| (subnet.subnet.is_ipv6(), subnet.subnet.network(), subnet.given.0));
    let mut furthest: Option<(&Addresses<'_>, &Subnet)> = None;
    for (one, subnet) in order {
        if let Some((other, known)) = furthest
            && overlap(known.subnet, subnet.subnet)
            && is_other_network(one, other)
            && (known.gives_the_same(subnet) || !(on_wire(one) && on_wire(other)))
        {
            let ((late, span), (early, known)) = match late(one, other) {
                true => ((one, &subnet.span), (other, known)),
                false => ((other, &known.span), (one, subnet)),
            };
            let network = early.file.name().map_or("", |(name, _)| name);
            let text = format!(
                "overlaps with {} of the network {:?} ({})",
                known.subnet,
                shortened(network),
                place_of(early.file, Some(&known.span)),
            );
            report.warning("L044", &late.file.source, span, text);
        }
        if furthest.is_none_or(|(_, known)| {
            !overlap(known.subnet, subnet.subnet) || subnet.subnet.broadcast() >= known.subnet.broadcast()
        }) {
            furthest = Some((one, subnet));
        }
    }
}

fn late(one: &Addresses<'_>, other: &Addresses<'_>) -> bool {
    one.file.source.file >= other.file.source.file
}

fn is_other_network(one: &Addresses<'_>, other: &Addresses<'_>) -> bool {
    one.file.source.file != other.file.source.file
        && one.file.name().map(|n| n.0) != other.file.name().map(|n| n.0)
}

fn on_wire(one: &Addresses<'_>) -> bool {
    ON_WIRE.contains(&one.plugin.name)
}

/// L045, L047, L048: subnets that this host, or another tool on it, has.
pub(super) fn taken(all: &[Addresses<'_>], host: &Host, report: &mut Report) {
    for one in all {
        let source = &one.file.source;
        let mut seen = Vec::new();
        for Subnet { subnet, span, .. } in &one.subnets {
            if seen.contains(subnet) {
                continue;
            }
            seen.push(*subnet);
            for (default, tool) in &host.defaults {
                let is_theirs = one.file.name().is_some_and(|(name, _)| matches!(name, "podman" | "bridge"));
                if overlap(*default, *subnet) && !is_theirs {
                    let text = format!("overlaps with {default}, the network that {tool} has by default");
                    report.warning("L045", source, span, text);
                }
            }
            if on_wire(one) {
                continue;
            }
            let wide = one.file.name().filter(|_| one.plugin.name == "overlay");
            let wide = wide.map(|(name, _)| Links::of(name).bridge);
            let own = wide.as_deref().or_else(|| bridge_of(&one.plugin).map(|(name, _)| name));
            // The bridge itself, and the link of a VLAN on it.
            let is_own = |link: &str| {
                own.is_some_and(|own| {
                    link == own || link.strip_prefix(own).is_some_and(|rest| rest.starts_with('.'))
                })
            };
            let other =
                host.taken.iter().find(|taken| overlap(taken.subnet, *subnet) && !is_own(&taken.link));
            if let Some(other) = other {
                let link = if other.link.is_empty() { "no link" } else { &other.link };
                let text = format!("overlaps with {}, which this host reaches by {link}", other.subnet);
                report.warning("L047", source, span, text);
            }
            if let Some(server) = host.servers.iter().find(|server| subnet.contains(**server)) {
                let text = format!("this host's name server {server} is in the subnet");
                report.warning("L048", source, span, text);
            }
        }
    }
}

/// L050, L051, L052: the plugins of a file.
pub(super) fn installed(context: &Context, file: &File, plugins: &Plugins, exec: bool, report: &mut Report) {
    let mut seen: Vec<&str> = Vec::new();
    for plugin in file.plugins() {
        for (name, span) in [Some((plugin.name, plugin.span)), plugin.ipam].into_iter().flatten() {
            if seen.contains(&name) {
                continue;
            }
            seen.push(name);
            match plugins.find(name) {
                None => {
                    let text = format!("the plugin {:?} is not in {}", shortened(name), plugins.path());
                    report.error("L050", &file.source, span, text);
                }
                Some(path) if !is_executable(&path) => {
                    let text = format!("{} is not executable", path.display());
                    report.error("L051", &file.source, span, text).fix("chmod +x");
                }
                Some(_) if exec => version(context, file, name, span, report),
                Some(_) => {}
            }
        }
    }
}

fn version(context: &Context, file: &File, name: &str, span: &Span, report: &mut Report) {
    let bytes = file.source.text.as_bytes();
    let list = if file.form == Form::List { Conflist::parse(bytes) } else { Conflist::from_single(bytes) };
    // What is no list has an error already; a part has no version of its own.
    let Some(list) = list.ok().filter(|_| file.form != Form::Part) else { return };
    let wanted = if list.version.is_empty() { "0.1.0" } else { &list.version };
    let runtime = Runtime::new(context.cni_path.clone(), &context.cache_dir);
    let text = match runtime.version(name) {
        Ok(info) if info.supported.iter().any(|version| version == wanted) => return,
        Ok(info) => {
            format!("the installed {name} does not know CNI {wanted}, only {}", info.supported.join(", "))
        }
        Err(error) => format!("the installed {name} does not answer VERSION: {error}"),
    };
    report.error("L052", &file.source, span, text);
}

/// L053, L054: the links that a file names.
pub(super) fn links(file: &File, host: &Host, report: &mut Report) {
    for plugin in file.plugins() {
        let place = |key: &str| plugin.node.any_case(key).map_or(plugin.span, |member| &member.value.span);
        if let Some((name, _)) = bridge_of(&plugin)
            && let Some(Some(kind)) = host.link(name)
            && kind != "bridge"
        {
            let kind = if kind.is_empty() { "hardware" } else { &kind };
            let text = format!("the link {:?} of this host is no bridge but {kind}", shortened(name));
            report.error("L053", &file.source, place("bridge"), text);
        }
        let is_on_link =
            matches!(plugin.name, "macvlan" | "ipvlan" | "vlan") && !plugin.is("linkInContainer");
        if let Some(name) = plugin.text("master").filter(|_| is_on_link)
            && host.link(name) == Some(None)
        {
            let text = format!("this host has no link {:?}", shortened(name));
            report.error("L054", &file.source, place("master"), text);
        }
    }
}

/// L060, L061: the first file, which containerd and CRI-O take.
pub(super) fn first(files: &[File], broken: impl Fn(&File) -> bool, host: &Host, report: &mut Report) {
    for file in files.iter().filter(|file| file.is_first) {
        let path = &file.source.file;
        if broken(file) {
            let text = "the first file is broken: containerd has no network at all, and CRI-O the next one";
            report.whole(Severity::Warning, "L061", path, text);
        } else if host.has_pods && is_of_a_person(file) {
            let text = "this file is the first: containerd and CRI-O give its network to pods";
            report.whole(Severity::Warning, "L060", path, text).fix("rename it if that is not meant");
        }
    }
}

/// Whether a tool for people made the file, rather than the installer of a cluster's network.
fn is_of_a_person(file: &File) -> bool {
    let name = file.source.file.file_name().unwrap_or_default().to_string_lossy();
    let marks = ["nerdctlID", "nerdctlLabels"];
    let root = file.root.as_ref();
    let has = |key: &str| root.is_some_and(|root| root.member(key).is_some());
    name.starts_with("moor-")
        || name.starts_with("nerdctl-")
        || marks.iter().any(|mark| has(mark))
        || root.and_then(|root| root.member("args")?.value.member("podman_labels")).is_some()
}
