use proptest::prelude::*;

use super::*;
use crate::decode::decode;

const A: &str = "00000000000000aa";
const B: &str = "00000000000000bb";
const C: &str = "00000000000000cc";

/// etcd's records: key, value, create revision.
struct Records(Vec<(Key, Record, i64)>);

impl Records {
    /// Three hosts, of which A asks; a network; a block for each host.
    fn new() -> Self {
        let mut records = Self(Vec::new());
        for (n, host) in [A, B, C].into_iter().enumerate() {
            records.put(&format!("host/{host}"), &host_value(&format!("192.0.2.{}", n + 1)));
            records.put(&format!("alive/{host}"), r#"{"v":1,"boot":"b"}"#);
        }
        records.put("net/front", NET);
        records.put("vni/7143425", r#"{"v":1,"network":"front"}"#);
        for (n, host) in [A, B, C].into_iter().enumerate() {
            records.put(&format!("blk/front/10.9.0.{}", 64 * n), &format!(r#"{{"v":1,"host":"{host}"}}"#));
        }
        records
    }

    fn put(&mut self, key: &str, value: &str) {
        let key = Key::parse(format!("/moor/1/{key}").as_bytes(), "/moor").unwrap();
        let record = decode(&key, value.as_bytes()).unwrap();
        let created = i64::try_from(self.0.len()).unwrap() + 1;
        self.0.push((key, record, created));
    }

    fn attach(&mut self, host: &str, container: &str, ip: &str) {
        let mac = mac_of(ip);
        self.put(&endpoint(host, container), &attached(ip, &mac, container));
    }

    fn end_lease(&mut self, host: &str) {
        self.0.retain(|(key, ..)| *key != Key::Alive(host.into()));
    }

    fn view(&self) -> View<'_> {
        let items = self.0.iter().map(|(key, record, created)| Item { key, record, created: *created });
        View::of(items, ME)
    }
}

const ME: Me<'_> =
    Me { host: A, addresses: &[IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))], underlay: IpFamily::V4 };
const NET: &str =
    r#"{"v":1,"vni":7143425,"subnets":["10.9.0.0/16"],"gateways":["10.9.0.1"],"blockSize":64,"mtu":1450}"#;

fn host_value(address: &str) -> String {
    format!(r#"{{"v":1,"name":"node","addresses":["{address}"],"mtu":1500,"agent":"1","protocol":1}}"#)
}

fn endpoint(host: &str, container: &str) -> String {
    format!("ep/front/{host}/{container}@eth0")
}

fn attached(ip: &str, mac: &str, name: &str) -> String {
    format!(r#"{{"v":1,"ips":["{ip}"],"mac":"{mac}","names":["{name}","web"]}}"#)
}

fn mac_of(ip: &str) -> String {
    crate::mac::of_address(ip.parse().unwrap()).to_string()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn faults(view: &View<'_>) -> Vec<String> {
    view.left_out().map(|left_out| left_out.to_string()).collect()
}

#[test]
fn remote_containers_and_hosts_are_entries_and_local_ones_are_not() {
    let mut records = Records::new();
    records.attach(A, "local", "10.9.0.10");
    records.attach(B, "b1", "10.9.0.70");
    records.attach(C, "c1", "10.9.0.140");
    records.put(
        &format!("own/front/{B}"),
        &format!(r#"{{"v":1,"ips":["10.9.0.64"],"mac":"{}"}}"#, mac_of("10.9.0.64")),
    );
    let view = records.view();
    assert_eq!(faults(&view), Vec::<String>::new());
    let entries = view.entries("front");
    let neighbours: Vec<_> = entries.neighbours.keys().map(ToString::to_string).collect();
    assert_eq!(neighbours, ["10.9.0.64", "10.9.0.70", "10.9.0.140"]);
    for (ip, mac) in &entries.neighbours {
        assert_eq!(*mac, crate::mac::of_address(*ip));
    }
    let destinations: Vec<_> = entries.forwarding.values().map(ToString::to_string).collect();
    assert_eq!(destinations, ["192.0.2.2", "192.0.2.2", "192.0.2.3"]);
    assert!(entries.flood.is_empty());
    assert_eq!(view.members(), [ip("192.0.2.2"), ip("192.0.2.3")].into());
    assert_eq!(view.entries("other"), Entries::default());
}

#[test]
fn broadcasts_go_to_the_hosts_of_a_network_that_carries_them() {
    let mut records = Records::new();
    records.0.retain(|(key, ..)| !matches!(key, Key::Net(_)));
    records.put("net/front", &NET.replace("\"mtu\"", "\"multicast\":true,\"mtu\""));
    records.attach(B, "b1", "10.9.0.70");
    records.attach(B, "b2", "10.9.0.71");
    assert_eq!(records.view().entries("front").flood, [ip("192.0.2.2")].into());
}

#[test]
fn a_silent_host_stays_and_its_names_are_marked() {
    let mut records = Records::new();
    records.attach(B, "b1", "10.9.0.70");
    records.attach(C, "c1", "10.9.0.140");
    records.end_lease(B);
    let view = records.view();
    assert_eq!(view.entries("front").forwarding.len(), 2);
    assert!(view.members().contains(&ip("192.0.2.2")));
    let names = view.names("front");
    assert_eq!(
        names.iter().map(|(host, of)| (host.as_str(), of.silent)).collect::<Vec<_>>(),
        [(B, true), (C, false)]
    );
    let attachment = &names[B].attachments[0];
    assert_eq!(
        (attachment.names.join(" "), attachment.ips.clone()),
        ("b1 web".into(), vec![ip("10.9.0.70")])
    );
}

/// O-078: a record that claims what is not its host's is left out and named, all others work.
#[test]
fn a_record_that_claims_what_is_not_its_hosts_is_left_out() {
    let other = "00000000000000dd";
    for (host, address, why) in [
        (B, "10.9.0.140", "in a block of host 00000000000000cc"),
        (B, "10.9.0.2", "in a block of host 00000000000000aa"),
        (B, "10.9.0.1", "a gateway"),
        (B, "10.9.0.0", "the network's own address"),
        (B, "10.9.255.255", "broadcast"),
        (B, "10.8.0.1", "outside the network's subnets"),
        (B, "fd00::1", "outside the network's subnets"),
        (other, "10.9.1.1", "its host has no usable record"),
    ] {
        let mut records = Records::new();
        records.attach(C, "c1", "10.9.0.141");
        records.attach(host, "bad", address);
        let view = records.view();
        let faults = faults(&view);
        assert!(faults.len() == 1 && faults[0].contains("bad@eth0") && faults[0].contains(why), "{faults:?}");
        assert_eq!(view.entries("front").neighbours.len(), 1, "{address}");
    }
    let mut records = Records::new();
    records.put(&format!("ep/back/{B}/c@eth0"), &attached("10.9.0.70", &mac_of("10.9.0.70"), "c"));
    assert_eq!(records.view().faults.values().collect::<Vec<_>>(), [&Fault::NoNetwork]);
}

#[test]
fn an_address_is_whoevers_it_was_lent_to() {
    let mut records = Records::new();
    records.put("lent/front/10.9.0.70", &format!(r#"{{"v":1,"from":"{B}","to":"{C}"}}"#));
    records.attach(C, "c1", "10.9.0.70");
    records.attach(B, "b1", "10.9.0.71");
    records.attach(B, "b2", "10.9.0.70");
    let view = records.view();
    assert_eq!(view.faults.len(), 1);
    assert_eq!(
        view.entries("front").forwarding.get(&crate::mac::of_address(ip("10.9.0.70"))),
        Some(&ip("192.0.2.3"))
    );
}

#[test]
fn an_address_in_a_block_of_nobody_is_its_containers() {
    let mut records = Records::new();
    records.attach(B, "b1", "10.9.8.1");
    assert_eq!(records.view().entries("front").neighbours.len(), 1);
}

#[test]
fn of_two_records_with_one_address_the_older_one_is_in_force() {
    let mut records = Records::new();
    records.attach(C, "first", "10.9.8.1");
    records.attach(B, "second", "10.9.8.1");
    records.attach(A, "mine", "10.9.8.1");
    let view = records.view();
    assert_eq!(view.entries("front").forwarding.values().collect::<Vec<_>>(), [&ip("192.0.2.3")]);
    let first = format!("ep/front/{C}/first@eth0");
    let taken = Fault::AddressTaken(ip("10.9.8.1"), first);
    assert_eq!(view.faults.values().collect::<Vec<_>>(), [&taken, &taken]);
    let Key::Endpoint(mine) = &records.0.last().unwrap().0 else { panic!("no endpoint") };
    assert_eq!(view.fault_of(mine), Some(&taken));
}

#[test]
fn of_two_records_with_one_mac_the_older_one_is_in_force() {
    let mut records = Records::new();
    records.put(&endpoint(B, "b1"), &attached("10.9.0.70", "02:00:00:00:00:01", "b1"));
    records.put(&endpoint(C, "c1"), &attached("10.9.0.140", "02:00:00:00:00:01", "c1"));
    let view = records.view();
    assert_eq!(view.entries("front").forwarding.values().collect::<Vec<_>>(), [&ip("192.0.2.2")]);
    assert!(matches!(view.faults.values().next(), Some(Fault::MacTaken(_))));
}

#[test]
fn a_second_host_with_one_address_waits_until_the_first_is_silent() {
    let other = "00000000000000dd";
    let mut records = Records::new();
    records.put(&format!("host/{other}"), &host_value("192.0.2.2"));
    let view = records.view();
    assert!(view.hosts.contains_key(B) && !view.hosts.contains_key(other));
    records.put(&format!("alive/{other}"), r#"{"v":1,"boot":"b"}"#);
    assert!(!records.view().hosts.contains_key(other));
    records.end_lease(B);
    let view = records.view();
    assert!(!view.hosts.contains_key(B) && view.hosts.contains_key(other));
    assert!(faults(&view)[0].contains("192.0.2.2 is also in the older record"));
}

#[test]
fn nothing_is_sent_to_a_host_with_our_address_or_none_of_the_underlays_family() {
    let mut records = Records::new();
    records.0.retain(|(key, ..)| *key != Key::Host(A.into()));
    records.put("host/00000000000000dd", &host_value("192.0.2.1"));
    records.put("host/00000000000000ee", &host_value("2001:db8::1"));
    records.put("ep/front/00000000000000dd/c@eth0", &attached("10.9.8.1", &mac_of("10.9.8.1"), "c"));
    let view = records.view();
    assert_eq!(view.faults.len(), 3);
    assert!(view.entries("front").forwarding.is_empty());
    assert_eq!(view.hosts.keys().copied().collect::<Vec<_>>(), [B, C]);
}

#[test]
fn of_two_networks_with_one_vxlan_id_the_one_with_the_ids_record_is_in_force() {
    let mut records = Records::new();
    records.put("net/back", &NET.replace("10.9", "10.8"));
    let view = records.view();
    assert_eq!(view.nets.keys().copied().collect::<Vec<_>>(), ["front"]);
    assert!(faults(&view)[0].contains("VXLAN id 7143425"));
}

proptest! {
    /// The same records give the same result, in whatever order they come.
    #[test]
    fn the_order_of_records_does_not_matter(
        endpoints in proptest::collection::vec((0usize..4, 0u8..8, 0u8..4), 0..12),
        order in proptest::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let mut records = Records::new();
        for (n, (host, low, third)) in endpoints.iter().enumerate() {
            let host = [A, B, C, "00000000000000dd"][*host];
            records.attach(host, &format!("c{n}"), &format!("10.9.{third}.{}", u16::from(*low) * 32));
        }
        let mut shuffled = Records(Vec::new());
        let mut left: Vec<_> = records.0.iter().collect();
        for index in order.iter().cycle() {
            if left.is_empty() {
                break;
            }
            shuffled.0.push(left.remove(index.index(left.len())).clone());
        }
        let (one, other) = (records.view(), shuffled.view());
        prop_assert_eq!(one.entries("front"), other.entries("front"));
        prop_assert_eq!(one.names("front"), other.names("front"));
        prop_assert_eq!(faults(&one), faults(&other));
        // Each address has one MAC, each MAC one host, and nothing of this host's is there.
        let entries = one.entries("front");
        prop_assert!(entries.neighbours.values().all(|mac| entries.forwarding.contains_key(mac)));
        prop_assert!(entries.forwarding.values().all(|to| *to != ip("192.0.2.1")));
    }
}
