//! `fastPath`, checked with packets and counters.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::namespace::{Container, OUTSIDE};
use harness::need::{Need, kernel_version};
use harness::room::Room;
use harness::snapshot;
use harness::socket::patience;
use harness::stage::portmap::{
    HOST, address, answer, exchange as exchange_datagrams, expect_clients_of, portmap, udp_client,
};
use harness::stage::reapply::{call, forget_records, mended, reapply, records, rules};
use serde_json::{Value, json};

use crate::masquerade::{masquerade, nft};

pub const CASES: &[Case] = &[
    Case::new("fast_path/established_connections_bypass_the_rules", &["FP-1", "FP-8"], bypass)
        .needs(&[Need::Flowtables]),
    Case::new("fast_path/a_dropped_connection_stays_dropped", &["FP-2"], dropped).needs(&[Need::Flowtables]),
    Case::new("fast_path/del_takes_its_own_and_the_last_one_all", &["FP-3"], del).needs(&[Need::Flowtables]),
    Case::new("fast_path/udp_clients_follow_a_container_that_moves", &["FP-9", "PM-R13"], moved)
        .needs(&[Need::Flowtables]),
    Case::new("fast_path/check_and_reapply_make_it_again", &["FP-4"], check).needs(&[Need::Flowtables]),
    Case::new("fast_path/gc_takes_what_is_not_valid", &["FP-5"], gc).needs(&[Need::Flowtables]),
    Case::new("fast_path/a_kernel_without_flowtables_refuses", &["FP-6"], refused),
    Case::new("fast_path/rules_load_again", &["FP-7", "C-043"], saved).needs(&[Need::Flowtables]),
];

const ROUNDS: u64 = 50;
/// Packets of a connection's begin and end, and those before it enters the flowtable.
const FEW: u64 = 20;

/// A container with masquerade and a published port.
struct Attached {
    container: Container,
    bridge: Value,
    portmap: Value,
}

impl Attached {
    fn new(room: &Room, id: &str, port: u16, fast: bool) -> Result<Self> {
        let container = room.container(id)?;
        let keys = json!({"fastPath": fast, "cniVersion": "1.1.0"});
        let bridge = with(&masquerade(), keys.clone());
        let result = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
        let mappings = json!([
            {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": port, "containerPort": 53, "protocol": "udp"},
        ]);
        let portmap = with(&portmap(mappings, &result), keys);
        room.attach("portmap", "ADD", &container).config(&portmap).run()?.result()?;
        let bridge = with(&bridge, json!({"prevResult": result}));
        Ok(Self { container, bridge, portmap })
    }

    fn both(&self, room: &Room, verb: &str) -> Result<()> {
        for (plugin, config) in [("portmap", &self.portmap), ("bridge", &self.bridge)] {
            let answer = room.attach(plugin, verb, &self.container).config(config).run()?;
            answer.silent().with_context(|| format!("{verb} of {plugin}"))?;
            ensure!(answer.stderr.is_empty(), "{verb} of {plugin} prints {:?}", answer.stderr);
        }
        Ok(())
    }
}

/// The outside, with the host's default routes to it.
fn outside(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::run(&["route", "add", "default", "via", OUTSIDE[0]])?;
    // Before one that a router advertises.
    ip::run(&["-6", "route", "add", "default", "via", OUTSIDE[1], "metric", "512"])
}

/// Sends back what comes to a port of a namespace.
fn echo(room: &Room, ns: &str, port: u16) -> Result<()> {
    let listener = room.inside(ns, || Ok(TcpListener::bind(("::", port))?))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
    Ok(())
}

fn connect(room: &Room, from: &str, to: &str, port: u16) -> Result<TcpStream> {
    let at = SocketAddr::new(to.parse()?, port);
    room.inside(from, || {
        let stream =
            TcpStream::connect_timeout(&at, patience()).with_context(|| format!("connect to {at}"))?;
        stream.set_read_timeout(Some(patience()))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

fn exchange(stream: &mut TcpStream) -> Result<()> {
    for _ in 0..ROUNDS {
        stream.write_all(b"?")?;
        stream.read_exact(&mut [0]).context("no answer")?;
    }
    Ok(())
}

/// The number of packets that passed the chain of the watch.
fn passed() -> Result<u64> {
    let list = ip::output("nft", &["list", "chain", "inet", "watch", "forward"])?;
    let mut words = list.split_whitespace();
    words.find(|word| *word == "packets");
    words.next().and_then(|word| word.parse().ok()).context("no counter")
}

fn watch() -> Result<()> {
    nft("add table inet watch; add chain inet watch forward { type filter hook forward priority 0; }; \
         add rule inet watch forward meta l4proto tcp counter")
}

fn bypass(room: &Room) -> Result<()> {
    outside(room)?;
    watch()?;
    // Before, only packets towards the port of a bridge bypass it.
    let most = if kernel_version()? >= (5, 13) { FEW } else { ROUNDS + FEW };
    echo(room, "outside", 9000)?;
    for (id, port, fast) in [("c1", 8081, false), ("c2", 8082, true)] {
        Attached::new(room, id, port, fast)?.both(room, "CHECK")?;
        echo(room, id, 80)?;
        for index in [0, 1] {
            for (from, to, port) in [("outside", HOST[index], port), (id, OUTSIDE[index], 9000)] {
                let mut stream = connect(room, from, to, port)?;
                let before = passed()?;
                exchange(&mut stream)?;
                let packets = passed()? - before;
                ensure!(
                    if fast { packets <= most } else { packets >= 2 * ROUNDS },
                    "from {from} to {to} port {port}, fastPath {fast}: {packets} packets pass the rules"
                );
                if fast && let Ok(flows) = std::fs::read_to_string("/proc/net/nf_conntrack") {
                    let ports = format!("sport={} dport={port} ", stream.local_addr()?.port());
                    let is_it = |flow: &str| flow.contains(&ports) && flow.contains("[OFFLOAD]");
                    ensure!(flows.lines().any(is_it), "{ports} is not offloaded: {flows}");
                }
            }
        }
    }
    Ok(())
}

/// An administrator's chain that lets a connection begin, and drops its other packets.
fn dropped(room: &Room) -> Result<()> {
    outside(room)?;
    let one = Attached::new(room, "c1", 8080, true)?;
    answer(room, "c1", &address(&one.portmap, false))?;
    let ask = || -> Result<bool> {
        let socket = room.inside("outside", || Ok(UdpSocket::bind("0.0.0.0:0")?))?;
        socket.connect((HOST[0], 8080))?;
        socket.set_read_timeout(Some(Duration::from_millis(400)))?;
        let mut is_answered = false;
        for _ in 0..5 {
            socket.send(b"?")?;
            is_answered |= socket.recv(&mut [0; 100]).is_ok();
        }
        Ok(is_answered)
    };
    ensure!(ask()?, "the container is not reached");
    nft("add table inet watch; add chain inet watch forward { type filter hook forward priority 10; }; \
         add rule inet watch forward meta l4proto udp ct state established drop")?;
    ensure!(!ask()?, "what an administrator's chain drops arrives");
    Ok(())
}

/// Clients that have a flow in the flowtable.
fn moved(room: &Room) -> Result<()> {
    outside(room)?;
    let one = Attached::new(room, "c1", 8080, true)?;
    let clients = [udp_client(room, 0, 8080)?, udp_client(room, 1, 8080)?];
    expect_clients_of(room, &clients, "c1", &one.portmap)?;
    for socket in clients.iter().cycle().take(10) {
        exchange_datagrams(socket)?;
    }
    one.both(room, "DEL")?;
    // The next address, so that the flow's destination is wrong.
    let two = Attached::new(room, "c2", 8080, true)?;
    expect_clients_of(room, &clients, "c2", &two.portmap)
}

/// The words of the flowtable's listing.
fn devices() -> Result<String> {
    ip::output("nft", &["list", "flowtables"])
}

fn links_of(attached: &Attached) -> String {
    attached.portmap["prevResult"]["interfaces"][1]["name"].as_str().unwrap_or_default().to_owned()
}

fn del(room: &Room) -> Result<()> {
    outside(room)?;
    let before = room.snapshot()?;
    let (one, two) = (Attached::new(room, "c1", 8081, true)?, Attached::new(room, "c2", 8082, true)?);
    for link in ["wan0".to_owned(), links_of(&one), links_of(&two)] {
        ensure!(devices()?.contains(&link), "{link} is not in the flowtable: {}", devices()?);
    }
    room.attach("portmap", "DEL", &one.container).config(&one.portmap).run()?.silent()?;
    ensure!(!devices()?.contains(&links_of(&one)), "DEL leaves its link: {}", devices()?);
    ensure!(devices()?.contains(&links_of(&two)), "DEL takes another's link: {}", devices()?);
    room.attach("bridge", "DEL", &one.container).config(&one.bridge).run()?.silent()?;
    two.both(room, "CHECK")?;
    let listed = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!listed.contains("/c1\""), "DEL leaves elements: {listed}");
    // Without a namespace, the kernel takes the link.
    room.remove(&two.container)?;
    two.both(room, "DEL")?;
    ensure!(records()?.is_empty(), "records are left: {:?}", records()?);
    let left = snapshot::rules()?;
    ensure!(left.is_empty(), "DEL leaves {}", harness::diff::shown(&left));
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

fn check(room: &Room) -> Result<()> {
    outside(room)?;
    let one = Attached::new(room, "c1", 8080, true)?;
    let other = Attached::new(room, "c2", 8081, true)?;
    let before = rules()?;
    let veth = links_of(&one);
    let verb = |verb: &str| room.attach("portmap", verb, &one.container).config(&one.portmap).run();
    let link =
        format!("delete flowtable inet moor fastpath {{ hook ingress priority 0; devices = {{ {veth} }}; }}");
    for (change, named) in [
        ("flush ruleset", "fastpath"),
        ("flush chain inet moor fastpath", "chain inet moor fastpath"),
        ("flush set inet moor fastpath4", "fastpath4"),
        ("flush set inet moor fastpath-links", "fastpath-links"),
        (link.as_str(), veth.as_str()),
    ] {
        nft(change)?;
        mended(&verb("CHECK")?, named).with_context(|| format!("after {change}"))?;
        let changes = harness::diff::lines(&before, &rules()?);
        ensure!(changes.is_empty(), "after {change} and CHECK: {}", harness::diff::shown(&changes));
        nft(change)?;
        reapply(room, "bridge")?;
        let changes = harness::diff::lines(&before, &rules()?);
        ensure!(changes.is_empty(), "after {change} and reapply: {}", harness::diff::shown(&changes));
    }
    let generation = || ip::output("nft", &["-a", "list", "ruleset"]);
    let listed = generation()?;
    call(room, "portmap").run()?.silent()?;
    ensure!(generation()? == listed, "a reapply with all rules present changed them");
    // The link of a container that is gone cannot be in the flowtable.
    room.remove(&other.container)?;
    nft("flush ruleset")?;
    reapply(room, "portmap")?;
    one.both(room, "CHECK")?;
    forget_records()?;
    nft("flush set inet moor fastpath6")?;
    let error = verb("CHECK")?.error()?;
    ensure!(error.msg.contains("fastpath6"), "CHECK reports {error}");
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    outside(room)?;
    let (one, two) = (Attached::new(room, "c1", 8081, true)?, Attached::new(room, "c2", 8082, true)?);
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]});
    for (plugin, config) in [("portmap", &two.portmap), ("bridge", &two.bridge)] {
        room.call(plugin, "GC").config(&with(config, valid.clone())).run()?.silent()?;
    }
    ensure!(!devices()?.contains(&links_of(&one)), "GC leaves a link: {}", devices()?);
    let listed = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!listed.contains("/c1\""), "GC leaves elements: {listed}");
    two.both(room, "CHECK")
}

fn refused(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let bridge = with(&masquerade(), json!({"fastPath": true}));
    let there = Need::Flowtables.probe(&room.suite, &room.reference).is_ok();
    if there {
        nft("delete table inet probe")?;
    }
    let status = room.call("bridge", "STATUS").config(&bridge).run()?;
    let add = room.attach("bridge", "ADD", &container).config(&bridge).run()?;
    if there {
        status.silent()?;
        return add.result().map(drop);
    }
    status.error_with(50, "nf_flow_table")?;
    add.error_with(999, "nf_flow_table")?;
    room.ensure_nothing_left(&before, &["c1"])?;
    let result = room.attach("bridge", "ADD", &container).config(&masquerade()).run()?.result()?;
    let before = room.snapshot()?;
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let portmap = with(&portmap(mappings, &result), json!({"fastPath": true, "cniVersion": "1.1.0"}));
    room.call("portmap", "STATUS").config(&portmap).run()?.error_with(50, "nf_flow_table")?;
    room.attach("portmap", "ADD", &container).config(&portmap).run()?.error_with(999, "nf_flow_table")?;
    room.ensure_unchanged(&before, "the refused ADD")
}

fn saved(room: &Room) -> Result<()> {
    outside(room)?;
    let one = Attached::new(room, "c1", 8080, true)?;
    room.save_and_load_rules()?;
    one.both(room, "CHECK")?;
    one.both(room, "DEL")?;
    let left = snapshot::rules()?;
    ensure!(left.is_empty(), "DEL leaves {}", harness::diff::shown(&left));
    Ok(())
}
