//! For the fuzzer: any keys and values of etcd.

use std::net::{IpAddr, Ipv4Addr};

use sys::IpFamily;

use crate::check::is_usable;
use crate::decode::{self, Record};
use crate::key::{Endpoint, Key, is_host, is_name};
use crate::left_out::LeftOut;
use crate::settings::Settings;
use crate::wanted::{Item, Me, View};

const PREFIX: &str = "/moor";
/// Who asks, and another host with a container. Both are there before all else.
const ME: &str = "00000000000000aa";
const OTHER: &str = "00000000000000bb";
const OWN_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const CONTAINER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 66));
const GOOD: [(&str, &str); 7] = [
    (
        "host/00000000000000aa",
        r#"{"v":1,"name":"a","addresses":["192.0.2.1"],"mtu":1500,"agent":"1","protocol":1}"#,
    ),
    (
        "host/00000000000000bb",
        r#"{"v":1,"name":"b","addresses":["192.0.2.2"],"mtu":1500,"agent":"1","protocol":1}"#,
    ),
    ("alive/00000000000000bb", r#"{"v":1,"boot":"b"}"#),
    (
        "net/front",
        r#"{"v":1,"vni":7143425,"subnets":["10.9.0.0/16"],"gateways":["10.9.0.1"],"blockSize":64,"mtu":1450}"#,
    ),
    ("vni/7143425", r#"{"v":1,"network":"front"}"#),
    ("blk/front/10.9.0.64", r#"{"v":1,"host":"00000000000000bb"}"#),
    (
        "ep/front/00000000000000bb/good@eth0",
        r#"{"v":1,"ips":["10.9.0.66"],"mac":"02:6d:0a:09:00:42","names":["good"]}"#,
    ),
];

/// Any records, a line each: the key without the prefix, a blank, the value. Each is in force or
/// left out, and the good ones are in force all the same.
///
/// # Panics
/// That is not so.
pub fn records(bytes: &[u8]) {
    let good = GOOD.map(|(key, value)| (key.as_bytes(), value.as_bytes()));
    let lines = bytes.split(|byte| *byte == b'\n');
    let any = lines.map(|line| match line.iter().position(|byte| *byte == b' ') {
        Some(at) => (line.get(..at).unwrap_or_default(), line.get(at + 1..).unwrap_or_default()),
        None => (line, &[][..]),
    });
    let mut taken: Vec<(Key, Record)> = Vec::new();
    for (key, value) in good.into_iter().chain(any) {
        let path = [PREFIX.as_bytes(), b"/1/", key].concat();
        match Key::parse(&path, PREFIX) {
            Err(why) => assert!(LeftOut::of_bytes(&path, why).to_string().len() < 2000),
            Ok(key) => {
                assert_eq!(key.path(PREFIX).as_bytes(), path, "a key has one spelling");
                assert_names(&key);
                if let Some(record) = decoded(&key, value)
                    && !is_about_the_good(&key)
                    && taken.iter().all(|(other, _)| *other != key)
                {
                    taken.push((key, record));
                }
            }
        }
    }
    let items = taken.iter().zip(1..).map(|((key, record), created)| Item { key, record, created });
    let view = View::of(items, Me { host: ME, addresses: &[OWN_ADDRESS], underlay: IpFamily::V4 });
    assert_view(&view);
}

/// Any bytes are settings or a fault with the file.
///
/// # Panics
/// The settings are outside their bounds, or the fault does not name the file.
pub fn settings(bytes: &[u8]) {
    match Settings::parse(std::path::Path::new("/etc/moor/cluster.json"), Some(bytes)) {
        Ok(settings) => {
            assert!(!settings.endpoints.is_empty() && settings.prefix.starts_with('/'));
            assert!((3..=300).contains(&settings.host_ttl_s) && settings.timeout_ms <= 30_000);
        }
        Err(error) => assert!(error.to_string().starts_with("/etc/moor/cluster.json: ")),
    }
}

/// What takes the good container's address away rightly: a loan of it.
fn is_about_the_good(key: &Key) -> bool {
    matches!(key, Key::Lent { address, .. } if *address == CONTAINER)
}

/// Each name of a key is a name, so it can be a part of a path.
fn assert_names(key: &Key) {
    assert!(key.network().is_none_or(is_name), "{key}");
    if let Key::Endpoint(endpoint) = key {
        let parts = Endpoint::split(&endpoint.attachment());
        assert_eq!(parts, Some((endpoint.container.clone(), endpoint.ifname.clone())));
        assert!(is_host(&endpoint.host) && !endpoint.attachment().contains('/'));
    }
}

/// The record of a value. What is written of it is read as the same.
fn decoded(key: &Key, value: &[u8]) -> Option<Record> {
    let record = match decode::decode(key, value) {
        Ok(record) => record,
        Err(why) => {
            assert!(LeftOut::new(key, why).to_string().len() < 2000);
            return None;
        }
    };
    let written = match &record {
        Record::Meta(record) => decode::encode(record),
        Record::Host(record) => decode::encode(record),
        Record::Alive(record) => decode::encode(record),
        Record::Silent(record) => decode::encode(record),
        Record::Grace(record) => decode::encode(record),
        Record::Net(record) => decode::encode(record),
        Record::Vni(record) => decode::encode(record),
        Record::Block(record) => decode::encode(record),
        Record::Lent(record) => decode::encode(record),
        Record::Own(record) => decode::encode(record),
        Record::Ask(record) => decode::encode(record),
        Record::Endpoint(record) => decode::encode(record),
    };
    assert_eq!(decode::decode(key, &written).as_ref(), Ok(&record));
    Some(record)
}

fn assert_view(view: &View<'_>) {
    for name in view.nets.keys() {
        let entries = view.entries(name);
        for (mac, host) in &entries.forwarding {
            assert!(!mac.is_multicast() && !mac.is_zero() && is_usable(*host) && *host != OWN_ADDRESS);
        }
        for (ip, mac) in &entries.neighbours {
            assert!(is_usable(*ip) && entries.forwarding.contains_key(mac));
        }
        for (host, names) in view.names(name) {
            let attachments = names.attachments.iter().flat_map(|attachment| &attachment.names);
            assert!(is_host(&host) && attachments.clone().all(|name| names::parse(name, None).is_ok()));
        }
    }
    assert!(!view.members().contains(&OWN_ADDRESS));
    let good = view.remotes.get("front").into_iter().flatten().find(|remote| remote.ips == [CONTAINER]);
    assert!(good.is_some_and(|good| good.host == OTHER), "the good container is not served");
}
