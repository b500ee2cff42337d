//! Who may send frames into a network, and how those of this host leave.

use std::fs;
use std::net::{IpAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::host::Host;
use harness::cluster::traffic::ECHO;
use harness::cluster::vxlan::{Outer, encapsulated};
use harness::cluster::{Cluster, UNDERLAY};
use harness::frame::{self, Wire};
use harness::ip;
use harness::namespace::inside;
use harness::room::Room;
use serde_json::json;

use super::packets::{At, PORT, all_reach_all, at};
use super::{AMPLE, HOSTS, SECONDS, add, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/only_hosts_of_the_cluster_send_frames", &["O-027"], guarded).needs(HOSTS),
    Case::new("overlay/an_entry_that_somebody_planted_is_replaced", &["O-025"], planted).needs(HOSTS),
    Case::new("overlay/packets_have_the_hosts_own_source", &["O-026", "O-028"], source).needs(HOSTS),
];

/// A frame of one container to another, which an outsider can make.
pub(super) struct Forged {
    vni: u32,
    frame: Vec<u8>,
    wire: Wire,
}

impl Forged {
    /// With a payload of that length.
    pub(super) fn new(cluster: &Cluster, from: &At, to: &At, length: usize) -> Result<Self> {
        let wire = Wire::open(Some(&to.guest.ns), "eth0")?;
        let sender = Wire::open(Some(&from.guest.ns), "eth0")?.mac;
        let ends = [(from.ips[0].parse()?, ECHO), (to.ips[0].parse()?, ECHO)];
        let frame = frame::udp(wire.mac, sender, ends, &vec![0x66; length]);
        let vni = cluster.etcd.value("net/front")?["vni"].as_u64().context("a network has an id")?;
        Ok(Self { vni: vni.try_into()?, frame, wire })
    }

    /// Requires that it arrives, or does not, when it is sent from a namespace to a host.
    pub(super) fn arrives(&self, from: &str, host: IpAddr, arrives: bool) -> Result<()> {
        self.wire.seen(|_| false)?;
        inside(from, || {
            let socket = UdpSocket::bind((if host.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
            let packet = encapsulated(self.vni, &self.frame);
            socket.send_to(&packet, (host, PORT)).context("send a forged frame")
        })?;
        let arrived =
            self.wire.receive(if arrives { AMPLE } else { AMPLE / 4 }, |frame| frame == self.frame)?;
        let length = self.frame.len();
        ensure!(arrived.is_some() == arrives, "of {from}, a frame of {length} bytes arrives: {}", !arrives);
        Ok(())
    }
}

/// Waits until hosts let in packets of a source, or refuse it.
fn guard_follows(cluster: &Cluster, source: &str, is_member: bool) -> Result<()> {
    cluster.until(SECONDS(1), || {
        cluster.hosts.iter().take(2).try_for_each(|host| {
            let list = ["list", "set", "inet", "moor", "overlay-members4"];
            let set = inside(&host.name, || ip::output("nft", &list))?;
            let has = set.split([' ', ',', '\n']).any(|word| word == source);
            ensure!(has == is_member, "{source} on {}: {set}", host.name);
            Ok(())
        })
    })?;
    Ok(())
}

fn guarded(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let [one, two, three] = &cluster.hosts[..] else { unreachable!("three were asked for") };
    let usual = config(&json!({}));
    let (a, b) = (at(one, "a", &usual)?, at(two, "b", &usual)?);
    let both = [a, b];
    all_reach_all(&cluster, &both)?;
    let [a, b] = &both;
    let target = two.address;
    let small = Forged::new(&cluster, a, b, 64)?;
    // In two fragments, of which the second has no id.
    let large = Forged::new(&cluster, a, b, 1000)?;
    ip::run_in(&three.name, &["route", "add", &target.to_string(), "dev", "eth0", "mtu", "lock", "576"])?;
    let all_arrive = |from: &str, arrive| {
        small.arrives(from, target, arrive)?;
        large.arrives(from, target, arrive)
    };
    all_arrive(&one.name, true)?;
    all_arrive(&three.name, false)?;
    small.arrives("e1", target, false)?;

    let (guest, _) = add(three, "c", &usual)?;
    guard_follows(&cluster, "192.0.2.13", true)?;
    all_arrive(&three.name, true)?;

    three.attach("overlay", "DEL", &guest, &usual)?.silent()?;
    let left = three.overlay(&["leave"])?;
    ensure!(left.succeeded(), "leave: {}", left.summary());
    guard_follows(&cluster, "192.0.2.13", false)?;
    all_arrive(&three.name, false)?;

    let hosts = cluster.etcd.keys("host/")?;
    ip::run_in(&one.name, &["addr", "del", "192.0.2.11/24", "dev", "eth0"])?;
    ip::run_in(&one.name, &["addr", "add", "192.0.2.31/24", "dev", "eth0"])?;
    cluster.until(SECONDS(10), || {
        let records = hosts.iter().map(|key| cluster.etcd.value(key)).collect::<Result<Vec<_>>>()?;
        ensure!(records.iter().any(|host| host["addresses"] == json!(["192.0.2.31"])), "{records:?}");
        Ok(())
    })?;
    guard_follows(&cluster, "192.0.2.31", true)?;
    guard_follows(&cluster, "192.0.2.11", false)?;
    all_reach_all(&cluster, &both)
}

/// The name of the VXLAN device of the only network on a host.
fn device(host: &Host) -> Result<String> {
    let links = host.links()?;
    links.into_iter().find(|link| link.starts_with("mx")).context("no VXLAN device")
}

fn planted(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, _) = add(one, "a", &config(&json!({})))?;
    let (device, mac) = (device(one)?, "02:6d:0a:09:32:05");
    let bridge = |words: &str| {
        let words: Vec<_> = words.split_whitespace().collect();
        ip::output("bridge", &[&["-n", &one.name, "fdb"], words.as_slice()].concat())
    };
    bridge(&format!("add {mac} dev {device} dst 192.0.2.77 self dynamic"))?;
    let asked_for = config(&json!({"runtimeConfig": {"ips": ["10.9.50.5/16"]}}));
    add(two, "b", &asked_for)?;
    let entry_is_right = || {
        let entries = bridge(&format!("show dev {device}"))?;
        let its: Vec<_> = entries.lines().filter(|line| line.starts_with(mac)).collect();
        let right = its.len() == 1 && its.iter().all(|line| line.contains("dst 192.0.2.12"));
        ensure!(right && its.iter().all(|line| line.contains("permanent")), "{its:?}");
        Ok(())
    };
    cluster.until(SECONDS(1), entry_is_right)?;
    guest.reach("10.9.50.5", AMPLE)?;
    // At once: the agent makes an entry again that is deleted.
    bridge(&format!("replace {mac} dev {device} dst 192.0.2.77 self dynamic"))?;
    cluster.until(SECONDS(2), entry_is_right)?;
    guest.reach("10.9.50.5", AMPLE).map(drop)
}

fn source(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    // A second address, which the kernel would choose.
    ip::script(
        Some(&one.name),
        "addr add 192.0.2.111/24 dev eth0
         route replace 192.0.2.0/24 dev eth0 src 192.0.2.111 proto kernel scope link",
    )?;
    one.configure(&cluster.etcd.endpoints(), &json!({"hostAddress": "192.0.2.11"}))?;
    let usual = config(&json!({}));
    let both = [at(one, "a", &usual)?, at(two, "b", &usual)?];
    let rules = "add table ip foreign; \
                 add chain ip foreign post { type nat hook postrouting priority 100; }; \
                 add rule ip foreign post oifname eth0 udp dport 4789 snat to 192.0.2.111; \
                 add rule ip foreign post oifname eth0 masquerade";
    inside(&one.name, || ip::output("nft", &[rules]))?;
    let underlay = Wire::open(Some(UNDERLAY), &one.name)?;
    all_reach_all(&cluster, &both)?;
    let packets = underlay.seen(|frame| Outer::of(frame, PORT).is_some())?;
    let sources: Vec<_> = packets.iter().filter_map(|frame| Some(Outer::of(frame, PORT)?.source)).collect();
    ensure!(sources.contains(&one.address) && sources.contains(&two.address), "sources are {sources:?}");
    let others: Vec<_> =
        sources.iter().filter(|source| ![one.address, two.address].contains(source)).collect();
    ensure!(others.is_empty(), "packets have the sources {others:?}");

    for host in [one, two] {
        let flows = host.inside(|| {
            UdpSocket::bind(("0.0.0.0", 0))?.send_to(b"tracked", ("192.0.2.1", ECHO))?;
            fs::read_to_string("/proc/thread-self/net/nf_conntrack").context("list connections")
        })?;
        ensure!(flows.contains("dport=7 "), "{} tracks nothing: {flows}", host.name);
        ensure!(!flows.contains("dport=4789"), "{} tracks VXLAN: {flows}", host.name);
        let link = ip::link(Some(&host.name), &device(host)?)?.context("no VXLAN device")?;
        let data = &link["linkinfo"]["info_data"];
        let has = |key: &str, value: serde_json::Value| {
            ensure!(data[key] == value, "{key} of the device on {}: {data}", host.name);
            Ok(())
        };
        has("local", json!(host.address.to_string()))?;
        has("port", json!(PORT))?;
        has("learning", json!(false))?;
        has("proxy", json!(true))?;
        let port = &link["linkinfo"]["info_slave_data"];
        ensure!(port["learning"] == false && port["flood"] == true, "the port on {}: {port}", host.name);
    }
    Ok(())
}
