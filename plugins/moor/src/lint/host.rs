//! What this host has: the plugins of the path, links, routes, and who else makes networks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;
use netlink::Netlink;

use crate::resolv;
use crate::subnets::masked;
use crate::suite;

/// A route with a shorter prefix is a default route in parts, as VPNs have it.
const PREFIX_MIN: u8 = 8;

/// The plugins in the path, each looked up once.
#[derive(Debug)]
pub(super) struct Plugins {
    path: Vec<PathBuf>,
    references: RefCell<BTreeMap<String, bool>>,
}

impl Plugins {
    /// Those of a path.
    pub(super) fn new(path: &[PathBuf]) -> Self {
        Self { path: path.to_vec(), references: RefCell::default() }
    }

    /// The path, for a sentence.
    pub(super) fn path(&self) -> String {
        self.path.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":")
    }

    /// The executable of a plugin.
    pub(super) fn find(&self, name: &str) -> Option<PathBuf> {
        runtime::find_plugin(name, &self.path).ok()
    }

    /// Whether the installed plugin is the reference's.
    pub(super) fn is_references(&self, name: &str) -> bool {
        if let Some(known) = self.references.borrow().get(name) {
            return *known;
        }
        let is_it = self.find(name).and_then(|file| suite::is_references(&file)) == Some(true);
        self.references.borrow_mut().insert(name.to_owned(), is_it);
        is_it
    }
}

/// Whether root may run the file.
pub(super) fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|about| about.permissions().mode() & 0o111 != 0)
}

/// A subnet that the host is on, or has a route to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Taken {
    /// The subnet.
    pub subnet: IpNetwork,
    /// The link that leads there.
    pub link: String,
}

/// The host as it is.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// The kernel, if it answers.
    pub netlink: Option<Netlink>,
    /// Subnets that are in use.
    pub taken: Vec<Taken>,
    /// The name servers of this host.
    pub servers: Vec<IpAddr>,
    /// Networks that other tools have without a file: their subnet, and the tool.
    pub defaults: Vec<(IpNetwork, &'static str)>,
    /// Something on this host takes the first file for pods.
    pub has_pods: bool,
}

impl Host {
    /// Reads this host. What the kernel does not report stays unknown.
    pub(super) fn read() -> (Self, Option<String>) {
        let mut host = Self {
            servers: resolv::name_servers(),
            defaults: defaults(),
            has_pods: has_pods(),
            ..Self::default()
        };
        let fault = host.ask_kernel().err().map(|error| format!("links and routes cannot be read: {error}"));
        (host, fault)
    }

    fn ask_kernel(&mut self) -> sys::Result<()> {
        let netlink = Netlink::open()?;
        let names: BTreeMap<u32, String> =
            netlink.links()?.into_iter().map(|link| (link.index, link.name)).collect();
        let of = |index: u32| names.get(&index).cloned().unwrap_or_default();
        let mut add = |subnet: IpNetwork, link: String| {
            let is_host = subnet.prefix() == if subnet.is_ipv4() { 32 } else { 128 };
            let is_common = subnet.ip().is_loopback() || subnet.ip().is_multicast() || link == "lo";
            let is_local = matches!(subnet.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
            if subnet.prefix() >= PREFIX_MIN && !is_host && !is_common && !is_local {
                self.taken.push(Taken { subnet: masked(subnet), link });
            }
        };
        for address in netlink.addresses(None)? {
            add(address.net, of(address.index));
        }
        // RTN_UNICAST, linux/rtnetlink.h.
        for route in netlink.routes(None, None)?.into_iter().filter(|route| route.kind == 1) {
            add(route.dst, route.index.map(of).unwrap_or_default());
        }
        self.taken.sort_by(|one, other| (one.subnet, &one.link).cmp(&(other.subnet, &other.link)));
        self.taken.dedup();
        self.netlink = Some(netlink);
        Ok(())
    }

    /// The kind of the link of that name, `""` for hardware; `None` when there is none.
    pub(super) fn link(&self, name: &str) -> Option<Option<String>> {
        let netlink = self.netlink.as_ref()?;
        let found = netlink.link_by_name(name).ok()?;
        Some(found.map(|link| link.kind.unwrap_or_default()))
    }
}

/// The defaults of podman and nerdctl, where they are installed.
fn defaults() -> Vec<(IpNetwork, &'static str)> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_there = |tool: &str| env::split_paths(&path).any(|dir| dir.join(tool).is_file());
    let all = [("podman", "10.88.0.0/16"), ("nerdctl", "10.4.0.0/24")];
    let there = all.into_iter().filter(|(tool, _)| is_there(tool));
    there.filter_map(|(tool, subnet)| Some((cni::parse_cidr(subnet).ok()?, tool))).collect()
}

fn has_pods() -> bool {
    ["/run/containerd/containerd.sock", "/run/crio/crio.sock", "/var/run/crio/crio.sock"]
        .iter()
        .any(|socket| Path::new(socket).exists())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn an_executable_of_the_reference_is_known_by_the_paths_of_its_packages() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("bridge"), b"\x7fELF github.com/containernetworking/plugins/pkg/ip.x")
            .unwrap();
        fs::write(dir.path().join("portmap"), b"\x7fELF moor").unwrap();
        let plugins = Plugins::new(&[dir.path().to_owned()]);
        let known = ["bridge", "portmap", "dns"].map(|name| plugins.is_references(name));
        assert_eq!(known, [true, false, false]);
    }
}
