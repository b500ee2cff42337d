//! Containers on other hosts, as the agent gives their names to the responder of `dns`.

use std::net::IpAddr;
use std::path::Path;

use dns::record::{StateDir, read_remote};
use serde::Serialize;

use crate::namespace::namespace_name;
use crate::output::Note;

/// Where the agent writes them.
const STATE_DIR: &str = "/run/moor/dns";

/// A container on another host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Remote {
    /// The network.
    pub network: String,
    /// The host's name.
    pub host: String,
    /// The host's id.
    #[serde(rename = "hostId")]
    pub host_id: String,
    /// No sign of life came from the host.
    pub silent: bool,
    /// Names and aliases, the primary one first.
    pub names: Vec<String>,
    /// The addresses.
    pub addresses: Vec<IpAddr>,
}

/// The containers of other hosts, by network, host and name.
pub fn containers(notes: &mut Vec<Note>) -> Vec<Remote> {
    match namespace_name() {
        Some(name) => containers_in(&Path::new(STATE_DIR).join(name), notes),
        None => Vec::new(),
    }
}

fn containers_in(dir: &Path, notes: &mut Vec<Note>) -> Vec<Remote> {
    let state_dir = StateDir::at(dir);
    let mut found = Vec::new();
    // Without the directory there is no name of anybody.
    for network in state_dir.directories().unwrap_or_default() {
        let Ok((files, _)) = state_dir.remote_files(&network) else { continue };
        for file in files {
            let names = match read_remote(&file.path) {
                Ok(Some(usable)) => usable.names,
                Ok(None) => continue,
                Err(error) => {
                    notes.push(Note::about("overlay", &file.path, error.to_string()));
                    continue;
                }
            };
            found.extend(names.attachments.into_iter().map(|one| Remote {
                network: network.clone(),
                host: names.host.clone(),
                host_id: file.host.clone(),
                silent: names.silent,
                names: one.names,
                addresses: one.ips,
            }));
            if found.len() > cluster::RECORDS_MAX {
                let text = format!(
                    "more than {} containers on other hosts: the rest is left out",
                    cluster::RECORDS_MAX
                );
                notes.push(Note::new("overlay", text));
                found.truncate(cluster::RECORDS_MAX);
                return sorted(found);
            }
        }
    }
    sorted(found)
}

fn sorted(mut found: Vec<Remote>) -> Vec<Remote> {
    found.sort_by_cached_key(|one| (one.network.clone(), one.host.clone(), one.names.first().cloned()));
    found
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn containers_of_other_hosts_are_listed_by_network_and_host() {
        let dir = tempfile::tempdir().unwrap();
        let write = |network: &str, id: &str, text: &str| {
            let remote = dir.path().join("net").join(network).join("remote");
            std::fs::create_dir_all(&remote).unwrap();
            std::fs::write(remote.join(format!("{id:0>16}.json")), text).unwrap();
        };
        let of = |host: &str, name: &str| {
            let one = format!(r#"{{"names":["{name}"],"ips":["10.9.0.80"]}}"#);
            format!(r#"{{"v":1,"host":"{host}","silent":true,"attachments":[{one}]}}"#)
        };
        write("front", "b", &of("node-b", "web"));
        write("front", "a", &of("node-a", "db"));
        write("back", "a", "{");
        let mut notes = Vec::new();
        let found = containers_in(dir.path(), &mut notes);
        let shown: Vec<_> = found.iter().map(|one| (one.host.as_str(), one.names[0].as_str())).collect();
        assert_eq!(shown, [("node-a", "db"), ("node-b", "web")]);
        assert_eq!((found[1].host_id.as_str(), found[1].silent, notes.len()), ("000000000000000b", true, 1));
        assert!(containers_in(&dir.path().join("none"), &mut notes).is_empty());
    }
}
