//! The backup of a link's settings in the reference's format: its DEL reads ours, and ours reads
//! its. There is one while a host's executables are changed under running containers.

use std::path::{Path, PathBuf};

use cni::{Json, Style};
use host::piece::LinkSettings;
use host::{Owner, notice};
use serde::Deserialize;
use sys::Result;
use sys::file::{self, Sync};

use crate::record::Record;

/// The mode of a directory that only its owner reads.
const DIR_MODE: u32 = 0o700;
/// The mode of a backup.
const MODE: u32 = 0o600;
/// The longest one, in bytes; the reference writes a hundred.
const LONGEST: usize = 64 << 10;
/// The longest name of a file (NAME_MAX, linux/limits.h), less what its draft is called besides.
const LONGEST_NAME: usize = 255 - file::TEMP_PREFIX.len();

/// The keys of the file.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    mac: Option<String>,
    promisc: Option<bool>,
    mtu: Option<u32>,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_q_len: Option<u32>,
}

/// Where the reference looks for the backup of an attachment; `None` if no file can have the name.
pub fn path(dir: &Path, owner: &Owner) -> Option<PathBuf> {
    let name = format!("{}_{}.json", owner.container_id, owner.ifname);
    (name.len() <= LONGEST_NAME).then(|| dir.join(name))
}

/// Writes it, whole.
///
/// # Errors
/// The directory cannot be created, or the file cannot be written.
pub fn write(path: &Path, settings: &LinkSettings) -> Result<()> {
    if let Some(dir) = path.parent() {
        file::create_dir(dir, DIR_MODE)?;
    }
    file::write_whole(path, &print(settings), MODE, Sync::Later)
}

fn print(settings: &LinkSettings) -> Vec<u8> {
    let LinkSettings { mac, mtu, promiscuous, all_multicast, queue_length } = settings;
    let number = |number: &u32| Json::from(u64::from(*number));
    let members = [
        ("mac", mac.map(|mac| Json::from(mac.to_string()))),
        ("promisc", promiscuous.map(Json::Bool)),
        ("mtu", mtu.as_ref().map(number)),
        ("allmulti", all_multicast.map(Json::Bool)),
        ("txQLen", queue_length.as_ref().map(number)),
    ];
    let given = members.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Json::Object(given.collect()).print(Style::Indented)
}

/// Removes that of a record, if there is one.
///
/// # Errors
/// It cannot be removed.
pub fn remove(record: &Record) -> Result<()> {
    match &record.backup {
        Some(path) => file::remove_whole(path).map(drop),
        None => Ok(()),
    }
}

/// Reads it; `None` when there is none. One that is not understood has no settings.
pub fn read(path: &Path) -> Option<LinkSettings> {
    let bytes = match file::read(path, LONGEST) {
        Ok(bytes) => bytes?,
        Err(error) => {
            notice(format_args!("{error:#}"));
            return None;
        }
    };
    let wire: Wire = Json::parse(&bytes).and_then(|tree| tree.decode()).unwrap_or_default();
    Some(LinkSettings {
        mac: attach::mac_of(wire.mac.as_deref()),
        mtu: wire.mtu,
        promiscuous: wire.promisc,
        all_multicast: wire.allmulti,
        queue_length: wire.tx_q_len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_is_read_as_it_was_written_or_as_the_reference_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(&dir.path().join("a/b"), &Owner::new("net", "c1", "eth0")).unwrap();
        assert!(path.ends_with("a/b/c1_eth0.json"));
        let settings = LinkSettings {
            mac: Some("02:00:00:00:00:aa".parse().unwrap()),
            mtu: Some(1500),
            promiscuous: Some(false),
            all_multicast: Some(false),
            queue_length: Some(1000),
        };
        write(&path, &settings).unwrap();
        assert_eq!(read(&path), Some(settings));
        let of_reference = "{\n \"mac\": \"02:00:00:00:00:aa\",\n \"promisc\": false,\n \"mtu\": 1500\n}";
        std::fs::write(&path, of_reference).unwrap();
        let without = LinkSettings { all_multicast: None, queue_length: None, ..settings };
        assert_eq!(read(&path), Some(without));
        std::fs::write(&path, "{\"mtu\": -1").unwrap();
        assert_eq!(read(&path), Some(LinkSettings::default()));
        assert_eq!(read(&dir.path().join("none")), None);
    }

    #[test]
    fn an_id_that_is_longer_than_a_filename_has_no_backup() {
        assert_eq!(path(Path::new("/run"), &Owner::new("net", "c".repeat(250), "eth0")), None);
    }
}
