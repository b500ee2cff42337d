//! portmap, `hostPort: 0`: any free port.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::namespace::{Container, OUTSIDE};
use harness::room::Room;
use harness::stage::portmap::{HOST, bridged, expect, portmap, published, ruleset, serve};
use harness::stage::reapply::reapply;
use serde_json::{Value, json};

use crate::masquerade::nft;

pub const CASES: &[Case] = &[
    Case::new("free_port/a_port_is_chosen_reported_and_kept", &["PM-F1"], chosen),
    Case::new("free_port/published_and_listening_ports_are_not_chosen", &["PM-F2"], others),
    Case::new("free_port/twenty_concurrent_adds_get_distinct_ports", &["C-047", "PM-F3"], crowd),
    Case::new("free_port/exhaustion_is_an_error_and_creates_nothing", &["PM-F4"], none),
    Case::new("free_port/ranges_and_implicit_zeros_are_refused", &["PM-F5"], bad_input),
];

/// The kernel's range for ephemeral ports; other ports of 49152 to 65535 are chosen first.
fn local_range(range: &str) -> Result<()> {
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", range).context("set the range of local ports")
}

fn any(proto: &str) -> Value {
    json!({"hostPort": 0, "containerPort": 80, "protocol": proto})
}

/// Runs an ADD and returns the ports that it logs.
fn add(room: &Room, container: &Container, config: &Value) -> Result<Vec<u16>> {
    let answer = room.attach("portmap", "ADD", container).config(config).run()?;
    ensure!(answer.result()? == config["prevResult"], "the result is another");
    let logged = answer.stderr.lines().filter_map(|line| line.split("host port ").nth(1)?.split('/').next());
    logged.map(|port| port.parse().with_context(|| format!("{port:?} is not a port"))).collect()
}

fn chosen(room: &Room) -> Result<()> {
    room.outside(&[])?;
    published(room, "other", json!([{"hostPort": 8080, "containerPort": 80}]))?;
    let before = ruleset()?;
    let (container, previous) = bridged(room, "c1")?;
    let v6 = json!({"hostPort": 0, "containerPort": 80, "hostIP": "::"});
    let known = json!({"hostPort": 9090, "containerPort": 81});
    let config = portmap(json!([any("tcp"), any("udp"), known, v6, any("sctp")]), &previous);
    let ports = add(room, &container, &config)?;
    let mut once = ports.clone();
    once.dedup();
    ensure!(
        once.len() == 4 && ports.iter().all(|port| (49_152..=65_535).contains(port)),
        "logged: {ports:?}"
    );
    serve(room, "c1", 80)?;
    for (host, client) in HOST.into_iter().zip(OUTSIDE) {
        expect(room, Some("outside"), host, ports[0], &format!("c1:80 {client}"))?;
    }
    expect(room, Some("outside"), HOST[1], ports[2], &format!("c1:80 {}", OUTSIDE[1]))?;
    let check = || room.attach("portmap", "CHECK", &container).config(&config).run();
    check()?.silent()?;
    ensure!(add(room, &container, &config)? == ports, "the second ADD chose others");
    ensure!(
        ruleset()?.to_string().matches(&ports[0].to_string()).count() == 2,
        "the rules are {}",
        ruleset()?
    );
    nft("flush ruleset")?;
    let mended = check()?;
    ensure!(mended.status.success(), "CHECK after a flush: {}", mended.stderr);
    check()?.silent()?;
    nft("flush ruleset")?;
    reapply(room, "portmap")?;
    check()?.silent()?;
    expect(room, Some("outside"), HOST[0], ports[0], &format!("c1:80 {}", OUTSIDE[0]))?;
    ensure!(add(room, &container, &config)? == ports, "after a flush ADD chose other ports");
    for _ in 0..2 {
        room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    }
    // The handles differ: every rule was made anew.
    let left = ruleset()?.to_string();
    ensure!(!left.contains("c1\"") && before.to_string().contains("8080"), "left: {left}");
    check()?.error_with(999, "not on record").map(drop)
}

fn others(room: &Room) -> Result<()> {
    // The last three are in use: by a listener, by a container, by a UDP socket.
    local_range("32768 65532")?;
    let listener = TcpListener::bind(("127.0.0.1", 65_533))?;
    published(room, "other", json!([{"hostPort": 65_534, "containerPort": 80, "hostIP": HOST_ONLY}]))?;
    let datagrams = UdpSocket::bind(("::1", 65_535))?;
    let (container, previous) = bridged(room, "c1")?;
    let config = portmap(json!([any("tcp")]), &previous);
    ensure!(add(room, &container, &config)? == [65_535], "for TCP the last one is free");
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    let config =
        portmap(json!([any("udp"), {"hostPort": 65_534, "containerPort": 1, "protocol": "udp"}]), &previous);
    ensure!(add(room, &container, &config)? == [65_533], "for UDP the first one is free");
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    let two = portmap(json!([any("tcp"), any("tcp")]), &previous);
    let ports = add(room, &container, &two)?;
    ensure!(ports[0] == 65_535 && (49_152..=65_532).contains(&ports[1]), "{ports:?}");
    drop(datagrams);
    drop(listener);
    let (second, previous) = bridged(room, "c2")?;
    let ports = add(room, &second, &portmap(json!([any("tcp")]), &previous))?;
    ensure!(ports == [65_533], "once the listener is gone its port is free: {ports:?}");
    Ok(())
}

/// An address that only the host itself can reach.
const HOST_ONLY: &str = "127.0.0.1";

fn crowd(room: &Room) -> Result<()> {
    const COUNT: u16 = 20;
    local_range(&format!("32768 {}", 65_535 - COUNT))?;
    let attached = (0..COUNT).map(|n| bridged(room, &format!("c{n}"))).collect::<Result<Vec<_>>>()?;
    let mut ports = std::thread::scope(|scope| -> Result<Vec<u16>> {
        let started: Vec<_> = attached
            .iter()
            .map(|(container, previous)| {
                let config = portmap(json!([any("tcp")]), previous);
                scope.spawn(move || add(room, container, &config))
            })
            .collect();
        let mut ports = vec![];
        for one in started {
            ports.extend(one.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        Ok(ports)
    })?;
    ports.sort_unstable();
    ports.dedup();
    ensure!(ports.len() == usize::from(COUNT), "twenty have {ports:?}");
    Ok(())
}

fn none(room: &Room) -> Result<()> {
    let all =
        json!([{"hostPort": 49_152, "hostPortEnd": 65_535, "containerPort": 49_152, "protocol": "tcp"}]);
    published(room, "owner", all)?;
    let (container, previous) = bridged(room, "c1")?;
    let before = ruleset()?;
    let config = portmap(json!([any("udp"), any("tcp")]), &previous);
    room.attach("portmap", "ADD", &container).config(&config).run()?.error_with(999, "no tcp port")?;
    ensure!(ruleset()? == before, "a refused ADD created rules");
    let ports = add(room, &container, &portmap(json!([any("udp")]), &previous))?;
    ensure!(ports.len() == 1, "for UDP all are free: {ports:?}");
    Ok(())
}

fn bad_input(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = ruleset()?;
    for (mapping, text) in [
        (json!({"containerPort": 80}), "Invalid host port number: 0"),
        (json!({"hostPort": null, "containerPort": 80}), "Invalid host port number: 0"),
        (json!({"hostPort": 0, "hostPortEnd": 70, "containerPort": 80}), "no range"),
        (json!({"hostPort": 0, "containerPort": 80, "containerPortEnd": 90}), "no range"),
        (json!({"hostPort": 0, "containerPort": 80, "hostIP": "255.255.255.255"}), "255.255.255.255"),
        (json!({"hostPort": 0, "containerPort": 0}), "Invalid container port number: 0"),
    ] {
        let config = portmap(json!([mapping]), &previous);
        room.attach("portmap", "ADD", &container).config(&config).run()?.refused(text)?;
    }
    ensure!(ruleset()? == before, "a refused ADD created rules");
    // DEL accepts all of them, also without a record.
    let config = portmap(json!([any("tcp"), {"hostPort": 0, "hostPortEnd": 1}]), &previous);
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()
}
