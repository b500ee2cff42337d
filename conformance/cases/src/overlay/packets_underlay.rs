//! What the underlay is like: its MTU, its family, other rules and devices on it.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::cluster::host::{Guest, Host};
use harness::cluster::vxlan::Outer;
use harness::cluster::{Cluster, UNDERLAY};
use harness::config::{USUAL, bridge, with};
use harness::frame::Wire;
use harness::ip;
use harness::namespace::inside;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::socket;
use serde_json::{Value, json};

use super::packets::{At, PORT, all_reach_all, arrives_whole, at};
use super::packets_guard::Forged;
use super::packets_networks::network;
use super::{AMPLE, HOSTS, SECONDS, add, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/packets_pass_with_br_netfilter_on_and_off", &["O-031"], netfilter).needs(&[
        Need::Etcd,
        Need::Overlay,
        Need::BrNetfilter,
    ]),
    Case::new("overlay/hosts_with_ipv6_alone_share_a_network", &["O-032"], ipv6).needs(HOSTS),
    Case::new("overlay/the_mtu_follows_the_underlay", &["O-033"], mtu).needs(HOSTS),
    Case::new("overlay/vxlan_and_plugins_of_others_go_on", &["O-093"], others).needs(&[
        Need::Etcd,
        Need::Overlay,
        Need::Reference,
    ]),
];

/// What a host with Docker has: nothing is forwarded that nobody lets through.
const CLOSED: &str = "add table inet closed; \
                      add chain inet closed f { type filter hook forward priority 0; policy drop; }";

fn netfilter(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let rules = |rules: &str| {
        let change = |host: &Host| inside(&host.name, || ip::output("nft", &[rules])).map(drop);
        [one, two].into_iter().try_for_each(change)
    };
    rules(CLOSED)?;
    let mut all = vec![];
    for (host, id) in [(one, "a"), (one, "b"), (two, "c")] {
        let (guest, result) = add(host, id, &config(&json!({})))?;
        let firewall = json!({
            "cniVersion": USUAL, "name": "front", "type": "firewall", "backend": "nftables",
            "prevResult": result,
        });
        host.attach("firewall", "ADD", &guest, &firewall)?.result()?;
        all.push(At::of(host, guest, &result)?);
    }
    for (on, closed) in [("0", true), ("1", true), ("1", false), ("0", false)] {
        for host in [one, two] {
            for key in ["iptables", "ip6tables", "arptables"] {
                let path = format!("/proc/sys/net/bridge/bridge-nf-call-{key}");
                // The parameter is the namespace's; another kernel has one for all.
                host.inside(|| fs::write(&path, on).with_context(|| format!("write {path}")))?;
            }
        }
        if on == "1" && !closed {
            rules("delete table inet closed")?;
        }
        let with = || format!("with br_netfilter {on}, forwarding closed: {closed}");
        all_reach_all(&cluster, &all).with_context(with)?;
        arrives_whole(&all[0], &all[2], 1450).with_context(with)?;
        all[0].guest.stream(&all[2].guest, &all[2].ips[0], 1_000_000).with_context(with)?;
        all[0].guest.reach("192.0.2.1", AMPLE).with_context(with)?;
    }
    Ok(())
}

fn ipv6(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let endpoints = ["http://[2001:db8:2::1]:2379".to_owned()];
    let mut all = vec![];
    for host in &cluster.hosts {
        ip::run_in(&host.name, &["-4", "addr", "flush", "dev", "eth0"])?;
        host.configure(&endpoints, &json!({}))?;
        all.push(at(host, "a", &config(&json!({})))?);
    }
    let underlay = Wire::open(Some(UNDERLAY), "h1")?;
    all_reach_all(&cluster, &all)?;
    let packets = underlay.seen(|frame| Outer::of(frame, PORT).is_some())?;
    ensure!(!packets.is_empty(), "nothing left the host");
    arrives_whole(&all[0], &all[1], 1430)?;
    let (forged, two) = (Forged::new(&cluster, &all[0], &all[1], 64)?, "2001:db8:2::c".parse()?);
    forged.arrives("h1", two, true)?;
    forged.arrives("e1", two, false)?;
    all[0].guest.stream(&all[2].guest, &all[2].ips[0], 1_000_000)?;
    let status = cluster.hosts[0].overlay(&["status"])?;
    ensure!(status.succeeded() && !status.summary().contains("too small"), "{}", status.summary());
    Ok(())
}

/// Gives the underlay's links of a host another MTU.
fn set_mtu(host: &Host, mtu: u32) -> Result<()> {
    ip::run_in(&host.name, &["link", "set", "eth0", "mtu", &mtu.to_string()])?;
    ip::run_in(UNDERLAY, &["link", "set", &host.name, "mtu", &mtu.to_string()])
}

/// Waits until the agent of a host knows the MTU of its link.
fn mtu_is_known(cluster: &Cluster, host: &Host, mtu: u32) -> Result<()> {
    cluster.until(SECONDS(2), || {
        let status = host.overlay(&["status", "--json"])?.document()?;
        ensure!(status["mtu"] == mtu, "{status}");
        Ok(())
    })?;
    Ok(())
}

fn mtu(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    for (name, number, link) in [("jumbo", 7, 9000), ("small", 8, 1420), ("front", 9, 1500)] {
        for host in [one, two] {
            set_mtu(host, link)?;
            if host.agent()?.is_some() {
                mtu_is_known(&cluster, host, link)?;
            }
        }
        let config = network(name, number, &json!({}));
        let both = [at(one, name, &config)?, at(two, name, &config)?];
        all_reach_all(&cluster, &both)?;
        let mtu = ip::link(Some(&both[1].guest.ns), "eth0")?.context("no eth0")?["mtu"].clone();
        ensure!(mtu == link - 50, "{name} has the MTU {mtu} on links of {link}");
        arrives_whole(&both[0], &both[1], usize::try_from(link - 50)?)?;
    }
    set_mtu(two, 1420)?;
    mtu_is_known(&cluster, two, 1420)?;
    let late = two.container("late")?;
    let answer = two.attach("overlay", "ADD", &late, &network("front", 9, &json!({})))?;
    answer.result()?;
    ensure!(answer.stderr.contains("the network's MTU is 1450"), "ADD warns: {:?}", answer.stderr);
    let asked = with(&network("front", 9, &json!({})), json!({"cniVersion": "1.1.0"}));
    cluster.until(SECONDS(2), || {
        let status = one.run(one.call("overlay", "STATUS", &late).config(&asked))?;
        ensure!(status.succeeded() && status.stderr.contains("host h2"), "{}", status.summary());
        Ok(())
    })?;
    Ok(())
}

/// Gives a host a VXLAN device as others make it, with an address, towards another host.
fn another_device(host: &Host, number: u8, peer: &Host) -> Result<()> {
    let (source, target) = (host.address, peer.address);
    ip::script(
        Some(&host.name),
        &format!(
            "link add docker0 type vxlan id 4097 dstport {PORT} local {source} dev eth0 proxy l2miss l3miss
             link set docker0 address 02:42:0a:00:00:0{number} up
             addr add 10.0.0.{number}/24 dev docker0
             neigh add 10.0.0.{0} lladdr 02:42:0a:00:00:0{0} dev docker0 nud permanent",
            3 - number
        ),
    )?;
    let mac = format!("02:42:0a:00:00:0{}", 3 - number);
    let add = ["-n", &host.name, "fdb", "add", &mac, "dev", "docker0", "dst", &target.to_string(), "self"];
    ip::output("bridge", &[&add[..], &["permanent"]].concat()).map(drop)
}

fn others(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    another_device(one, 1, two)?;
    another_device(two, 2, one)?;
    let reach_by_it = || inside(&one.name, || socket::reach([10, 0, 0, 2].into(), AMPLE).map(drop));
    let state = || -> Result<(Option<Value>, String)> {
        let entries = ip::output("bridge", &["-n", &one.name, "fdb", "show", "dev", "docker0"])?;
        Ok((ip::link(Some(&one.name), "docker0")?, entries))
    };
    reach_by_it()?;
    let before = state()?;

    let reference = |verb: &str, guest: &Guest| {
        let usual = with(&bridge("1.0.0"), json!({"ipMasq": true}));
        let call = Call::new(room, room.reference.join("bridge"))
            .env("CNI_COMMAND", verb)
            .env("CNI_PATH", &room.reference)
            .config(&usual);
        one.run(guest.as_target(call))
    };
    let stranger = one.container("stranger")?;
    reference("ADD", &stranger)?.result()?;
    let usual = config(&json!({}));
    let both = [at(one, "a", &usual)?, at(two, "b", &usual)?];
    all_reach_all(&cluster, &both)?;
    reach_by_it()?;
    for to in ["10.1.2.1", "192.0.2.1"] {
        stranger.reach(to, AMPLE)?;
    }
    reference("DEL", &stranger)?.silent()?;
    all_reach_all(&cluster, &both)?;
    for (host, at) in cluster.hosts.iter().zip(&both) {
        host.attach("overlay", "DEL", &at.guest, &usual)?.silent()?;
    }
    reach_by_it()?;
    let after = state()?;
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(())
}
