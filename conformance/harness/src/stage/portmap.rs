//! Containers behind a bridge with published ports, and the servers on these ports.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};

use crate::config::{USUAL, bridge};
use crate::ip;
use crate::namespace::{Container, OUTSIDE};
use crate::room::Room;
use crate::socket::patience;

/// The host's addresses towards the outside.
pub const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:ff::1"];

/// A portmap configuration with the previous plugin's result.
pub fn portmap(mappings: Value, previous: &Value) -> Value {
    json!({
        "cniVersion": USUAL, "name": "net", "type": "portmap",
        "runtimeConfig": {"portMappings": mappings}, "prevResult": previous,
    })
}

/// A container behind `br0`, and the bridge's answer.
pub fn bridged(room: &Room, id: &str) -> Result<(Container, Value)> {
    let container = room.container(id)?;
    let result = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    Ok((container, result))
}

/// A container with published ports.
pub fn published(room: &Room, id: &str, mappings: Value) -> Result<(Container, Value)> {
    let (container, previous) = bridged(room, id)?;
    let config = portmap(mappings, &previous);
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    Ok((container, config))
}

/// Lets a container die without DEL, and creates another one that gets its addresses.
pub fn heir_of(room: &Room, dead: &Container, config: &Value) -> Result<(Container, Value)> {
    room.remove(dead)?;
    let veth = config["prevResult"]["interfaces"][1]["name"].as_str().context("no host veth")?;
    let deadline = Instant::now() + patience();
    while ip::link(None, veth)?.is_some() {
        ensure!(Instant::now() < deadline, "{veth} stays although its container is gone");
        std::thread::sleep(Duration::from_millis(5));
    }
    // The next address is the first again.
    fs::remove_dir_all("/var/lib/cni/networks")?;
    let (heir, previous) = bridged(room, "heir")?;
    ensure!(previous["ips"] == config["prevResult"]["ips"], "the heir has other addresses: {previous}");
    Ok((heir, previous))
}

/// The rules of the room, as nft lists them.
pub fn ruleset() -> Result<Value> {
    Ok(serde_json::from_str(&ip::output("nft", &["-j", "list", "ruleset"])?)?)
}

/// The container's address of that family in an answer.
pub fn address(config: &Value, v6: bool) -> String {
    let ips = config["prevResult"]["ips"].as_array().into_iter().flatten();
    let mut texts = ips.filter_map(|ip| ip["address"].as_str()?.split_once('/').map(|(address, _)| address));
    texts.find(|address| address.contains(':') == v6).unwrap_or_default().to_owned()
}

/// Serves on a port of every address of a namespace: a client gets the port and its own address.
pub fn serve(room: &Room, ns: &str, port: u16) -> Result<()> {
    let listener = room.inside(ns, || {
        TcpListener::bind(("::", port)).with_context(|| format!("listen on port {port} in {ns}"))
    })?;
    let name = ns.to_owned();
    // The room's process ends with the case.
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let from = stream.peer_addr().map(|from| from.ip().to_canonical().to_string());
            let from = from.unwrap_or_default();
            stream.write_all(format!("{name}:{port} {from}").as_bytes()).ok();
        }
    });
    Ok(())
}

/// Connects from a namespace (`None` is the host) and returns the answer.
pub fn ask(room: &Room, from: Option<&str>, to: &str, port: u16) -> Result<String> {
    let at = SocketAddr::new(to.parse()?, port);
    let answer_of = || -> Result<String> {
        let mut stream =
            TcpStream::connect_timeout(&at, patience()).with_context(|| format!("connect to {at}"))?;
        stream.set_read_timeout(Some(patience()))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).with_context(|| format!("hear {at}"))?;
        Ok(answer)
    };
    match from {
        Some(ns) => room.inside(ns, answer_of),
        None => answer_of(),
    }
}

/// Connects, and requires this answer.
pub fn expect(room: &Room, from: Option<&str>, to: &str, port: u16, answer: &str) -> Result<()> {
    let who = from.unwrap_or("the host");
    let got = ask(room, from, to, port).with_context(|| format!("from {who}"))?;
    ensure!(got == answer, "{who} asked {to} port {port} and got {got:?}, not {answer:?}");
    Ok(())
}

/// A client of UDP in the outside, by its addresses of that index.
pub fn udp_client(room: &Room, index: usize, port: u16) -> Result<UdpSocket> {
    room.inside("outside", || {
        let socket = UdpSocket::bind((OUTSIDE[index].parse::<IpAddr>()?, 0))?;
        socket.set_read_timeout(Some(patience()))?;
        socket.connect((HOST[index].parse::<IpAddr>()?, port))?;
        Ok(socket)
    })
}

/// Lets a container answer at its address of each family. These clients must reach it, whoever
/// answered them before.
pub fn expect_clients_of(room: &Room, clients: &[UdpSocket], id: &str, config: &Value) -> Result<()> {
    for (index, socket) in clients.iter().enumerate() {
        let to = address(config, index == 1);
        answer(room, id, &to)?;
        let reply = exchange(socket).context("the client's flow goes to where the container was")?;
        ensure!(reply == format!("{id} {to}"), "the client reached {reply}");
    }
    Ok(())
}

/// Runs a verb for all of these attachments at the same time.
pub fn at_once(room: &Room, verb: &str, attached: &[(Container, Value)]) -> Result<()> {
    std::thread::scope(|scope| {
        let run = |(container, config): &(Container, Value)| {
            let plugin = config["type"].as_str().unwrap_or_default();
            room.attach(plugin, verb, container).config(config).run()
        };
        let started: Vec<_> = attached.iter().map(|one| scope.spawn(move || run(one))).collect();
        for thread in started {
            let answer = thread.join().map_err(|_| anyhow!("a thread panicked"))??;
            ensure!(answer.succeeded(), "{verb}: {}", answer.summary());
        }
        Ok(())
    })
}

/// Answers every datagram to port 53 of an address.
pub fn answer(room: &Room, ns: &str, at: &str) -> Result<()> {
    let at: IpAddr = at.parse().with_context(|| format!("{at:?} is no address"))?;
    let socket = room.inside(ns, || UdpSocket::bind((at, 53)).context("bind UDP port 53"))?;
    let answer = format!("{ns} {at}");
    std::thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
            socket.send_to(answer.as_bytes(), from).ok();
        }
    });
    Ok(())
}

/// Sends a datagram, and waits for the answer.
pub fn exchange(socket: &UdpSocket) -> Result<String> {
    let mut buffer = [0; 100];
    socket.send(b"?")?;
    let length = socket.recv(&mut buffer).context("no answer")?;
    Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
}
