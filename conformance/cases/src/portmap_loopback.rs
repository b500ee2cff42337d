//! portmap: the host's loopback addresses are reached by 127.0.0.1 of the host, and by no neighbour.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::frame::{self, ACK, RST, SYN, Wire};
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::room::Room;
use harness::socket::patience;
use harness::stage::portmap::{HOST, bridged, expect, published, ruleset, serve};
use harness::stage::reapply::reapply;
use serde_json::{Value, json};

use crate::masquerade::{masquerade, nft};
use crate::masquerade_invalid::mac_of;

pub const CASES: &[Case] = &[
    Case::new("portmap_loopback/frames_with_it_are_dropped", &["PM-B3"], |room| {
        frames(room, Tracking::On, "0", "0")
    }),
    Case::new("portmap_loopback/untracked_frames_with_it_are_dropped", &["PM-B3"], |room| {
        frames(room, Tracking::Off, "0", "0")
    }),
    Case::new("portmap_loopback/frames_with_it_are_dropped_with_rp_filter", &["PM-B3"], |room| {
        frames(room, Tracking::On, "2", "0")
    }),
    Case::new("portmap_loopback/untracked_frames_are_dropped_despite_accept_local", &["PM-B3"], |room| {
        frames(room, Tracking::Off, "2", "1")
    }),
    Case::new("portmap_loopback/masquerade_keeps_it_as_long_as_it_is_there", &["PM-B3", "PM-B6"], shared),
    Case::new("portmap_loopback/a_check_notices_accept_local", &["PM-B3", "PM-1"], accept_local),
    Case::new("portmap_loopback/the_hosts_connections_cannot_be_joined", &["PM-B3"], joined),
    Case::new("portmap_loopback/connections_from_a_time_without_rules_end", &["PM-B3", "HO-20"], gap),
    Case::new("portmap_loopback/established_connections_that_pass_meet_no_rule", &["PM-B6"], no_rule),
    Case::new("portmap_loopback/a_redirection_to_it_works", &["PM-B7"], redirection),
    Case::new("portmap_loopback/a_port_of_it_is_not_for_the_wire", &["PM-B8"], wire),
];

/// The attacker's port, by which its packets are counted.
const MARK: u16 = 1234;
/// First packets, and packets of no connection.
const FLAGS: [u8; 4] = [SYN, RST, SYN | ACK, ACK];

fn one(port: u16) -> Value {
    json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}])
}

fn set(key: &str, value: &str) -> Result<()> {
    fs::write(format!("/proc/sys/net/ipv4/conf/{key}"), value).with_context(|| format!("set {key}"))
}

/// The attacker's packets that arrived, that were delivered to the host, and that passed it.
fn counts() -> Result<[u64; 3]> {
    let list = ip::output("nft", &["list", "table", "ip", "watch"])?;
    let mut words = list.split_whitespace();
    let mut counts = [0; 3];
    for count in &mut counts {
        words.find(|word| *word == "packets");
        *count = words.next().and_then(|word| word.parse().ok()).context("no counter")?;
    }
    Ok(counts)
}

/// Counts the attacker's packets before and after all other rules.
fn watch() -> Result<()> {
    nft("add table ip watch")?;
    for (chain, hook, priority) in [("a", "prerouting", -450), ("b", "input", 250), ("c", "postrouting", 250)]
    {
        nft(&format!("add chain ip watch {chain} {{ type filter hook {hook} priority {priority}; }}"))?;
        nft(&format!("add rule ip watch {chain} iifname br0 tcp sport {MARK} counter"))?;
    }
    Ok(())
}

/// A neighbour that sends frames as it likes.
struct Neighbour {
    wire: Wire,
    address: IpAddr,
    gateway: frame::MacBytes,
}

impl Neighbour {
    fn new(room: &Room) -> Result<Self> {
        let (_, result) = bridged(room, "evil")?;
        let text = result["ips"][0]["address"].as_str().and_then(|text| text.split('/').next());
        let address = text.context("no address")?.parse()?;
        Ok(Self { wire: room.wire(Some("evil"), "eth0")?, address, gateway: mac_of(None, "br0")? })
    }

    /// Sends a frame for each of the flags and of the ends; returns how many were delivered and how
    /// many passed.
    fn attack(&self, ends: &[(IpAddr, IpAddr)]) -> Result<(u64, u64)> {
        let [before, delivered, passed] = counts()?;
        let mut sent = 0;
        for flags in FLAGS {
            for (source, target) in ends {
                let ends = [(*source, MARK), (*target, 7000 + u16::from(flags))];
                self.wire.send(&frame::tcp(self.gateway, self.wire.mac, ends, flags))?;
                sent += 1;
            }
        }
        let deadline = Instant::now() + patience();
        while counts()?[0] < before + sent {
            ensure!(Instant::now() < deadline, "{:?} of {sent} frames arrive", counts()?);
            std::thread::sleep(Duration::from_millis(5));
        }
        let now = counts()?;
        Ok((now[1] - delivered, now[2] - passed))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Tracking {
    On,
    Off,
}

/// The kernel forwards packets from 127.0.0.0/8 unless it filters by the way back, and even then
/// with `accept_local`.
fn frames(room: &Room, tracking: Tracking, rp_filter: &str, accept_local: &str) -> Result<()> {
    room.outside(&["10.1.2.0/24"])?;
    let neighbour = Neighbour::new(room)?;
    set("all/rp_filter", "0")?;
    set("br0/rp_filter", rp_filter)?;
    set("br0/accept_local", accept_local)?;
    published(room, "c1", one(8080))?;
    watch()?;
    if tracking == Tracking::Off {
        nft("add chain ip watch raw { type filter hook prerouting priority -310; }")?;
        nft("add rule ip watch raw iifname br0 notrack")?;
    }
    let address = |text: &str| text.parse::<IpAddr>();
    let (own, loopback) = (neighbour.address, address("127.0.0.2")?);
    let to_it =
        [(own, address("127.0.0.1")?), (own, address("127.255.255.254")?), (loopback, address("127.0.0.1")?)];
    let from_it = [(loopback, address(OUTSIDE[0])?), (loopback, address(HOST[0])?)];
    let all = [&to_it[..], &from_it].concat();
    let came = neighbour.attack(&all)?;
    ensure!(came == (0, 0), "of a neighbour's frames {came:?} were delivered and passed");
    serve(room, "c1", 80)?;
    if tracking == Tracking::On {
        expect(room, Some("outside"), HOST[0], 8080, &format!("c1:80 {}", OUTSIDE[0]))?;
    }
    // Without the rules the frames arrive, so the attack itself works.
    nft("delete table inet moor")?;
    let (delivered, passed) = neighbour.attack(&all)?;
    ensure!(delivered > 0, "the attack itself does not work");
    let forwards = rp_filter == "0" || accept_local == "1";
    ensure!((passed > 0) == forwards, "without the rules {passed} frames from 127.0.0.0/8 pass");
    Ok(())
}

/// The chain of masquerade drops packets of no connection, and another one does when it goes.
fn shared(room: &Room) -> Result<()> {
    let masqueraded = room.container("c0")?;
    let bridge = masquerade();
    room.attach("bridge", "ADD", &masqueraded).config(&bridge).run()?.result()?;
    let neighbour = Neighbour::new(room)?;
    for key in ["all/rp_filter", "br0/rp_filter"] {
        set(key, "0")?;
    }
    let (container, config) = published(room, "c1", one(8080))?;
    watch()?;
    nft("add chain ip watch raw { type filter hook prerouting priority -310; }")?;
    nft(&format!("add rule ip watch raw iifname br0 tcp dport {} notrack", 7000 + u16::from(RST)))?;
    let ends = [("127.0.0.2".parse()?, HOST[0].parse()?), ("127.0.0.2".parse()?, "10.99.0.1".parse()?)];
    ip::script(None, "addr add 10.99.0.2/24 dev br0")?;
    let has_chain = || -> Result<bool> { Ok(ruleset()?.to_string().contains("published-leaving")) };
    ensure!(!has_chain()?, "two chains examine what passes");
    ensure!(neighbour.attack(&ends)? == (0, 0), "frames from 127.0.0.0/8 pass beside masquerade");
    room.attach("bridge", "DEL", &masqueraded).config(&bridge).run()?.silent()?;
    ensure!(has_chain()?, "no chain examines what passes");
    ensure!(neighbour.attack(&ends)? == (0, 0), "frames from 127.0.0.0/8 pass after masquerade");
    let check = room.attach("portmap", "CHECK", &container).config(&config).run()?;
    check.silent()?;
    ensure!(check.stderr.is_empty(), "CHECK prints {:?}", check.stderr);
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(!ruleset()?.to_string().contains("moor"), "DEL leaves {}", ruleset()?);
    Ok(())
}

fn accept_local(room: &Room) -> Result<()> {
    let neighbour = Neighbour::new(room)?;
    set("br0/rp_filter", "2")?;
    let (container, config) = published(room, "c1", one(8080))?;
    watch()?;
    set("all/accept_local", "1")?;
    let check = room.attach("portmap", "CHECK", &container).config(&config).run()?;
    harness::stage::reapply::mended(&check, "published-leaving")?;
    let ends = [("127.0.0.2".parse()?, OUTSIDE[0].parse()?)];
    let came = neighbour.attack(&ends)?;
    ensure!(came == (0, 0), "of a neighbour's frames {came:?} were delivered and passed");
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(!ruleset()?.to_string().contains("moor"), "DEL leaves {}", ruleset()?);
    Ok(())
}

/// Packets with the addresses and ports of the host's own connection.
fn joined(room: &Room) -> Result<()> {
    let neighbour = Neighbour::new(room)?;
    for key in ["all/rp_filter", "br0/rp_filter"] {
        set(key, "0")?;
    }
    set("br0/accept_local", "1")?;
    published(room, "c1", one(8080))?;
    serve(room, "c1", 80)?;
    let local = TcpListener::bind("127.0.0.1:7000")?;
    watch()?;
    let connect = |port: u16| -> Result<TcpStream> {
        let at = SocketAddr::new("127.0.0.1".parse()?, port);
        TcpStream::connect_timeout(&at, patience()).with_context(|| format!("connect to {at}"))
    };
    for port in [7000, 8080] {
        let client = connect(port)?;
        let (one, other) = (client.local_addr()?, client.peer_addr()?);
        for [from, to] in [[one, other], [other, one]] {
            nft(&format!(
                "add rule ip watch b iifname br0 ip daddr 127.0.0.1 tcp sport {} counter",
                from.port()
            ))?;
            let before = ip::output("nft", &["list", "table", "ip", "watch"])?;
            let ends = [(from.ip(), from.port()), (to.ip(), to.port())];
            for _ in 0..3 {
                neighbour.wire.send(&frame::tcp(neighbour.gateway, neighbour.wire.mac, ends, ACK))?;
            }
            neighbour.attack(&[])?;
            std::thread::sleep(Duration::from_millis(50));
            let after = ip::output("nft", &["list", "table", "ip", "watch"])?;
            ensure!(before == after, "packets from {from} to {to} of a neighbour arrive: {after}");
        }
    }
    drop(local);
    Ok(())
}

/// A neighbour connects while the rules are flushed: to a service of the host's loopback, and
/// through another's redirection of such an address to a container.
fn gap(room: &Room) -> Result<()> {
    published(room, "c1", one(8080))?;
    let (_, echo) = bridged(room, "echo")?;
    bridged(room, "evil")?;
    let to = echo["ips"][0]["address"].as_str().and_then(|text| text.split('/').next()).unwrap_or_default();
    let (secret, inner) = (
        TcpListener::bind("127.0.0.1:7000")?,
        room.inside("echo", || Ok(TcpListener::bind("0.0.0.0:7001")?))?,
    );
    for listener in [secret, inner] {
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
                });
            }
        });
    }
    room.inside("evil", || set("eth0/route_localnet", "1"))?;
    ip::script(Some("evil"), "route add 127.0.0.0/8 via 10.1.2.1 dev eth0")?;
    nft("delete table inet moor")?;
    nft("add table ip other; add chain ip other to { type nat hook prerouting priority -100; }; \
         add chain ip other back { type nat hook postrouting priority 100; }")?;
    nft(&format!("add rule ip other to ip daddr 127.0.0.9 tcp dport 7001 dnat to {to}"))?;
    nft("add rule ip other back ct status dnat masquerade")?;
    let connect = |at: &str| -> Result<TcpStream> {
        let at: SocketAddr = at.parse()?;
        room.inside("evil", || {
            let stream =
                TcpStream::connect_timeout(&at, patience()).with_context(|| format!("connect to {at}"))?;
            stream.set_read_timeout(Some(Duration::from_millis(700)))?;
            Ok(stream)
        })
    };
    let mut streams = [connect("127.0.0.1:7000")?, connect("127.0.0.9:7001")?];
    let mut byte = [1];
    for stream in &mut streams {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte).context("the attack itself does not work")?;
    }
    reapply(room, "portmap")?;
    for (stream, at) in streams.iter_mut().zip(["the host's loopback", "a redirected address"]) {
        stream.write_all(&byte).ok();
        ensure!(stream.read_exact(&mut byte).is_err(), "a neighbour keeps its connection to {at}");
    }
    Ok(())
}

/// The kernel enters filter chains for every packet, and nat chains for the first of a connection.
fn no_rule(room: &Room) -> Result<()> {
    set("all/rp_filter", "2")?;
    published(room, "c1", one(8080))?;
    let rules = ruleset()?;
    let chains = rules["nftables"].as_array().into_iter().flatten().filter_map(|row| row.get("chain"));
    let mut bases: Vec<_> = chains
        .filter(|chain| chain["table"] == "moor" && chain["type"] == "filter")
        .map(|chain| format!("{} {}", chain["hook"], chain["name"]))
        .collect();
    bases.sort();
    ensure!(bases == ["\"input\" \"published-input\""], "every packet enters {bases:?}");
    Ok(())
}

/// As administrators lead a metadata address of containers to a service of the host.
fn redirection(room: &Room) -> Result<()> {
    published(room, "c1", one(8080))?;
    bridged(room, "c2")?;
    let service = TcpListener::bind("127.0.0.1:7000")?;
    std::thread::spawn(move || {
        service.incoming().flatten().for_each(|mut stream| drop(stream.write_all(b"metadata")));
    });
    nft("add table ip admin; add chain ip admin to { type nat hook prerouting priority -100; }")?;
    nft("add rule ip admin to ip daddr 169.254.169.254 tcp dport 80 dnat to 127.0.0.1:7000")?;
    expect(room, Some("c2"), "169.254.169.254", 80, "metadata")?;
    serve(room, "c1", 80)?;
    expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")
}

/// On links without `route_localnet` the kernel drops such packets only after their translation.
fn wire(room: &Room) -> Result<()> {
    room.outside(&[])?;
    published(
        room,
        "c1",
        json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}]),
    )?;
    serve(room, "c1", 80)?;
    expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")?;
    let (wire, listener) = (room.wire(Some("outside"), "eth0")?, room.wire(Some("c1"), "eth0")?);
    let host = mac_of(None, "wan0")?;
    let attack = || -> Result<bool> {
        let ends = [(OUTSIDE[0].parse()?, MARK), ("127.0.0.1".parse()?, 8080)];
        wire.send(&frame::tcp(host, wire.mac, ends, SYN))?;
        let is_it = |bytes: &[u8]| bytes.get(34..36) == Some(&MARK.to_be_bytes());
        Ok(listener.receive(Duration::from_millis(700), is_it)?.is_some())
    };
    ensure!(!attack()?, "a port of 127.0.0.1 is reached by a frame from the LAN");
    nft("flush chain inet moor published-prerouting")?;
    nft("add rule inet moor published-prerouting fib daddr type local jump published")?;
    ensure!(attack()?, "the attack itself does not work");
    Ok(())
}
