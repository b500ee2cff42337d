//! A record as text, one fact per line. What may contain spaces is in hexadecimal digits.
//!
//! ```text
//! v 1
//! owner net eth0 c1
//! netns 4026532567 /run/netns/c1
//! device eno1 2 -
//! mac 02:00:00:00:00:01
//! permanent 02:00:00:00:00:01
//! mtu 1500
//! up
//! alias 75706c696e6b
//! parameter ipv4/rp_filter 2
//! taken 1968488486
//! address 02188000020000000800020...
//! route 0200000...
//! ```

use std::fmt::Write as _;
use std::str::SplitWhitespace;

use netlink::{Parameter, Saved};

use super::{Device, Record};
use crate::{Namespace, Owner, hex};

/// The version that is written, and the only one that is read.
const VERSION: &str = "v 1";
/// No kind.
const NONE: &str = "-";

pub(super) fn write(record: &Record) -> String {
    let Record { owner: Owner { network, ifname, container_id }, device, .. } = record;
    let mut text = format!("{VERSION}\nowner {network} {ifname} {container_id}\n");
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    };
    if let Some(Namespace { path, inode }) = &record.netns {
        line(format_args!("netns {inode} {path}"));
    }
    let kind = device.kind.as_deref().unwrap_or(NONE);
    line(format_args!("device {} {} {kind}", device.name, device.index));
    if let Some(mac) = device.mac {
        line(format_args!("mac {mac}"));
    }
    if let Some(mac) = device.permanent_mac {
        line(format_args!("permanent {mac}"));
    }
    line(format_args!("mtu {}", device.mtu));
    if device.up {
        line(format_args!("up"));
    }
    if !device.alias.is_empty() {
        line(format_args!("alias {}", hex::encode(device.alias.as_bytes())));
    }
    for Parameter { name, value } in &device.parameters {
        line(format_args!("parameter {name} {value}"));
    }
    line(format_args!("taken {}", record.taken_index));
    if record.released {
        line(format_args!("released"));
    }
    for saved in &device.restored {
        let kind = if saved.is_address() { "address" } else { "route" };
        line(format_args!("{kind} {}", hex::encode(saved.as_bytes())));
    }
    text
}

/// The inverse; `None` for another text.
pub(super) fn read(bytes: &[u8]) -> Option<Record> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != VERSION {
        return None;
    }
    let mut owner = lines.next()?.strip_prefix("owner ")?.split_whitespace().map(str::to_owned);
    let (network, ifname, container_id) = (owner.next()?, owner.next()?, owner.next()?);
    let mut record = Record {
        owner: Owner { network, ifname, container_id },
        netns: None,
        taken_index: 0,
        released: false,
        device: Device {
            name: String::new(),
            index: 0,
            kind: None,
            mac: None,
            permanent_mac: None,
            mtu: 0,
            up: false,
            alias: String::new(),
            parameters: Vec::new(),
            restored: Vec::new(),
        },
    };
    for line in lines {
        fact(&mut line.split_whitespace(), &mut record)?;
    }
    (!record.device.name.is_empty()).then_some(record)
}

fn fact(words: &mut SplitWhitespace<'_>, record: &mut Record) -> Option<()> {
    let device = &mut record.device;
    match words.next()? {
        "netns" => {
            let inode = words.next()?.parse().ok()?;
            record.netns = Some(Namespace { inode, path: words.next()?.to_owned() });
        }
        "device" => {
            device.name = words.next()?.to_owned();
            device.index = words.next()?.parse().ok()?;
            device.kind = words.next().filter(|kind| *kind != NONE).map(str::to_owned);
        }
        "mac" => device.mac = Some(words.next()?.parse().ok()?),
        "permanent" => device.permanent_mac = Some(words.next()?.parse().ok()?),
        "mtu" => device.mtu = words.next()?.parse().ok()?,
        "up" => device.up = true,
        "alias" => device.alias = String::from_utf8(hex::decode(words.next()?)?).ok()?,
        "parameter" => {
            let parameter = Parameter::new(words.next()?, words.next()?.parse().ok()?);
            device.parameters.push(parameter?);
        }
        "taken" => record.taken_index = words.next()?.parse().ok()?,
        "released" => record.released = true,
        "address" => device.restored.push(Saved::address(&hex::decode(words.next()?)?).ok()?),
        "route" => device.restored.push(Saved::route(&hex::decode(words.next()?)?).ok()?),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn record() -> Record {
        // 10.1.2.3/24, and a default route by 10.1.2.1 (linux/rtnetlink.h).
        let address = hex::decode("021880000200000008000200 0a010203".replace(' ', "").as_str()).unwrap();
        let route =
            hex::decode("02000000fe030001000000000800050 00a010201".replace(' ', "").as_str()).unwrap();
        Record {
            owner: Owner::new("net", "c1", "eth0"),
            netns: Some(Namespace { path: "/run/netns/c1".into(), inode: 7 }),
            taken_index: 1_968_488_486,
            released: true,
            device: Device {
                name: "eno1".into(),
                index: 2,
                kind: None,
                mac: "02:00:00:00:00:01".parse().ok(),
                permanent_mac: "02:00:00:00:00:02".parse().ok(),
                mtu: 9000,
                up: true,
                alias: "uplink\nto the switch ".into(),
                parameters: Parameter::new("ipv4/rp_filter", 2).into_iter().collect(),
                restored: vec![Saved::address(&address).unwrap(), Saved::route(&route).unwrap()],
            },
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let whole = record();
        assert_eq!(read(write(&whole).as_bytes()), Some(whole.clone()));
        let device =
            Device { kind: Some("veth".into()), alias: String::new(), restored: vec![], ..whole.device };
        let least = Record { netns: None, released: false, device, ..whole };
        assert_eq!(read(write(&least).as_bytes()), Some(least));
    }

    #[test]
    fn a_cut_record_is_not_understood_or_a_shorter_list() {
        let text = write(&record());
        let least = text.find("taken").unwrap();
        for end in 0..text.find("mac").unwrap() - 1 {
            let found = text.get(..end).and_then(|text| read(text.as_bytes()));
            assert!(found.is_none_or(|found| found.device.name.starts_with("eno")), "{end}");
        }
        assert!(read(text.get(..least).unwrap().as_bytes()).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[b"v 1\nowner a b c\n", &bytes[..]].concat());
        }
    }
}
