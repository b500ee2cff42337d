//! What a network keeps apart, and what its containers may send.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::traffic::ECHO;
use harness::cluster::vxlan::Outer;
use harness::cluster::{Cluster, UNDERLAY};
use harness::config::with;
use harness::frame::{self, Wire};
use harness::ip;
use harness::room::Room;
use harness::stage::portmap::{ask, portmap, serve};
use serde_json::{Value, json};

use super::packets::{At, PORT, all_reach_all, at};
use super::{AMPLE, HOSTS, SECONDS, add, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/multicast_reaches_all_hosts_once_where_it_is_on", &["O-029"], multicast).needs(HOSTS),
    Case::new("overlay/a_container_sends_with_its_own_addresses_alone", &["O-030"], spoof).needs(HOSTS),
    Case::new("overlay/networks_do_not_reach_each_other", &["O-070"], apart).needs(HOSTS),
    Case::new("overlay/an_internal_network_reaches_nothing_outside", &["O-071"], internal).needs(HOSTS),
];

const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

/// The configuration of a network whose subnets have that number.
pub(super) fn network(name: &str, number: u8, keys: &Value) -> Value {
    let ipam = json!({
        "type": "cluster",
        "subnets": [format!("10.{number}.0.0/16"), format!("fd00:{number}::/64")],
    });
    with(&config(&json!({"name": name, "ipam": ipam})), keys.clone())
}

/// Requires that an address is not reached.
fn is_silent(from: &At, to: &str) -> Result<()> {
    ensure!(from.guest.reach(to, AMPLE / 6).is_err(), "{} reaches {to}", from.guest.ns);
    Ok(())
}

/// Whether a frame is a UDP datagram of IPv4.
fn is_udp(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[0x08, 0x00]) && frame.get(23) == Some(&17)
}

fn multicast(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let one = &cluster.hosts[0];
    let underlay = Wire::open(Some(UNDERLAY), &one.name)?;
    let to_many = |frame: &[u8]| {
        let outer = Outer::of(frame, PORT);
        outer.is_some_and(|outer| {
            outer.source == one.address && outer.inner.first().is_some_and(|byte| byte & 1 == 1)
        })
    };
    for (name, number, on) in [("quiet", 8, false), ("many", 7, true)] {
        let config = network(name, number, &json!({"multicast": on}));
        let sender = at(one, &format!("sender-{name}"), &config)?;
        let listeners = cluster.hosts.iter().map(|host| -> Result<(At, UdpSocket)> {
            let listener = at(host, &format!("listener-{name}"), &config)?;
            let socket = listener.guest.listen(ECHO)?;
            socket.join_multicast_v4(&GROUP, &listener.ips[0].parse()?)?;
            Ok((listener, socket))
        });
        let listeners = listeners.collect::<Result<Vec<_>>>()?;
        for (listener, _) in &listeners {
            cluster.until(SECONDS(2), || sender.guest.reach(&listener.ips[0], AMPLE).map(drop))?;
        }
        underlay.seen(|_| false)?;
        for nth in 0..5_u8 {
            for to in [GROUP.to_string(), format!("10.{number}.255.255")] {
                sender.guest.towards(&to, ECHO)?.send(&[nth])?;
            }
            // A MAC address that nobody has is not asked for on other hosts.
            sender.guest.towards(&format!("10.{number}.200.{nth}"), ECHO)?.send(&[nth])?;
        }
        std::thread::sleep(AMPLE / 2);
        let packets = underlay.seen(to_many)?;
        let inner = |of: fn(&[u8]) -> bool| {
            packets.iter().filter(|frame| Outer::of(frame, PORT).is_some_and(|outer| of(outer.inner))).count()
        };
        ensure!(on || packets.is_empty(), "{name}: to many left {packets:02x?}");
        let asked = inner(|frame| frame.get(12..14) == Some(&[0x08, 0x06]));
        ensure!(asked == 0, "{name}: {asked} questions of ARP left");
        // A copy for each of the two other hosts.
        let (sent, expected) = (inner(is_udp), if on { 2 * 2 * 5 } else { 0 });
        ensure!(sent == expected, "{name}: {sent} datagrams to many left, not {expected}");
        for (listener, socket) in &listeners {
            let mut heard = vec![];
            let mut byte = [0];
            while let Ok((_, from)) = socket.recv_from(&mut byte) {
                ensure!(from.ip().to_string() == sender.ips[0], "{name}: {from} sent to many");
                heard.push(byte[0]);
            }
            heard.sort_unstable();
            let expected: &[u8] = match on || listener.host == one.name {
                true => &[0, 0, 1, 1, 2, 2, 3, 3, 4, 4],
                false => &[],
            };
            ensure!(heard == expected, "{name}: {} heard {heard:?}", listener.guest.ns);
        }
    }
    Ok(())
}

fn spoof(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 1)?;
    let host = &cluster.hosts[0];
    for (name, number, checked) in [("checked", 8, true), ("free", 7, false)] {
        let config = network(name, number, &json!({"macspoofchk": checked}));
        let [one, two] = ["one", "two"].map(|id| at(host, &format!("{id}-{name}"), &config));
        let (one, two) = (one?, two?);
        let [sender, receiver] = [&one, &two].map(|at| Wire::open(Some(&at.guest.ns), "eth0"));
        let (sender, receiver) = (sender?, receiver?);
        let (own, to) = (sender.mac, receiver.mac);
        let foreign = [0x02, 0x6d, 0x0a, number, 0x63, 0x63];
        let parsed = |at: &At, nth: usize| at.ips[nth].parse::<IpAddr>();
        let [own4, own6, to4, to6] = [parsed(&one, 0)?, parsed(&one, 1)?, parsed(&two, 0)?, parsed(&two, 1)?];
        let other4: Ipv4Addr = format!("10.{number}.99.99").parse()?;
        let other6 = format!("fd00:{number}::9999").parse()?;
        let datagram = |mac, from: IpAddr, target: IpAddr| {
            frame::udp(to, mac, [(from, ECHO), (target, ECHO)], b"datagram")
        };
        let forged = [
            ("a foreign MAC address", datagram(foreign, own4, to4)),
            ("a foreign MAC address with IPv6", datagram(foreign, own6, to6)),
            ("a foreign IPv4 source", datagram(own, other4.into(), to4)),
            ("a foreign IPv6 source", datagram(own, other6, to6)),
            ("the gateway's source", datagram(own, format!("10.{number}.0.1").parse()?, to4)),
            ("ARP for another's address", frame::arp(own, other4)),
            ("a neighbour advertisement for another's", {
                let IpAddr::V6(other6) = other6 else { unreachable!("it is of IPv6") };
                frame::neighbour_advertisement(own, other6)
            }),
        ];
        for (_, frame) in &forged {
            sender.send(frame)?;
        }
        // What is sent last arrives last.
        for last in [datagram(own, own6, to6), datagram(own, own4, to4)] {
            sender.send(&last)?;
            let mut seen = vec![];
            let arrived = receiver.receive(AMPLE, |frame| {
                seen.push(frame.to_vec());
                frame == last
            })?;
            ensure!(arrived.is_some(), "{name}: a container's own datagram does not arrive");
            for (what, frame) in forged.iter().filter(|_| last == datagram(own, own6, to6)) {
                ensure!(seen.contains(frame) != checked, "{name}: {what} arrives: {}", checked);
            }
        }
    }
    Ok(())
}

fn apart(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let front_config = config(&json!({}));
    let front = [at(one, "front", &front_config)?, at(two, "further", &front_config)?];
    let back_config = network("back", 8, &json!({}));
    let (guest, result) = add(one, "near", &back_config)?;
    let back = [At::of(one, guest, &result)?, at(two, "far", &back_config)?];
    all_reach_all(&cluster, &front)?;
    all_reach_all(&cluster, &back)?;
    let owns = (cluster.etcd.keys("own/back/")?.iter())
        .map(|key| Ok(cluster.etcd.value(key)?["ips"][0].as_str().context("an own address")?.to_owned()))
        .collect::<Result<Vec<_>>>()?;
    let gateways = ["10.8.0.1", "fd00:8::1"].map(str::to_owned);
    for to in back.iter().flat_map(|at| &at.ips).chain(&gateways).chain(&owns) {
        is_silent(&front[0], to)?;
    }
    is_silent(&back[1], &front[0].ips[0])?;
    is_silent(&back[1], "10.9.0.1")?;

    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let published = with(&portmap(mappings, &result), json!({"name": "back"}));
    one.attach("portmap", "ADD", &back[0].guest, &published)?.result()?;
    serve(room, &back[0].guest.ns, 80)?;
    for from in front.iter().chain(&back[1..]) {
        let answer = ask(room, Some(&from.guest.ns), "192.0.2.11", 8080);
        let answer = answer.with_context(|| format!("{} asks a published port", from.guest.ns))?;
        ensure!(answer.starts_with("h1.d/near:80"), "{} got {answer:?}", from.guest.ns);
    }
    one.attach("portmap", "DEL", &back[0].guest, &published)?.silent()
}

fn internal(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let closed = network("closed", 8, &json!({"internal": true}));
    let both = [at(one, "one", &closed)?, at(two, "two", &closed)?];
    let open = at(one, "open", &config(&json!({})))?;
    all_reach_all(&cluster, &both)?;
    // A member of etcd, outside of all networks.
    let outside = ["192.0.2.1", "2001:db8:2::1"];
    for to in outside {
        cluster.until(AMPLE, || open.guest.reach(to, AMPLE).map(drop))?;
        is_silent(&both[0], to)?;
    }
    // Nor with routes that somebody adds.
    let ns = &both[0].guest.ns;
    ip::run_in(ns, &["route", "add", "default", "via", "10.8.0.1"])?;
    ip::run_in(ns, &["-6", "route", "add", "default", "via", "fd00:8::1"])?;
    for to in outside.iter().copied().chain(open.ips.iter().map(String::as_str)) {
        is_silent(&both[0], to)?;
    }
    Ok(())
}
