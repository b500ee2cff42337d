//! A record as text, one fact per line. What may contain spaces is in hexadecimal digits.
//!
//! ```text
//! v 1
//! owner net eth0 c1
//! netns 4026532567 /run/netns/c1
//! space 4097
//! link 2
//! at 81234567890
//! backup x2f72756e2f636e692f74756e696e672f63315f657468302e6a736f6e
//! mac 02:00:00:00:00:01
//! mtu 1500
//! promisc 0
//! allmulti 0
//! queue 1000
//! sysctl net/ipv4/conf/eth0/arp_filter x30 x31
//! printed x31
//! ```

use std::ffi::OsString;
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::str::SplitWhitespace;

use host::piece::LinkSettings;
use host::{Namespace, Owner, hex};

use crate::record::{Kept, Record};

/// The version that is written, and the only one that is read.
const VERSION: &str = "v 1";
/// No value.
const NONE: &str = "-";
/// In front of hexadecimal digits.
const HEX: char = 'x';

/// The record's text.
pub fn write(record: &Record) -> String {
    let Owner { network, ifname, container_id } = &record.owner;
    let mut text = format!("{VERSION}\nowner {network} {ifname} {container_id}\n");
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    };
    if let Some(netns) = &record.netns {
        line(format_args!("netns {} {}", netns.inode, netns.path));
    }
    line(format_args!("space {}\nlink {}\nat {}", record.space, record.index, record.at));
    if let Some(backup) = &record.backup {
        line(format_args!("backup {}", hex(backup.as_os_str().as_bytes())));
    }
    let LinkSettings { mac, mtu, promiscuous, all_multicast, queue_length } = record.link;
    if let Some(mac) = mac {
        line(format_args!("mac {mac}"));
    }
    let numbers = [
        ("mtu", mtu),
        ("promisc", promiscuous.map(u32::from)),
        ("allmulti", all_multicast.map(u32::from)),
        ("queue", queue_length),
    ];
    for (name, number) in numbers {
        if let Some(number) = number {
            line(format_args!("{name} {number}"));
        }
    }
    for Kept { key, before, value, printed } in &record.parameters {
        let before = before.as_ref().map_or_else(|| NONE.into(), |before| hex(before.as_bytes()));
        line(format_args!("sysctl {key} {before} {}", hex(value.as_bytes())));
        if let Some(printed) = printed {
            line(format_args!("printed {}", hex(printed.as_bytes())));
        }
    }
    text
}

/// The inverse; `None` for another text.
pub fn read(bytes: &[u8]) -> Option<Record> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != VERSION {
        return None;
    }
    let mut owner = lines.next()?.strip_prefix("owner ")?.split_whitespace();
    let (network, ifname, container_id) = (owner.next()?, owner.next()?, owner.next()?);
    let mut record = Record {
        owner: Owner::new(network, container_id, ifname),
        netns: None,
        space: String::new(),
        index: 0,
        at: 0,
        backup: None,
        link: LinkSettings::default(),
        parameters: Vec::new(),
    };
    for line in lines {
        fact(&mut line.split_whitespace(), &mut record)?;
    }
    (!record.space.is_empty()).then_some(record)
}

fn fact(words: &mut SplitWhitespace<'_>, record: &mut Record) -> Option<()> {
    let link = &mut record.link;
    match words.next()? {
        "netns" => {
            let inode = words.next()?.parse().ok()?;
            record.netns = Some(Namespace { inode, path: words.next()?.to_owned() });
        }
        "space" => record.space = words.next()?.to_owned(),
        "link" => record.index = words.next()?.parse().ok()?,
        "at" => record.at = words.next()?.parse().ok()?,
        "backup" => record.backup = Some(OsString::from_vec(unhex(words.next()?)?).into()),
        "mac" => link.mac = Some(words.next()?.parse().ok()?),
        "mtu" => link.mtu = Some(words.next()?.parse().ok()?),
        "promisc" => link.promiscuous = Some(words.next()? == "1"),
        "allmulti" => link.all_multicast = Some(words.next()? == "1"),
        "queue" => link.queue_length = Some(words.next()?.parse().ok()?),
        "sysctl" => {
            let (key, before, value) = (words.next()?, words.next()?, words.next()?);
            let before = if before == NONE { None } else { Some(text(before)?) };
            record.parameters.push(Kept { key: key.to_owned(), before, value: text(value)?, printed: None });
        }
        "printed" => record.parameters.last_mut()?.printed = Some(text(words.next()?)?),
        // A later version's.
        _ => {}
    }
    Some(())
}

fn text(digits: &str) -> Option<String> {
    String::from_utf8(unhex(digits)?).ok()
}

/// With a mark in front: there may be no digits.
fn hex(bytes: &[u8]) -> String {
    format!("{HEX}{}", hex::encode(bytes))
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    hex::decode(digits.strip_prefix(HEX)?)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        Record {
            owner: Owner::new("net", "c1", "eth0"),
            netns: Some(Namespace { path: "/run/netns/c1".into(), inode: 4_026_532_567 }),
            space: "4097".into(),
            index: 2,
            at: 81,
            backup: Some("/run/cni/a b/c1_eth0.json".into()),
            link: LinkSettings {
                mac: Some("02:00:00:00:00:01".parse().unwrap()),
                mtu: Some(1500),
                promiscuous: Some(false),
                all_multicast: Some(true),
                queue_length: Some(1000),
            },
            parameters: vec![
                Kept {
                    key: "net/x".into(),
                    before: Some(String::new()),
                    value: "1 2".into(),
                    printed: Some("1\t2".into()),
                },
                Kept { key: "net/flush".into(), before: None, value: "1".into(), printed: None },
            ],
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let bare = Record {
            netns: None,
            backup: None,
            link: LinkSettings::default(),
            parameters: Vec::new(),
            ..record()
        };
        for record in [record(), bare] {
            assert_eq!(read(write(&record).as_bytes()), Some(record));
        }
        assert_eq!(read(b"v 2\nowner a b c\nspace 1\n"), None);
        assert_eq!(read(b""), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[b"v 1\nowner a b c\nspace 1\nsysctl net/x ", &bytes[..]].concat());
        }
    }
}
