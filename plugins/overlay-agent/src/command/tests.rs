#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;

use cluster::control::{Answer, Outcome, Request, Status};
use cluster::key::{Endpoint, Key};
use cluster::record::{Alive, Block, EndpointRecord, Grace, Host, Net, Own, Silent, Vni};
use proptest::prelude::*;
use serde::Serialize;

use super::failure::{FAILED, Failure};
use super::store::Store;
use super::{attachments, hosts, leave, networks, status};
use crate::state::cache::{Cache, Raw};
use crate::txn::{Compare, OPERATIONS, Op, Txn};

const ALIVE: &str = "00000000000000aa";
const SILENT: &str = "00000000000000bb";

/// etcd, as far as commands need it.
#[derive(Default)]
struct Fake {
    records: BTreeMap<Key, (Vec<u8>, i64)>,
    revision: i64,
    /// Done once, between the next read and the next transaction.
    meanwhile: Option<(Key, Vec<u8>)>,
    transactions: usize,
    /// The agents of living hosts, where a command waits for them.
    agents: Option<fn(&mut Fake)>,
}

impl Fake {
    fn put(&mut self, key: Key, record: &impl Serialize) {
        self.revision += 1;
        self.records.insert(key, (cluster::decode::encode(record), self.revision));
    }

    fn cache(&self) -> Cache {
        let raw = |(key, (value, revision)): (&Key, &(Vec<u8>, i64))| Raw {
            key: key.path("/moor").into_bytes(),
            value: value.clone(),
            created: *revision,
            modified: *revision,
        };
        let mut cache = Cache::new("/moor");
        cache.replace(&self.records.iter().map(raw).collect::<Vec<_>>(), self.revision);
        cache
    }
}

impl Store for Fake {
    fn read(&mut self) -> Result<Cache, Failure> {
        Ok(self.cache())
    }

    fn pause(&mut self) {
        if let Some(agents) = self.agents {
            agents(self);
        }
    }

    fn commit(&mut self, txn: &Txn) -> Result<bool, Failure> {
        if let Some((key, value)) = self.meanwhile.take() {
            self.revision += 1;
            self.records.insert(key, (value, self.revision));
        }
        self.transactions += 1;
        assert!(txn.compares.len() + txn.ops.len() <= OPERATIONS, "{} operations", txn.ops.len());
        assert!(!txn.compares.is_empty(), "bound to nothing");
        let holds = txn.compares.iter().all(|compare| match compare {
            Compare::Absent(key) => !self.records.contains_key(key),
            Compare::Unchanged(key, revision) => {
                self.records.get(key).is_some_and(|found| found.1 == *revision)
            }
            Compare::Value(key, value) => self.records.get(key).is_some_and(|found| found.0 == *value),
        });
        if holds {
            self.revision += 1;
            for op in &txn.ops {
                match op {
                    Op::Put(key, value, _) => {
                        drop(self.records.insert(key.clone(), (value.clone(), self.revision)))
                    }
                    Op::Delete(key) => drop(self.records.remove(key)),
                }
            }
        }
        Ok(holds)
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(network: &str, host: &str, number: u8) -> (Key, EndpointRecord) {
    let key = Endpoint {
        network: network.into(),
        host: host.into(),
        container: format!("c{number}"),
        ifname: "eth0".into(),
    };
    let record = EndpointRecord {
        v: 1,
        ips: vec![IpAddr::from([10, 9, 0, number])],
        mac: format!("02:6d:0a:09:00:{number:02x}"),
        names: vec![format!("web-{number}")],
        drained: false,
    };
    (Key::Endpoint(key), record)
}

/// Two hosts, of which one is silent, and two networks with a block on each.
fn cluster_of(endpoints: u8) -> Fake {
    let mut fake = Fake::default();
    for (host, name) in [(ALIVE, "node-a"), (SILENT, "node-b")] {
        let record = Host {
            v: 1,
            name: name.into(),
            addresses: vec![ip("192.0.2.1")],
            mtu: 1500,
            agent: "0.1.0".into(),
            protocol: 1,
        };
        fake.put(Key::Host(host.into()), &record);
    }
    fake.put(Key::Alive(ALIVE.into()), &Alive { v: 1, boot: "b".into() });
    fake.put(Key::Silent(SILENT.into()), &Silent { v: 1, since: "2026-11-30T01:02:03Z".into() });
    fake.put(Key::Grace(SILENT.into()), &Grace { v: 1 });
    for (network, third, vni) in [("front", 9, 0x6d_0001), ("back", 8, 0x6d_0002)] {
        let net = Net {
            v: 1,
            vni: Some(vni),
            subnets: vec![format!("10.{third}.0.0/16").parse().unwrap()],
            gateways: vec![IpAddr::from([10, third, 0, 1])],
            block_size: 64,
            mtu: Some(1450),
            encrypted: false,
            multicast: false,
            internal: false,
        };
        fake.put(Key::Net(network.into()), &net);
        fake.put(Key::Vni(vni), &Vni { v: 1, network: network.into() });
    }
    for (host, network, block) in [(ALIVE, "front", 64), (SILENT, "front", 128), (ALIVE, "back", 64)] {
        let third = if network == "front" { 9 } else { 8 };
        let first = IpAddr::from([10, third, 0, block]);
        fake.put(Key::Block { network: network.into(), first }, &Block { v: 1, host: host.into() });
        let own = Own { v: 1, ips: vec![first], mac: "02:6d:0a:09:00:40".into() };
        fake.put(Key::Own { network: network.into(), host: host.into() }, &own);
    }
    for number in 1..=endpoints {
        let (key, record) = endpoint("front", SILENT, number);
        fake.put(key, &record);
    }
    fake
}

fn of_host<'f>(fake: &'f Fake, host: &str) -> Vec<&'f Key> {
    fake.records.keys().filter(|key| key.to_string().contains(host)).collect()
}

#[test]
fn a_host_that_is_alive_is_not_removed() {
    let mut fake = cluster_of(0);
    let before = fake.records.clone();
    for dead in [false, true] {
        let refused = hosts::remove(&mut fake, "node-a", dead).unwrap_err();
        assert!(refused.text.contains("is alive") && refused.hint.unwrap().contains("overlay leave"));
    }
    let refused = hosts::remove(&mut fake, "node-b", false).unwrap_err();
    assert!(refused.text.contains("silent since 2026-11-30T01:02:03Z"), "{}", refused.text);
    assert!(refused.hint.unwrap().contains("--dead"));
    for unknown in ["node-c", "00000", "0000000000000000"] {
        assert_eq!(hosts::remove(&mut fake, unknown, true).unwrap_err().exit, FAILED, "{unknown}");
    }
    assert_eq!(fake.records, before);
}

/// O-087
#[test]
fn a_removed_host_leaves_no_record_and_others_keep_theirs() {
    let mut fake = cluster_of(250);
    let kept = fake.records.len() - of_host(&fake, SILENT).len() - 1;
    let done = hosts::remove(&mut fake, SILENT, true).unwrap();
    assert!(done.contains("node-b") && done.contains("250 attachments and 1 blocks"), "{done}");
    assert_eq!(of_host(&fake, SILENT), Vec::<&Key>::new());
    assert_eq!(fake.records.len(), kept, "its block has no host's id in its key");
    assert!(fake.transactions >= 4, "transactions have at most {OPERATIONS} operations");
}

#[test]
fn a_host_that_nobody_marked_is_marked_first_and_one_that_comes_back_stays() {
    let mut fake = cluster_of(10);
    fake.records.remove(&Key::Silent(SILENT.into()));
    fake.records.remove(&Key::Grace(SILENT.into()));
    let mut back = cluster_of(10);
    hosts::remove(&mut fake, "node-b", true).unwrap();
    assert_eq!(of_host(&fake, SILENT), Vec::<&Key>::new());

    let alive = cluster::decode::encode(&Alive { v: 1, boot: "c".into() });
    back.meanwhile = Some((Key::Alive(SILENT.into()), alive));
    let records = back.records.len();
    let refused = hosts::remove(&mut back, "node-b", true).unwrap_err();
    assert!(refused.text.contains("is alive"), "{}", refused.text);
    assert_eq!(back.records.len(), records + 1);
}

#[test]
fn a_network_in_use_is_not_removed() {
    let mut fake = cluster_of(3);
    let before = fake.records.clone();
    let refused = networks::remove(&mut fake, "front").unwrap_err();
    assert!(refused.text.contains("3 attachments on node-b"), "{}", refused.text);
    let (key, _) = endpoint("front", SILENT, 1);
    let mut unattached = cluster_of(0);
    assert!(!unattached.records.contains_key(&key));
    let refused = networks::remove(&mut unattached, "front").unwrap_err();
    assert!(refused.text.contains("node-b has blocks"), "{}", refused.text);
    assert_eq!(fake.records, before);
}

#[test]
fn a_living_host_keeps_the_network_that_its_containers_have_addresses_of() {
    let mut fake = cluster_of(0);
    let net = fake.records[&Key::Net("back".into())].0.clone();
    let before: Vec<Key> = fake.records.keys().cloned().collect();
    fake.agents = Some(|fake| {
        // As an agent does that finds a lease: the record is made again, with its id.
        fake.revision += 1;
        let record = cluster_of(0).records.remove(&Key::Net("back".into())).unwrap().0;
        fake.records.insert(Key::Net("back".into()), (record, fake.revision));
        fake.put(Key::Vni(0x6d_0002), &Vni { v: 1, network: "back".into() });
    });
    let refused = networks::remove(&mut fake, "back").unwrap_err();
    assert!(refused.text.contains("has containers on node-a"), "{}", refused.text);
    assert_eq!(fake.records.keys().cloned().collect::<Vec<_>>(), before);
    assert_eq!(fake.records[&Key::Net("back".into())].0, net);
}

#[test]
fn a_host_that_gives_nothing_up_is_waited_for_in_bounds_and_named() {
    let mut fake = cluster_of(0);
    let refused = networks::remove(&mut fake, "back").unwrap_err();
    assert!(refused.text.contains("node-a has not given up"), "{}", refused.text);
    let has_block = |fake: &Fake| {
        fake.records.keys().any(|key| matches!(key, Key::Block { network, .. } if network == "back"))
    };
    assert!(has_block(&fake), "what a living host has is never deleted by others");
    fake.agents = Some(give_up);
    networks::remove(&mut fake, "back").unwrap();
    assert!(!has_block(&fake));
}

/// As agents do with networks that are gone, and that have no container there.
fn give_up(fake: &mut Fake) {
    let networks: Vec<String> = fake.cache().nets().map(|(network, _)| network.to_owned()).collect();
    fake.records.retain(|key, _| key.network().is_none_or(|network| networks.iter().any(|is| is == network)));
}

/// O-087
#[test]
fn a_removed_network_leaves_no_record_and_others_keep_theirs() {
    let mut fake = cluster_of(0);
    fake.agents = Some(give_up);
    for number in 0..200 {
        let first = IpAddr::from([10, 8, number, 0]);
        fake.put(Key::Block { network: "back".into(), first }, &Block { v: 1, host: ALIVE.into() });
    }
    networks::remove(&mut fake, "back").unwrap();
    let left: Vec<&Key> = fake.records.keys().filter(|key| key.network() == Some("back")).collect();
    assert_eq!(left, Vec::<&Key>::new());
    assert!(
        !fake.records.contains_key(&Key::Vni(0x6d_0002)) && fake.records.contains_key(&Key::Vni(0x6d_0001))
    );
    assert!(fake.records.contains_key(&Key::Net("front".into())));
    let refused = networks::remove(&mut fake, "nowhere").unwrap_err();
    assert!(refused.text.contains("no network"), "{}", refused.text);
}

#[test]
fn lists_name_everything_and_print_no_control_characters() {
    let mut fake = cluster_of(2);
    let (key, mut record) = endpoint("back", ALIVE, 7);
    record.names = vec!["web".into()];
    fake.put(key, &record);
    let cache = fake.cache();
    let text = attachments::list(&cache, None, false).unwrap();
    for part in ["NETWORK", "front", "c1", "node-b", "10.9.0.1", "02:6d:0a:09:00:01", "web-2"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(attachments::list(&cache, Some("back"), false).unwrap().lines().count(), 2);
    assert_eq!(attachments::list(&cache, Some("nowhere"), false).unwrap_err().exit, FAILED);
    let text = hosts::list(&cache, false).unwrap();
    assert!(text.contains("alive") && text.contains("silent since 2026-11-30T01:02:03Z"), "{text}");
    let text = networks::list(&cache, false).unwrap();
    assert!(text.contains("10.9.0.0/16") && text.contains("7143425"), "{text}");
    for json in [
        attachments::list(&cache, None, true).unwrap(),
        hosts::list(&cache, true).unwrap(),
        networks::list(&cache, true).unwrap(),
    ] {
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert!(!value.as_array().unwrap().is_empty());
    }
    assert_eq!(super::table::clean("a\x1b[31m\u{202e}b"), "a?[31m?b");
}

fn answer(outcome: Outcome) -> Answer {
    Answer {
        protocol: 1,
        build: "0.1.0".into(),
        pid: 7,
        outcome,
        why: None,
        code: None,
        net: None,
        differences: Vec::new(),
        status: None,
    }
}

#[test]
fn the_status_is_printed_before_its_faults_fail_it() {
    let mut status_now = Status { host: ALIVE.into(), name: "node-a".into(), ..Status::default() };
    let of = |status: &Status| Answer { status: Some(status.clone()), ..answer(Outcome::Done) };
    let text = status::status(&of(&status_now), false).unwrap();
    assert!(text.contains("node-a") && text.contains("away"), "{text}");
    status_now.faults = vec!["identity used twice".into()];
    let failure = status::status(&of(&status_now), false).unwrap_err();
    assert_eq!(failure.exit, FAILED);
    assert!(failure.output.unwrap().contains("identity used twice"));
    assert_eq!(status::status(&answer(Outcome::Failed), true).unwrap_err().exit, FAILED);
    assert_eq!(leave::request(true), Request::Leave { force: true });
    assert!(leave::leave(&answer(Outcome::Done)).is_ok() && leave::leave(&answer(Outcome::Queued)).is_err());
}

proptest! {
    #[test]
    fn a_table_has_a_line_for_each_row(cells in proptest::collection::vec("\\PC{0,12}|[\\x00-\\x1f]{0,3}", 0..12)) {
        let rows: Vec<Vec<String>> = cells.chunks(3).map(<[String]>::to_vec).collect();
        let text = super::table::table(&["A", "B", "C"], &rows);
        prop_assert_eq!(text.lines().count(), rows.len() + 1);
    }
}
