//! What plugins and agent keep on this host.

use std::fs;
use std::path::Path;

use cluster::decode;
use cluster::local::{Attachment, STATE};
use cluster::record::Net;

use crate::files;
use crate::output::Note;

/// The largest file that is read, in bytes.
const FILE_MAX: u64 = cluster::VALUE_MAX as u64;
/// The most entries of a directory that are looked at.
const ENTRIES_MAX: usize = cluster::RECORDS_MAX;

/// An attachment to a network over many hosts, as the plugin recorded it.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// The network.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The interface.
    pub ifname: String,
    /// The record.
    pub record: Attachment,
}

/// The networks that this host knows of, by name. What cannot be read is passed over: STATUS and
/// the agent report it.
pub fn networks() -> Vec<(String, Net)> {
    networks_in(&Path::new(STATE).join("net"))
}

fn networks_in(dir: &Path) -> Vec<(String, Net)> {
    let named = |file: String| {
        let name = file.strip_suffix(".json")?.to_owned();
        let bytes = files::read(&dir.join(&file), FILE_MAX).ok()?;
        Some((name, decode::read::<Net>(&bytes).ok()?))
    };
    let mut found: Vec<_> = entries(dir).into_iter().filter_map(named).collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// The attachments of this host's network namespace.
pub fn attachments(notes: &mut Vec<Note>) -> Vec<Local> {
    super::place().map(|place| attachments_in(&place.join("att"), notes)).unwrap_or_default()
}

fn attachments_in(dir: &Path, notes: &mut Vec<Note>) -> Vec<Local> {
    let mut found = Vec::new();
    for network in entries(dir) {
        for file in entries(&dir.join(&network)) {
            let path = dir.join(&network).join(&file);
            let Some((container, ifname)) = file.strip_suffix(".json").and_then(|key| key.split_once('@'))
            else {
                notes.push(Note::about("overlay", &path, "not the record of an attachment"));
                continue;
            };
            let record = files::read(&path, FILE_MAX).map_err(|error| error.to_string()).and_then(|bytes| {
                serde_json::from_slice::<Attachment>(&bytes).map_err(|error| error.to_string())
            });
            match record {
                Ok(record) => found.push(Local {
                    network: network.clone(),
                    container_id: container.to_owned(),
                    ifname: ifname.to_owned(),
                    record,
                }),
                Err(error) => notes.push(Note::about("overlay", &path, error)),
            }
        }
    }
    found.sort_by(|one, other| {
        let key = |local: &Local| (local.network.clone(), local.container_id.clone(), local.ifname.clone());
        key(one).cmp(&key(other))
    });
    found
}

/// The names in a directory, without drafts; none if it cannot be listed.
fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().take(ENTRIES_MAX);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn networks_and_attachments_are_read_and_what_is_none_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("net");
        fs::create_dir_all(net.join("front")).unwrap();
        let record = r#"{"v":1,"vni":7143425,"subnets":["10.9.0.0/16"],"gateways":["10.9.0.1"],"blockSize":64,"mtu":1450}"#;
        fs::write(net.join("front.json"), record).unwrap();
        fs::write(net.join("bad.json"), "{").unwrap();
        fs::write(net.join("newer.json"), record.replace("\"v\":1", "\"v\":2")).unwrap();
        let found = networks_in(&net);
        assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["front"]);
        assert_eq!(found[0].1.mtu, Some(1450));

        let att = dir.path().join("att");
        fs::create_dir_all(att.join("front")).unwrap();
        let own = r#"{"v":1,"ips":["10.9.0.66"],"mac":"02:6d:0a:09:00:42","names":["web"],
            "netns":{"path":"/run/netns/c1","inode":7},"veth":"vethx"}"#;
        fs::write(att.join("front/c1@eth0.json"), own).unwrap();
        fs::write(att.join("front/.moor-c2@eth0.json"), "{").unwrap();
        fs::write(att.join("front/c3@eth0.json"), "{").unwrap();
        fs::write(att.join("front/odd"), "").unwrap();
        let mut notes = Vec::new();
        let found = attachments_in(&att, &mut notes);
        assert_eq!((found.len(), notes.len()), (1, 2));
        assert_eq!((found[0].container_id.as_str(), found[0].ifname.as_str()), ("c1", "eth0"));
        assert!(networks_in(&dir.path().join("none")).is_empty());
    }
}
