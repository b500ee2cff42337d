//! Entries of VXLAN devices, with real ones and iproute2 as the witness.

#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use host::intent::By;
use host::piece::{self, Kernel, OverlayRules, Piece, Recorded, overlay_bridge, overlay_device};
use host::{OverlayNetwork, Owner};
use netlink::Mac;
use overlay_agent::kernel::{Entries, OverlayLinks, Programmer};
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

fn links() -> OverlayLinks {
    OverlayLinks {
        network: "front".into(),
        vni: 7_143_425,
        local: ip("192.0.2.1"),
        port: 4789,
        mtu: 1450,
        bridge_mac: mac(65),
        ipv6: true,
    }
}

/// A bridge as `overlay` makes it; the programmer makes the device.
fn make_links() {
    run("ip link set lo up");
    run("ip link add under type veth peer name wire");
    run("ip addr add 192.0.2.1/24 dev under");
    run("ip link set under up");
    run(&format!("ip link add {} group 1836019570 type bridge", overlay_bridge("front")));
    run(&format!("ip link set {} alias moor/front up", overlay_bridge("front")));
}

/// Runs a command with `MX` and `MO` as the names of device and bridge.
fn shell(command: &str) -> String {
    run(&command.replace("MX", &overlay_device("front")).replace("MO", &overlay_bridge("front")))
}

fn forwarding() -> Vec<(String, String)> {
    let shown = look(&format!("bridge -j fdb show dev {}", overlay_device("front")));
    let of = |entry: &Value| Some((entry["mac"].as_str()?.to_owned(), entry["dst"].as_str()?.to_owned()));
    shown.as_array().unwrap().iter().filter_map(of).collect()
}

fn neighbours() -> Vec<(String, String)> {
    let shown = look(&format!("ip -j neigh show dev {} nud permanent", overlay_device("front")));
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
        programmer.set("front", links(), wanted.clone()).unwrap();
        assert_in_kernel(&wanted);

        // One moves, one gets another MAC, one goes, a host leaves.
        wanted.forwarding.insert(mac(7), ip("192.0.2.99"));
        wanted.neighbours.insert(address(8), mac(900));
        wanted.forwarding.remove(&mac(9));
        wanted.neighbours.remove(&address(9));
        wanted.flood.remove(&ip("192.0.2.11"));
        programmer.set("front", links(), wanted.clone()).unwrap();
        assert_in_kernel(&wanted);
        run_for(&mut programmer, Duration::from_millis(300));
        let counted = programmer.counted();
        // The second one for the new device; the changes of entries need none.
        assert_eq!((counted.repaired, counted.refused, counted.compared), (0, 0, 2));

        programmer.set("front", links(), Entries::default()).unwrap();
        assert_in_kernel(&Entries::default());
    }
}

network_test! {
    /// O-024, O-025.
    fn what_others_change_is_made_again() {
        make_links();
        Programmer::open().unwrap().set("front", links(), Entries::default()).unwrap();
        let mut programmer = Programmer::open().unwrap();
        let mut wanted = containers(50);
        wanted.flood.insert(ip("192.0.2.11"));
        // One was there before, as if it had been learned; one is nobody's.
        shell("bridge fdb add 02:6d:0a:09:00:05 dev MX self dynamic dst 192.0.2.77");
        shell("bridge fdb add 02:00:00:00:00:99 dev MX self static dst 192.0.2.77");
        programmer.set("front", links(), wanted.clone()).unwrap();
        assert_in_kernel(&wanted);
        run_for(&mut programmer, Duration::from_millis(250));

        for damage in [
            "bridge fdb del 02:6d:0a:09:00:05 dev MX self",
            "bridge fdb replace 02:6d:0a:09:00:05 dev MX self dynamic dst 192.0.2.77",
            "bridge fdb replace 02:6d:0a:09:00:07 dev MX self permanent dst 192.0.2.17 port 9",
            "bridge fdb append 00:00:00:00:00:00 dev MX self permanent dst 192.0.2.77",
            "bridge fdb add 02:00:00:00:00:98 dev MX self permanent dst 192.0.2.77",
            "ip neigh del 10.9.0.5 dev MX",
            "ip neigh replace 10.9.0.5 lladdr 02:00:00:00:00:98 dev MX nud permanent",
            "ip neigh replace 10.9.0.6 lladdr 02:6d:0a:09:00:06 dev MX nud reachable",
            "ip neigh add 10.9.0.99 lladdr 02:00:00:00:00:98 dev MX nud permanent",
            "ip neigh flush dev MX nud permanent",
            "ip link set MX down",
        ] {
            let before = programmer.counted().repaired;
            shell(damage);
            if damage.ends_with("down") {
                shell("ip link set MX up");
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
    /// O-024, O-089: a deleted device and one with another source are made anew, and filled.
    fn a_device_that_somebody_deletes_is_made_again() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        let wanted = containers(20);
        programmer.set("front", links(), wanted.clone()).unwrap();
        let before = sys::testing::ip_link(&overlay_device("front"));
        for damage in ["ip link del MX", "ip link set MX nomaster", "ip link set MX mtu 1300", "ip link set MX down"] {
            run_for(&mut programmer, Duration::from_millis(250));
            shell(damage);
            run_for(&mut programmer, Duration::from_millis(500));
            assert_in_kernel(&wanted);
            assert_eq!(programmer.differences("front").unwrap(), Vec::<String>::new(), "{damage}");
            let after = sys::testing::ip_link(&overlay_device("front"));
            assert_eq!(before["linkinfo"]["info_data"], after["linkinfo"]["info_data"], "{damage}");
            for part in ["mtu", "master", "group", "ifalias", "flags"] {
                assert_eq!(before[part], after[part], "{part} after {damage}");
            }
        }
        assert_eq!(before["linkinfo"]["info_data"]["local"], "192.0.2.1");
        let elsewhere = OverlayLinks { local: ip("192.0.2.2"), ..links() };
        programmer.set("front", elsewhere, wanted.clone()).unwrap();
        assert_in_kernel(&wanted);
        let after = sys::testing::ip_link(&overlay_device("front"));
        assert_eq!(after["linkinfo"]["info_data"]["local"], "192.0.2.2");
    }
}

network_test! {
    fn the_device_of_another_is_left_alone_and_named() {
        make_links();
        shell("ip link add MX type vxlan id 9 dstport 4789");
        shell("bridge fdb add 02:00:00:00:00:98 dev MX self permanent dst 192.0.2.77");
        let mut programmer = Programmer::open().unwrap();
        let error = programmer.set("front", links(), containers(5)).unwrap_err();
        assert!(format!("{error:#}").contains(&overlay_device("front")), "{error:#}");
        assert_eq!(forwarding().len(), 1);
        programmer.forget("front");
        run("ip link del under");
        run_for(&mut programmer, Duration::from_millis(100));
        assert_eq!(forwarding().len(), 1);
    }
}

network_test! {
    /// Without attachments the links go, and the agent does not bring them back.
    fn a_network_without_a_bridge_gets_no_device() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        programmer.set("front", links(), containers(5)).unwrap();
        shell("ip link del MX");
        shell("ip link del MO");
        run_for(&mut programmer, Duration::from_millis(400));
        assert!(sys::testing::no_link(&overlay_device("front")));
        assert_eq!(programmer.differences("front").unwrap().len(), 1);
    }
}

network_test! {
    fn a_refused_entry_is_named_and_tried_again_and_keeps_no_other_out() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        let mut wanted = containers(20);
        // The device has an IPv4 source.
        wanted.forwarding.insert(mac(4), ip("2001:db8::1"));
        programmer.set("front", links(), wanted.clone()).unwrap();
        let refused = programmer.differences("front").unwrap();
        assert!(refused.iter().any(|line| line.contains(&mac(4).to_string())), "{refused:?}");
        assert_eq!(forwarding().len(), 19);
        assert_eq!(neighbours().len(), 20);
        run_for(&mut programmer, Duration::from_millis(900));
        let refusals = programmer.counted().refused;
        assert!((2..6).contains(&refusals), "{refusals} tries in 0.9 s");
        wanted.forwarding.insert(mac(4), ip("192.0.2.14"));
        programmer.set("front", links(), wanted.clone()).unwrap();
        run_for(&mut programmer, Duration::from_millis(900));
        assert_eq!(programmer.differences("front").unwrap(), Vec::<String>::new());
        assert_in_kernel(&wanted);
    }
}

network_test! {
    fn changes_of_the_underlay_are_reported() {
        make_links();
        let mut programmer = Programmer::open().unwrap();
        let step = |programmer: &mut Programmer| programmer.step(Instant::now()).unwrap();
        assert!(!step(&mut programmer).underlay_changed);
        run("ip link add unrelated type bridge");
        assert!(!step(&mut programmer).underlay_changed);
        run("ip addr add 192.0.2.2/24 dev under");
        assert!(step(&mut programmer).underlay_changed);
        let under = u32::try_from(ip_link("under")["ifindex"].as_u64().unwrap()).unwrap();
        programmer.follow_underlay(Some(under));
        run("ip link set under mtu 1400");
        assert!(step(&mut programmer).underlay_changed);
        assert!(!step(&mut programmer).underlay_changed);
    }
}

network_test! {
    /// O-027: the guard's members follow; a flush of everything, or of a set, is undone.
    fn the_guard_is_made_again_with_its_members() {
        let owner = Owner::new("front", "c1", "eth0");
        let rules = OverlayNetwork {
            bridge: overlay_bridge("front"),
            port: 4789,
            addresses: vec![ip("10.9.0.1")],
            internal: false,
        };
        let pieces = [Piece::OverlayRules(OverlayRules { network: "front".into(), rules })];
        let mut programmer = Programmer::open().unwrap();
        // Before the first network there is no guard: they are put on record.
        programmer.set_members(vec![ip("192.0.2.1"), ip("192.0.2.2")]).unwrap();
        let mut kernel = Kernel::open(sys::testing::another_network()).unwrap();
        let record = Recorded::of(By::Bridge, &owner, &pieces).unwrap();
        piece::apply(&pieces, &mut kernel).unwrap();
        piece::apply(&[record], &mut kernel).unwrap();
        drop(kernel);
        let members = || {
            let listed = run("nft list set inet moor overlay-members4");
            (1..=4).filter(|last| listed.contains(&format!("192.0.2.{last}"))).collect::<Vec<_>>()
        };
        assert_eq!(members(), [1, 2]);
        programmer.set_members(vec![ip("192.0.2.1"), ip("192.0.2.3"), ip("2001:db8::1")]).unwrap();
        assert_eq!(members(), [1, 3]);
        let whole = run("nft -s list table inet moor");
        run_for(&mut programmer, Duration::from_millis(200));
        for damage in [
            "nft flush ruleset",
            "nft delete table inet moor",
            "nft flush chain inet moor overlay-members",
            "nft flush set inet moor overlay-members4",
        ] {
            run(damage);
            run_for(&mut programmer, Duration::from_millis(300));
            assert_eq!(run("nft -s list table inet moor"), whole, "{damage}");
        }
    }
}

network_test! {
    fn another_mac_is_announced_on_the_bridge() {
        make_links();
        run("ip link add port type veth peer name inside");
        shell("ip link set port master MO up");
        run("ip link set inside up");
        run("ip addr add 10.9.0.200/16 dev inside");
        run("ip addr add fd00:9::200/64 dev inside nodad");
        let mut programmer = Programmer::open().unwrap();
        let mut wanted = containers(3);
        wanted.neighbours.insert(ip("fd00:9::42"), mac(1));
        programmer.set("front", links(), wanted.clone()).unwrap();
        run("ip neigh replace 10.9.0.1 lladdr 02:6d:0a:09:00:01 dev inside nud stale");
        run("ip neigh replace fd00:9::42 lladdr 02:6d:0a:09:00:01 dev inside nud stale");
        wanted.neighbours.insert(address(1), mac(500));
        wanted.neighbours.insert(ip("fd00:9::42"), mac(500));
        programmer.set("front", links(), wanted).unwrap();
        let cached = || {
            let shown = look("ip -j neigh show dev inside");
            let macs = shown.as_array().unwrap().iter().filter_map(|entry| entry["lladdr"].as_str());
            macs.filter(|found| *found == mac(500).to_string()).count()
        };
        assert!(sys::testing::becomes_true(|| cached() == 2), "{}", run("ip neigh show dev inside"));
    }
}

network_test! {
    /// How long it takes, and iproute2's batches, is printed with --nocapture.
    fn two_thousand_containers_are_programmed_and_taken_back() {
        make_links();
        let device = overlay_device("front");
        let wanted = containers(2000);
        let mut programmer = Programmer::open().unwrap();
        let mut took = Vec::new();
        for _ in 0..3 {
            let begin = Instant::now();
            programmer.set("front", links(), wanted.clone()).unwrap();
            let set = begin.elapsed();
            std::thread::sleep(Duration::from_millis(250));
            programmer.compare_all();
            let begin = Instant::now();
            programmer.step(begin).unwrap();
            let compared = begin.elapsed();
            assert_in_kernel(&wanted);
            let begin = Instant::now();
            programmer.set("front", links(), Entries::default()).unwrap();
            let cleared = begin.elapsed();
            assert_in_kernel(&Entries::default());
            let (mut bridge, mut neigh) = (String::new(), String::new());
            for (mac, host) in &wanted.forwarding {
                writeln!(bridge, "fdb replace {mac} dev {device} self permanent dst {host}").unwrap();
            }
            for (ip, mac) in &wanted.neighbours {
                writeln!(neigh, "neigh replace {ip} lladdr {mac} dev {device} nud permanent").unwrap();
            }
            fs::write("/run/bridge", bridge).unwrap();
            fs::write("/run/neigh", neigh).unwrap();
            let begin = Instant::now();
            run("bridge -batch /run/bridge");
            run("ip -batch /run/neigh");
            let batches = begin.elapsed();
            shell("ip link del MX");
            run_for(&mut programmer, Duration::from_millis(600));
            took.push((set, batches, compared, cleared));
        }
        println!("set, batches, compare, clear: {took:?}");
        assert_eq!(programmer.counted().refused, 0);
    }
}
