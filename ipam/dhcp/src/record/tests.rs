use std::net::Ipv4Addr;

use super::*;
use crate::ask::Ask;
use crate::grant::Grant;
use crate::v6;

pub fn record() -> Record {
    Record {
        v: VERSION,
        network: "net".into(),
        container: "c1".into(),
        ifname: "eth0".into(),
        netns: "/run/netns/c1".into(),
        namespace: Namespace { inode: 7, cookie: None },
        index: 2,
        socket: "/run/cni/dhcp.sock".into(),
        state: State::Bound,
        terms: Terms::V4 { ask: ask(), grant: grant() },
        since: 1_000_000_000,
        priority: None,
    }
}

fn ask() -> Ask {
    Ask { client_id: vec![0, 1], provide: Vec::new(), wanted: vec![1, 3], broadcast: false }
}

fn grant() -> Grant {
    Grant {
        address: Ipv4Addr::new(10, 1, 2, 3),
        prefix: 24,
        server: Ipv4Addr::new(10, 1, 2, 1),
        server_mac: [2; 6],
        lease: Some(100),
        t1: 50,
        t2: 87,
        routers: Vec::new(),
        classless: None,
        classful: Vec::new(),
        mtu: None,
        name_servers: Vec::new(),
        domain: None,
        search: Vec::new(),
        time_servers: Vec::new(),
    }
}

pub fn record6() -> Record {
    let grant = v6::Grant {
        address: "2001:db8::3".parse().unwrap(),
        length: 64,
        server: vec![0, 3, 1],
        lease: Some(100),
        preferred: 80,
        t1: 40,
        t2: 64,
        prefix: None,
        name_servers: Vec::new(),
        search: Vec::new(),
    };
    Record { terms: Terms::V6 { ask: v6::Ask::of(b"c1", false), grant }, ..record() }
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::at(&dir.path().join("moor/dhcp"));
    store.make().unwrap();
    (dir, store)
}

#[test]
fn a_record_is_read_as_it_was_written() {
    let (_dir, store) = store();
    for record in [record(), record6()] {
        assert_eq!(store.read(&record.name()).unwrap(), None);
        store.write(&record).unwrap();
        assert_eq!(store.read(&record.name()).unwrap().as_ref(), Some(&record));
        assert_eq!(store.names().unwrap(), [record.name()]);
        assert!(store.remove(&record.name()).unwrap() && !store.remove(&record.name()).unwrap());
    }
}

#[test]
fn a_record_that_is_not_sound_is_none() {
    let odd = |change: fn(&mut Record)| {
        let mut odd = record();
        change(&mut odd);
        Record::of_bytes(&serde_json::to_vec(&odd).unwrap())
    };
    assert!(odd(|_| {}).is_some());
    let of = |ask, grant| Terms::V4 { ask, grant };
    for terms in [
        of(ask(), Grant { prefix: 33, ..grant() }),
        of(ask(), Grant { address: Ipv4Addr::LOCALHOST, ..grant() }),
        of(ask(), Grant { t1: 90, ..grant() }),
        of(ask(), Grant { lease: Some(0), ..grant() }),
        of(Ask { wanted: vec![1; 2000], ..ask() }, grant()),
    ] {
        let odd = Record { terms, ..record() };
        assert_eq!(Record::of_bytes(&serde_json::to_vec(&odd).unwrap()), None);
    }
    for change in [(|record| record.netns = "c1".into()) as fn(&mut Record), |record| {
        record.ifname = "an-interface-name".into()
    }] {
        assert_eq!(odd(change), None);
    }
    assert_eq!(Record::of_bytes(b"{}"), None);
}

#[test]
fn a_newer_record_is_named_and_an_older_one_is_read() {
    let (_dir, store) = store();
    let (record, name) = (record(), record().name());
    assert_eq!(store.fault(&name), None, "there is none");
    store.write(&record).unwrap();
    assert_eq!(store.fault(&name), None);
    let path = store.dir().join(&name);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("{\"v\":1,"), "{text}");
    std::fs::write(&path, text.replacen("{\"v\":1,", "{", 1)).unwrap();
    assert_eq!(store.read(&name).unwrap(), Some(record), "of before the version");
    std::fs::write(&path, text.replacen("\"v\":1", "\"v\":2", 1)).unwrap();
    assert_eq!(store.read(&name).unwrap(), None);
    let fault = store.fault(&name).unwrap();
    assert!(fault.contains(&name) && fault.contains("of version 2"), "{fault}");
    std::fs::write(&path, "{").unwrap();
    assert!(store.fault(&name).unwrap().contains("malformed"));
}

#[test]
fn the_daemon_does_not_revive_a_lease_that_is_given_back() {
    let (_dir, store) = store();
    let kept = record();
    assert!(!store.update(&kept).unwrap(), "there is none");
    store.write(&Record { state: State::Releasing, ..kept.clone() }).unwrap();
    assert!(!store.update(&kept).unwrap());
    store.write(&Record { state: State::Lost, ..kept.clone() }).unwrap();
    assert!(store.update(&kept).unwrap());
    let other = Record { namespace: Namespace { inode: 8, cookie: None }, ..kept };
    assert!(!store.update(&other).unwrap(), "a new container of the same name");
}

#[test]
fn times_run_from_the_grant() {
    let record = record();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!((record.t1(), record.t2(), record.end()), (seconds(51), seconds(88), seconds(101)));
    assert_eq!(record6().preferred_left(Duration::from_secs(31)), seconds(50));
    let infinite =
        Record { terms: Terms::V4 { ask: ask(), grant: Grant { lease: None, ..grant() } }, ..record };
    assert_eq!((infinite.t1(), infinite.end()), (None, None));
}

#[test]
fn names_of_records_differ_and_are_files() {
    let long = "c".repeat(4000);
    let names = [names("net", "c1", "eth0"), names("net", "c1", "eth1"), names("net", &long, "eth0")];
    assert!(names.iter().all(|[v4, v6]| v4.len() == 32 + SUFFIX.len() && *v6 == format!("{v4}6")));
    assert!(names[0] != names[1] && names[1] != names[2]);
}
