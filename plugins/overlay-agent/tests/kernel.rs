//! Entries of VXLAN devices, with real ones and iproute2 as the witness.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use netlink::Mac;
use overlay_agent::kernel::{Device, Entries, Programmer};
use serde_json::Value;
use sys::network_test;
use sys::testing::{ip_link, look, run};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(number: u16) -> Mac {
    let [high, low] = number.to_be_bytes();
    Mac([2, 0x6d, 10, 9, high, low])
}

fn address(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([10, 9, high, low])
}

/// This many containers, a tenth of them on each of ten hosts.
fn containers(count: u16) -> Entries {
    let mut entries = Entries::default();
    for number in 1..=count {
        let host = IpAddr::from([192, 0, 2, u8::try_from(number % 10).unwrap() + 10]);
        entries.forwarding.insert(mac(number), host);
        entries.neighbours.insert(address(number), mac(number));
    }
    entries
}

fn device() -> Device {
    Device { name: "mxtest".into(), bridge: "motest".into() }
}

/// A bridge and a VXLAN device as `overlay` makes them.
fn make_links() {
    run("ip link set lo up");
    run("ip link add under type veth peer name wire");
    run("ip addr add 192.0.2.1/24 dev under");
    run("ip link set under up");
    run("ip link add motest type bridge");
    run("ip link set motest up");
    make_device();
}

fn make_device() {
    run("ip link add mxtest type vxlan id 7143425 local 192.0.2.1 dstport 4789 nolearning proxy ttl 64");
    run("ip link set mxtest master motest up");
}

fn forwarding() -> Vec<(String, String)> {
    let shown = look("bridge -j fdb show dev mxtest");
    let of = |entry: &Value| Some((entry["mac"].as_str()?.to_owned(), entry["dst"].as_str()?.to_owned()));
    shown.as_array().unwrap().iter().filter_map(of).collect()
}

fn neighbours() -> Vec<(String, String)> {
    let shown = look("ip -j neigh show dev mxtest nud permanent");
    let of = |entry: &Value| Some((entry["dst"].as_str()?.to_owned(), entry["lladdr"].as_str()?.to_owned()));
    shown.as_array().unwrap().iter().filter_map(of).collect()
}

fn texts(entries: &Entries) -> [Vec<(String, String)>; 2] {
    let mut forwarding: Vec<_> =
        entries.forwarding.iter().map(|(mac, host)| (mac.to_string(), host.to_string())).collect();
    let zero = Mac([0; 6]).to_string();
    forwarding.extend(entries.flood.iter().map(|host| (zero.clone(), host.to_string())));
    let mut neighbours: Vec<_> =
        entries.neighbours.iter().map(|(ip, mac)| (ip.to_string(), mac.to_string())).collect();
    forwarding.sort();
    neighbours.sort();
    [forwarding, neighbours]
}

/// Compared with what iproute2 shows.
fn assert_in_kernel(entries: &Entries) {
    let [mut forwarding, mut neighbours] = [forwarding(), neighbours()];
    forwarding.sort();
    neighbours.sort();
    assert_eq!([forwarding, neighbours], texts(entries));
}

/// Steps as the agent's loop does, until the time is over.
fn run_for(programmer: &mut Programmer, time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        programmer.step(Instant::now()).unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
}

network_test! {
    fn entries_follow_what_is_wanted() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        let mut wanted = containers(300);
        wanted.neighbours.insert(ip("fd00:9::42"), mac(66));
        wanted.flood.extend([ip("192.0.2.11"), ip("192.0.2.12")]);
        programmer.set("front", device(), wanted.clone()).unwrap();
        assert_in_kernel(&wanted);

        // One moves, one gets another MAC, one goes, a host leaves.
        wanted.forwarding.insert(mac(7), ip("192.0.2.99"));
        wanted.neighbours.insert(address(8), mac(900));
        wanted.forwarding.remove(&mac(9));
        wanted.neighbours.remove(&address(9));
        wanted.flood.remove(&ip("192.0.2.11"));
        programmer.set("front", device(), wanted.clone()).unwrap();
        assert_in_kernel(&wanted);
        run_for(&mut programmer, Duration::from_millis(300));
        let counted = programmer.counted();
        assert_eq!((counted.repaired, counted.refused, counted.compared), (0, 0, 1), "own events need no look");

        programmer.set("front", device(), Entries::default()).unwrap();
        assert_in_kernel(&Entries::default());
    }
}

network_test! {
    /// O-024, O-025.
    fn what_others_change_is_made_again() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        let mut wanted = containers(50);
        wanted.flood.insert(ip("192.0.2.11"));
        // One was there before, as if it had been learned; one is nobody's.
        run("bridge fdb add 02:6d:0a:09:00:05 dev mxtest self dynamic dst 192.0.2.77");
        run("bridge fdb add 02:00:00:00:00:99 dev mxtest self static dst 192.0.2.77");
        programmer.set("front", device(), wanted.clone()).unwrap();
        assert_in_kernel(&wanted);
        run_for(&mut programmer, Duration::from_millis(250));

        for damage in [
            "bridge fdb del 02:6d:0a:09:00:05 dev mxtest self",
            "bridge fdb replace 02:6d:0a:09:00:05 dev mxtest self dynamic dst 192.0.2.77",
            "bridge fdb replace 02:6d:0a:09:00:07 dev mxtest self permanent dst 192.0.2.17 port 9",
            "bridge fdb append 00:00:00:00:00:00 dev mxtest self permanent dst 192.0.2.77",
            "bridge fdb add 02:00:00:00:00:98 dev mxtest self permanent dst 192.0.2.77",
            "ip neigh del 10.9.0.5 dev mxtest",
            "ip neigh replace 10.9.0.5 lladdr 02:00:00:00:00:98 dev mxtest nud permanent",
            "ip neigh replace 10.9.0.6 lladdr 02:6d:0a:09:00:06 dev mxtest nud reachable",
            "ip neigh add 10.9.0.99 lladdr 02:00:00:00:00:98 dev mxtest nud permanent",
            "ip neigh flush dev mxtest nud permanent",
            "ip link set mxtest down",
        ] {
            let before = programmer.counted().repaired;
            run(damage);
            if damage.ends_with("down") {
                run("ip link set mxtest up");
            }
            run_for(&mut programmer, Duration::from_millis(300));
            assert_in_kernel(&wanted);
            assert!(programmer.counted().repaired > before || damage.ends_with("down"), "{damage}");
            assert_eq!(programmer.differences("front").unwrap(), Vec::<String>::new(), "{damage}");
        }
        assert_eq!(programmer.counted().refused, 0);
    }
}

network_test! {
    /// The device comes back with another index, made by somebody.
    fn a_new_device_is_filled() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        let wanted = containers(20);
        programmer.set("front", device(), wanted.clone()).unwrap();
        run("ip link del mxtest");
        run_for(&mut programmer, Duration::from_millis(250));
        assert_eq!(programmer.differences("front").unwrap().len(), 1);
        make_device();
        run_for(&mut programmer, Duration::from_millis(300));
        assert_in_kernel(&wanted);
    }
}

network_test! {
    fn a_refused_entry_is_named_and_tried_again_and_keeps_no_other_out() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        let mut wanted = containers(20);
        // The device has an IPv4 source.
        wanted.forwarding.insert(mac(4), ip("2001:db8::1"));
        programmer.set("front", device(), wanted.clone()).unwrap();
        let refused = programmer.differences("front").unwrap();
        assert!(refused.iter().any(|line| line.contains(&mac(4).to_string())), "{refused:?}");
        assert_eq!(forwarding().len(), 19);
        assert_eq!(neighbours().len(), 20);
        run_for(&mut programmer, Duration::from_millis(900));
        let refusals = programmer.counted().refused;
        assert!((2..6).contains(&refusals), "{refusals} tries in 0.9 s");
        wanted.forwarding.insert(mac(4), ip("192.0.2.14"));
        programmer.set("front", device(), wanted.clone()).unwrap();
        run_for(&mut programmer, Duration::from_millis(900));
        assert_eq!(programmer.differences("front").unwrap(), Vec::<String>::new());
        assert_in_kernel(&wanted);
    }
}

network_test! {
    fn flushed_rules_and_changed_addresses_are_reported() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        run("nft add table inet moor");
        run("nft add table inet other");
        let mut seen = |damage: &str| {
            programmer.step(Instant::now() + Duration::from_secs(1)).unwrap();
            run(damage);
            programmer.step(Instant::now()).unwrap();
            programmer.step(Instant::now() + Duration::from_secs(1)).unwrap()
        };
        assert!(!seen("nft delete table inet other").rules_are_gone);
        assert!(seen("nft flush ruleset").rules_are_gone);
        let stepped = seen("ip link add unrelated type bridge");
        assert!(!stepped.underlay_changed && !stepped.rules_are_gone);
        programmer.set("front", device(), containers(1)).unwrap();
        run("ip addr add 192.0.2.2/24 dev under");
        assert!(programmer.step(Instant::now()).unwrap().underlay_changed);
        let under = u32::try_from(ip_link("under")["ifindex"].as_u64().unwrap()).unwrap();
        programmer.follow_underlay(Some(under));
        run("ip link set under mtu 1400");
        assert!(programmer.step(Instant::now()).unwrap().underlay_changed);
        assert!(!programmer.step(Instant::now()).unwrap().underlay_changed);
    }
}

network_test! {
    fn another_mac_is_announced_on_the_bridge() {
        make_links();
        run("ip link add port type veth peer name inside");
        run("ip link set port master motest up");
        run("ip link set inside up");
        run("ip addr add 10.9.0.200/16 dev inside");
        run("ip addr add fd00:9::200/64 dev inside nodad");
        let mut programmer = Programmer::open().unwrap();
        let mut wanted = containers(3);
        wanted.neighbours.insert(ip("fd00:9::42"), mac(1));
        programmer.set("front", device(), wanted.clone()).unwrap();
        run("ip neigh replace 10.9.0.1 lladdr 02:6d:0a:09:00:01 dev inside nud stale");
        run("ip neigh replace fd00:9::42 lladdr 02:6d:0a:09:00:01 dev inside nud stale");
        wanted.neighbours.insert(address(1), mac(500));
        wanted.neighbours.insert(ip("fd00:9::42"), mac(500));
        programmer.set("front", device(), wanted).unwrap();
        let cached = || {
            let shown = look("ip -j neigh show dev inside");
            let macs = shown.as_array().unwrap().iter().filter_map(|entry| entry["lladdr"].as_str());
            macs.filter(|found| *found == mac(500).to_string()).count()
        };
        assert!(sys::testing::becomes_true(|| cached() == 2), "{}", run("ip neigh show dev inside"));
    }
}

network_test! {
    /// Figures of 2,000 containers, against iproute2's batches; printed with --nocapture.
    fn two_thousand_containers_are_programmed_no_slower_than_by_batches() {
        make_links();
        let wanted = containers(2000);
        let mut programmer = Programmer::open().unwrap();
        let mut took = Vec::new();
        for _ in 0..3 {
            let begin = Instant::now();
            programmer.set("front", device(), wanted.clone()).unwrap();
            let set = begin.elapsed();
            programmer.compare_all();
            let begin = Instant::now();
            programmer.step(begin + Duration::from_secs(1)).unwrap();
            let compared = begin.elapsed();
            let begin = Instant::now();
            programmer.set("front", device(), Entries::default()).unwrap();
            let cleared = begin.elapsed();
            let (mut bridge, mut neigh) = (String::new(), String::new());
            for (mac, host) in &wanted.forwarding {
                writeln!(bridge, "fdb replace {mac} dev mxtest self permanent dst {host}").unwrap();
            }
            for (ip, mac) in &wanted.neighbours {
                writeln!(neigh, "neigh replace {ip} lladdr {mac} dev mxtest nud permanent").unwrap();
            }
            fs::write("/run/bridge", bridge).unwrap();
            fs::write("/run/neigh", neigh).unwrap();
            let begin = Instant::now();
            run("bridge -batch /run/bridge");
            run("ip -batch /run/neigh");
            let batches = begin.elapsed();
            assert_in_kernel(&wanted);
            run("ip neigh flush dev mxtest nud permanent");
            run("ip link del mxtest");
            make_device();
            programmer.step(Instant::now() + Duration::from_secs(1)).unwrap();
            took.push((set, batches, compared, cleared));
        }
        println!("set, batches, compare, clear: {took:?}");
        assert_eq!(programmer.counted().refused, 0);
        let fastest = |of: fn(&(Duration, Duration, Duration, Duration)) -> Duration| took.iter().map(of).min();
        assert!(fastest(|took| took.0) <= fastest(|took| took.1 * 3), "{took:?}");
    }
}
