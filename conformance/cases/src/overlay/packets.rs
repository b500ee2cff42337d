//! What containers of several hosts exchange, and what the kernel needs for it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::cluster::host::{Guest, Host};
use harness::cluster::traffic::{ECHO, PACE};
use harness::cluster::vxlan::Outer;
use harness::cluster::{Cluster, UNDERLAY};
use harness::frame::{self, Wire};
use harness::ip;
use harness::patience::on_this_machine;
use harness::room::Room;
use serde_json::{Value, json};

use super::{AMPLE, HOSTS, SECONDS, add, addresses, config};

pub const CASES: &[Case] = &[
    Case::new("overlay/every_container_reaches_every_other", &["O-020", "S-35"], mesh).needs(HOSTS),
    Case::new("overlay/lost_entries_are_made_again", &["O-024"], repaired).needs(HOSTS),
    Case::new("overlay/only_packets_for_another_host_leave_a_host", &["O-021", "O-022"], quiet).needs(HOSTS),
    Case::new("overlay/a_container_that_moves_is_reached_at_once", &["O-023"], moves).needs(HOSTS),
];

/// The UDP port of VXLAN.
pub(super) const PORT: u16 = 4789;
/// What a stream carries each way.
const BYTES: usize = 100_000_000;

/// A container of a case.
pub(super) struct At {
    /// The name of its host.
    pub host: String,
    pub guest: Guest,
    /// Its address of each family.
    pub ips: [String; 2],
}

impl At {
    /// From the result of its ADD.
    pub(super) fn of(host: &Host, guest: Guest, result: &Value) -> Result<Self> {
        let ips = addresses(result).try_into();
        let ips = ips.map_err(|ips| anyhow!("{} has the addresses {ips:?}", guest.id))?;
        Ok(Self { host: host.name.clone(), guest, ips })
    }
}

/// Adds a container, with an address of each family.
pub(super) fn at(host: &Host, id: &str, config: &Value) -> Result<At> {
    let (guest, result) = add(host, id, config)?;
    At::of(host, guest, &result)
}

/// Waits until each container reaches each other in both families.
pub(super) fn all_reach_all(cluster: &Cluster, all: &[At]) -> Result<()> {
    cluster.until(SECONDS(2), || {
        all.iter().try_for_each(|from| {
            let mut others = all.iter().flat_map(|to| &to.ips);
            others.try_for_each(|to| from.guest.reach(to, AMPLE).map(drop))
        })
    })?;
    Ok(())
}

/// Requires that a datagram of exactly the MTU, which may not be fragmented, arrives at a container
/// of another host as it was sent, with its time to live, in one packet on the underlay.
pub(super) fn arrives_whole(from: &At, to: &At, mtu: usize) -> Result<()> {
    let [sender, receiver] = [from, to].map(|at| Wire::open(Some(&at.guest.ns), "eth0"));
    let (sender, receiver) = (sender?, receiver?);
    let underlay = Wire::open(Some(UNDERLAY), &from.host)?;
    for (own, other) in from.ips.iter().zip(&to.ips) {
        let (own, other): (IpAddr, IpAddr) = (own.parse()?, other.parse()?);
        let headers = if own.is_ipv4() { 20 + 8 } else { 40 + 8 };
        let data = vec![0x6d; mtu - headers];
        let sent = frame::udp(receiver.mac, sender.mac, [(own, ECHO), (other, ECHO)], &data);
        sender.send(&sent).with_context(|| format!("send {mtu} bytes from {own}"))?;
        let arrived = receiver.receive(AMPLE, |frame| frame == sent)?;
        ensure!(arrived.is_some(), "{mtu} bytes from {own} do not arrive at {other} as they were sent");
        let packets =
            underlay.seen(|packet| Outer::of(packet, PORT).is_some_and(|outer| outer.inner == sent))?;
        ensure!(packets.len() == 1, "{mtu} bytes to {other} left in {} packets", packets.len());
    }
    Ok(())
}

fn mesh(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let mut all = vec![];
    for host in &cluster.hosts {
        for id in ["a", "b", "c"] {
            all.push(at(host, id, &config(&json!({})))?);
        }
    }
    all_reach_all(&cluster, &all)?;
    let [first, .., last] = &all[..] else { unreachable!("there are nine") };
    arrives_whole(first, last, 1450)?;
    arrives_whole(last, first, 1450)?;
    for to in &last.ips {
        first.guest.stream(&last.guest, to, BYTES)?;
    }
    Ok(())
}

fn repaired(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let (guest, _) = add(one, "a", &config(&json!({})))?;
    let (_, result) = add(two, "b", &config(&json!({})))?;
    let reach = || guest.reach(&addresses(&result)[0], AMPLE).map(drop);
    cluster.until(SECONDS(2), reach)?;
    let links = one.links()?;
    let device = links.iter().find(|link| link.starts_with("mx")).context("no VXLAN device")?;
    let before = one.fdb()?;
    ip::run_in(&one.name, &["neigh", "flush", "dev", device, "nud", "permanent"])?;
    cluster.until(SECONDS(2), reach)?;
    ip::run_in(&one.name, &["link", "del", device])?;
    cluster.until(SECONDS(2), || {
        let (links, entries) = (one.links()?, one.fdb()?);
        ensure!(entries == before, "links are {links:?}, entries {entries:?}, not {before:?}");
        reach()
    })?;
    Ok(())
}

fn quiet(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { unreachable!("two were asked for") };
    let usual = config(&json!({}));
    let all = [("a", one), ("beside-a", one), ("b", two), ("beside-b", two)];
    let all = all.map(|(id, host)| at(host, id, &usual)).into_iter().collect::<Result<Vec<_>>>()?;
    let [a, beside_a, b, beside_b] = &all[..] else { unreachable!("there are four") };
    all_reach_all(&cluster, &all)?;
    let underlay = Wire::open(Some(UNDERLAY), &one.name)?;
    let left = || underlay.seen(|frame| Outer::of(frame, PORT).is_some_and(|it| it.source == one.address));
    let forget = || ip::run_in(&a.guest.ns, &["neigh", "flush", "dev", "eth0"]);

    for nth in 1..=10 {
        for to in [format!("10.9.200.{nth}"), format!("fd00:9::dead:{nth}")] {
            a.guest.towards(&to, ECHO)?.send(b"?")?;
        }
    }
    forget()?;
    for gateway in ["10.9.0.1", "fd00:9::1"] {
        a.guest.reach(gateway, AMPLE)?;
    }
    std::thread::sleep(AMPLE);
    let frames = left()?;
    ensure!(frames.is_empty(), "for nobody and for the gateway left: {frames:02x?}");

    let wire = Wire::open(Some(&b.guest.ns), "eth0")?;
    for to in &b.ips {
        forget()?;
        a.guest.towards(to, ECHO)?.send(b"the only one")?;
        let arrived = wire.receive(AMPLE, |frame| frame.ends_with(b"the only one"))?;
        ensure!(arrived.is_some(), "{to} was not reached");
        let frames = left()?;
        let are_it = frames.len() == 1 && frames.iter().all(|frame| frame.ends_with(b"the only one"));
        ensure!(are_it, "beside one packet to {to} left: {frames:02x?}");
    }

    let beside = [beside_a, beside_b].map(|at| Wire::open(Some(&at.guest.ns), "eth0"));
    b.guest.echo()?;
    let socket = a.guest.towards(&b.ips[0], ECHO)?;
    socket.set_read_timeout(Some(on_this_machine(AMPLE)))?;
    for nth in 0..200 {
        socket.send(b"between two")?;
        socket.recv(&mut [0; 16]).with_context(|| format!("answer {nth}"))?;
    }
    for (wire, at) in beside.into_iter().zip([beside_a, beside_b]) {
        let seen = wire?.seen(|frame| frame.ends_with(b"between two"))?.len();
        ensure!(seen <= 2, "{} sees {seen} frames of two others", at.guest.ns);
    }
    Ok(())
}

fn moves(room: &Room) -> Result<()> {
    let cluster = Cluster::new(room, 1, 3)?;
    let [one, two, three] = &cluster.hosts[..] else { unreachable!("three were asked for") };
    let usual = config(&json!({}));
    let [asker, speaker] = ["asker", "speaker"].map(|id| at(one, id, &usual));
    let (asker, speaker, listener) = (asker?, speaker?, at(two, "listener", &usual)?);
    let moving = at(two, "moving", &usual)?;
    moving.guest.echo()?;
    let address = &moving.ips[0];
    cluster.until(SECONDS(2), || {
        asker.guest.reach(address, AMPLE)?;
        speaker.guest.reach(&listener.ips[0], AMPLE).map(drop)
    })?;
    let asked_for = config(&json!({"runtimeConfig": {"ips": [format!("{address}/16")]}}));
    let mut now = (two, moving.guest.clone());
    for to in [one, three] {
        let over = AtomicBool::new(false);
        let change = || -> Result<(Guest, Instant)> {
            std::thread::sleep(Duration::from_millis(200));
            now.0.attach("overlay", "DEL", &now.1, &usual)?.silent()?;
            now.0.remove(&now.1)?;
            let guest = to.container("moving")?;
            guest.echo()?;
            to.attach("overlay", "ADD", &guest, &asked_for)?.result()?;
            let added = Instant::now();
            std::thread::sleep(Duration::from_millis(500));
            Ok((guest, added))
        };
        let (moved, asked, longest) = std::thread::scope(|scope| {
            let asked = scope.spawn(|| asker.guest.ask_all_along(address, &over));
            let talk = scope.spawn(|| speaker.guest.talk(&listener.guest, &listener.ips[0], &over));
            let moved = change();
            over.store(true, Ordering::Relaxed);
            (moved, asked.join(), talk.join())
        });
        let (guest, added) = moved.with_context(|| format!("move to {}", to.name))?;
        let asked = asked.map_err(|_| anyhow!("the asker panicked"))??;
        let longest = longest.map_err(|_| anyhow!("the speaker panicked"))?;
        let longest = longest.context("a connection of another container")?;
        let limit = on_this_machine(PACE * 20);
        ensure!(longest < limit, "a word of another container's connection took {longest:?}");
        let after: Vec<_> = asked.iter().filter(|one| one.at >= added).collect();
        let lost = after.iter().filter(|one| !one.answered).count();
        let tolerated = on_this_machine(PACE * 10).as_millis() / PACE.as_millis();
        ensure!(
            lost as u128 <= tolerated && lost * 2 < after.len(),
            "on {}, {lost} of {} datagrams after ADD were lost",
            to.name,
            after.len()
        );
        now = (to, guest);
    }
    Ok(())
}
