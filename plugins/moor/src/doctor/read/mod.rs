//! Reads the host, and changes nothing.

mod certificate;
mod kernel;
mod networks;
mod overlay;
mod plugins;
mod sockets;
mod twice;

pub use sockets::responder;

use std::fs;
use std::path::{Path, PathBuf};

use host::rules;
use netlink::{Link, Netlink};

use crate::context::Context;
use crate::failure::Failure;
use crate::model::Model;
use crate::networks::Networks;

use super::facts::{Facts, Has, LinkFacts, Signs};

/// Larger than any list of names of tables, name servers or counters, in bytes.
const TEXT_MAX: u64 = 1 << 20;

/// Everything that is judged; with `run_plugins` also what the plugins answer.
pub fn facts(context: &Context, networks: &Networks, run_plugins: bool) -> Result<Facts, Failure> {
    let failed = |error: sys::Error| Failure::incomplete(format!("look at the host: {error:#}"));
    let netlink = Netlink::open().map_err(failed)?;
    let links = netlink.links().map_err(failed)?;
    let name_of = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let mut facts = Facts {
        release: kernel::release(),
        features: kernel::features(&netlink),
        links: links.iter().map(|link| link_facts(link, &name_of)).collect(),
        legacy_tables: legacy_tables(),
        conntrack: kernel::conntrack(),
        networks: networks.all.iter().map(|network| networks::facts(network, &context.cache_dir)).collect(),
        unreadable: networks.notes.clone(),
        first_file: first_file(context, networks),
        plugins: plugins::facts(context, networks, run_plugins),
        name_servers: crate::resolv::name_servers(),
        signs: signs(context),
        files: kernel::open_files(),
        responder: sockets::responder(netlink.netns_cookie()),
        ..Facts::default()
    };
    let addresses = netlink.addresses(None).map_err(failed)?;
    facts.addresses =
        addresses.iter().filter_map(|address| Some((name_of(address.index)?, address.net))).collect();
    let routes = netlink.routes(None, None).map_err(failed)?;
    let unicast = routes.iter().filter(|route| !route.is_local() && !route.is_default());
    facts.routes = unicast.filter_map(|route| Some((route.dst, name_of(route.index?)?))).collect();
    let names = |indices: Vec<u32>| indices.into_iter().filter_map(name_of).collect::<Vec<_>>();
    facts.uplinks = names(netlink.uplinks().map_err(failed)?);
    facts.advertised = names(netlink.advertised_routes().map_err(failed)?);
    facts.sysctls = kernel::sysctls(&facts);
    facts.chains = chains(&facts);
    facts.port53 = sockets::port53();
    facts.overlay = overlay::facts(networks);
    facts.twice = twice::addresses(&Model::read(context, networks).attachments);
    Ok(facts)
}

fn link_facts(link: &Link, name_of: &impl Fn(u32) -> Option<String>) -> LinkFacts {
    LinkFacts {
        name: link.name.clone(),
        kind: link.kind.clone().unwrap_or_default(),
        mtu: link.mtu,
        master: link.master.and_then(name_of),
    }
}

/// A question to nf_tables would load its module, which has no rules then.
fn chains(facts: &Facts) -> Option<Vec<rules::ForeignChain>> {
    match facts.features.get("nf_tables") {
        Some(Has::Yes) => rules::open().and_then(|nft| rules::foreign_chains(&nft)).ok(),
        Some(Has::Loadable | Has::No) => Some(Vec::new()),
        _ => None,
    }
}

fn legacy_tables() -> Vec<String> {
    let mut tables = Vec::new();
    for (family, path) in [("ip", "/proc/net/ip_tables_names"), ("ip6", "/proc/net/ip6_tables_names")] {
        let text = text(Path::new(path)).unwrap_or_default();
        tables.extend(text.lines().map(|table| format!("{family} {table}")));
    }
    tables
}

/// The file that containerd and CRI-O read first, which may be broken.
fn first_file(context: &Context, networks: &Networks) -> Option<PathBuf> {
    let dir = context.dirs.first()?;
    let readable = networks.all.iter().map(|network| &network.file);
    let broken = networks.notes.iter().filter_map(|note| note.file.as_ref());
    readable.chain(broken).filter(|file| file.parent() == Some(dir)).min().cloned()
}

fn signs(context: &Context) -> Signs {
    let exists = |path: &str| Path::new(path).exists();
    let containers = ["/etc/containers/containers.conf", "/usr/share/containers/containers.conf"];
    let is_cni = |path: &&str| {
        let text = text(Path::new(path)).unwrap_or_default();
        let mut lines = text.lines().map(|line| line.replace(' ', ""));
        lines.any(|line| line.starts_with("network_backend=\"cni\""))
    };
    let locked = context.dirs.iter().any(|dir| dir.join("cni.lock").exists());
    let units = ["/etc/systemd/system", "/usr/lib/systemd/system"];
    let wants = "firewalld.service.wants/moor-reapply@firewalld.service";
    Signs {
        kubernetes: exists("/etc/kubernetes/kubelet.conf") || exists("/var/lib/kubelet/config.yaml"),
        podman_cni: locked || containers.iter().any(is_cni),
        firewalld: exists("/run/firewalld.pid") || exists("/run/firewalld/firewalld.pid"),
        firewalld_reapply: units.iter().any(|dir| Path::new(dir).join(wants).symlink_metadata().is_ok()),
    }
}

/// A text file of bounded size.
fn text(path: &Path) -> Option<String> {
    // Files of /proc have no size and are regular.
    crate::files::read(path, TEXT_MAX).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The names in a directory; none when there is no such directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
