//! The names that Moor's DNS answers for containers, as its records have them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use dns::record::{Mode, StateDir};
use serde_json::Value;

use crate::namespace::namespace_name;
use crate::networks::Networks;
use crate::output::Note;

/// Where the records are, unless a list names another directory.
const STATE_DIR: &str = "/run/moor/dns";

/// The names of an attachment.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The network.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The interface.
    pub ifname: String,
    /// The names, the primary one first.
    pub names: Vec<String>,
    /// The addresses on the network.
    pub addresses: Vec<IpAddr>,
    /// Where the network's containers send queries; none if they do so in their own namespace.
    pub servers: Vec<IpAddr>,
    /// The port there.
    pub port: u16,
    /// The path of the container's namespace, if it sends queries there.
    pub netns: Option<PathBuf>,
}

impl Named {
    /// Network, container and interface.
    pub(super) fn key(&self) -> [&str; 3] {
        [&self.network, &self.container_id, &self.ifname]
    }
}

/// Reads the records of this host's network namespace.
pub fn read(networks: &Networks, notes: &mut Vec<Note>) -> Vec<Named> {
    let Some(name) = namespace_name() else { return Vec::new() };
    let mut named = Vec::new();
    for root in roots(networks) {
        let scanned = match StateDir::at(root.join(&name)).scan() {
            Ok(scanned) => scanned,
            Err(error) => {
                notes.push(Note::new("names", format!("{error:#}")));
                continue;
            }
        };
        for records in scanned {
            for unreadable in records.unreadable {
                notes.push(Note::about("names", &unreadable.path, unreadable.error.to_string()));
            }
            let network = records.network.as_ref();
            let by_gateway = network.filter(|network| network.mode == Mode::Gateway);
            named.extend(records.attachments.into_iter().map(|one| Named {
                network: one.network,
                container_id: one.key.container,
                ifname: one.key.ifname,
                names: one.names,
                addresses: one.ips,
                servers: by_gateway.map(|network| network.listen.clone()).unwrap_or_default(),
                port: network.map_or(0, |network| network.port),
                netns: one.netns.map(PathBuf::from),
            }));
        }
    }
    let key = |one: &Named| (one.network.clone(), one.names.first().cloned(), one.container_id.clone());
    named.sort_by_cached_key(key);
    named
}

/// The directories of records that lists name, and the usual one.
fn roots(networks: &Networks) -> BTreeSet<PathBuf> {
    let plugins = networks.all.iter().flat_map(|network| &network.list.plugins);
    let ours = plugins.filter(|plugin| matches!(plugin.plugin_type.as_str(), "dns" | "dnsname"));
    let dir = |value: &Value| value.as_str().filter(|dir| dir.starts_with('/')).map(PathBuf::from);
    let named = ours.filter_map(|plugin| dir(plugin.object.get("stateDir")?));
    named.chain([STATE_DIR.into()]).collect()
}
