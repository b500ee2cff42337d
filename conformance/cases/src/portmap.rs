//! portmap, checked with packets.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::need::Need;
use harness::room::Room;
use harness::socket::patience;
use harness::stage::portmap::{
    HOST, address, answer, ask, bridged, exchange, expect, expect_clients_of, portmap, published, ruleset,
    serve, udp_client,
};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("portmap/a_published_port_is_reachable_from_everywhere", &["PM-K2", "PM-6"], |room| {
        everywhere(room, false)
    }),
    Case::new("portmap/a_published_port_is_reachable_from_everywhere_with_br_netfilter", &["PM-6"], |room| {
        everywhere(room, true)
    })
    .needs(&[Need::BrNetfilter]),
    Case::new("portmap/a_port_on_one_address_is_published_only_there", &["PM-K3"], specific),
    Case::new("portmap/transit_traffic_is_not_redirected", &["PM-B4"], transit),
    Case::new("portmap/neighbours_do_not_reach_the_hosts_loopback", &["PM-B3"], loopback),
    Case::new("portmap/snat_and_masq_all", &["PM-K5", "PM-K6"], snat),
    Case::new("portmap/twenty_thousand_ports_need_few_elements", &["PM-R5"], range),
    Case::new("portmap/udp_clients_follow_a_container_that_moves", &["PM-3"], udp),
];

/// With br_netfilter, packets between two ports of a bridge also pass the host's rules, and
/// neighbours need no masquerade.
fn everywhere(room: &Room, br_netfilter: bool) -> Result<()> {
    for family in ["ip", "ip6"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
        // A host without this parameter has no br_netfilter.
        if br_netfilter || Path::new(&path).exists() {
            fs::write(&path, if br_netfilter { "1" } else { "0" })
                .with_context(|| format!("write {path}"))?;
        }
    }
    room.outside(&[])?;
    let mappings = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    let (container, config) = published(room, "c1", mappings)?;
    let bridge_config = with(&bridge(USUAL), json!({"prevResult": config["prevResult"]}));
    room.attach("bridge", "CHECK", &container).config(&bridge_config).run()?.silent()?;
    bridged(room, "sibling")?;
    serve(room, "c1", 80)?;
    for (index, gateway) in ["10.1.2.1", "2001:db8:1::1"].into_iter().enumerate() {
        let own = address(&config, index == 1);
        // The client's own address, from the outside and from the host; the host's address, where
        // the reply would not return otherwise.
        expect(room, Some("outside"), HOST[index], 8080, &format!("c1:80 {}", OUTSIDE[index]))?;
        expect(room, None, HOST[index], 8080, &format!("c1:80 {}", HOST[index]))?;
        expect(room, None, gateway, 8080, &format!("c1:80 {gateway}"))?;
        let sibling = if br_netfilter { sibling_address(index) } else { gateway };
        for to in [HOST[index], gateway] {
            expect(room, Some("sibling"), to, 8080, &format!("c1:80 {sibling}"))?;
            expect(room, Some("c1"), to, 8080, &format!("c1:80 {gateway}"))?;
        }
        expect(room, Some("sibling"), &own, 80, &format!("c1:80 {}", sibling_address(index)))?;
    }
    expect(room, None, "127.0.0.1", 8080, "c1:80 10.1.2.1")?;
    expect(room, None, "127.1.2.3", 8080, "c1:80 10.1.2.1")?;
    // The kernel cannot redirect ::1: refused at once, so that a client falls back to 127.0.0.1.
    let refused = TcpStream::connect_timeout(&SocketAddr::new("::1".parse()?, 8080), patience());
    ensure!(
        refused.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused),
        "::1 answered {refused:?}"
    );
    Ok(())
}

fn sibling_address(index: usize) -> &'static str {
    ["10.1.2.3", "2001:db8:1::3"][index]
}

fn specific(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80, "hostIP": HOST[0]},
        {"hostPort": 8081, "containerPort": 80, "protocol": "TCP", "hostIP": "127.0.0.1"},
        {"hostPort": 8082, "containerPort": 80, "protocol": "", "hostIP": "::"},
        {"HostPort": 8083, "ContainerPort": 80, "Protocol": "Tcp", "HostIP": "0.0.0.0"},
    ]);
    published(room, "c1", mappings)?;
    serve(room, "c1", 80)?;
    let outside = |index: usize| format!("c1:80 {}", OUTSIDE[index]);
    expect(room, Some("outside"), HOST[0], 8080, &outside(0))?;
    expect(room, None, "127.0.0.1", 8081, "c1:80 10.1.2.1")?;
    expect(room, Some("outside"), HOST[1], 8082, &outside(1))?;
    expect(room, Some("outside"), HOST[0], 8083, &outside(0))?;
    for (from, to, port) in [
        (None, "127.0.0.1", 8080),
        (None, "10.1.2.1", 8080),
        (Some("outside"), HOST[1], 8080),
        (Some("outside"), HOST[0], 8081),
        (Some("outside"), HOST[0], 8082),
        (Some("outside"), HOST[1], 8083),
    ] {
        ensure!(ask(room, from, to, port).is_err(), "{to} port {port} is published as well");
    }
    Ok(())
}

/// The container's ports are published on a host that is the router of another machine with the
/// same ports.
fn transit(room: &Room) -> Result<()> {
    room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
    let all = |port: u16| json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
    let range = json!({"hostPort": 9000, "hostPortEnd": 9999, "containerPort": 9000});
    published(room, "c1", json!([all(8080), all(53), range]))?;
    let (_, machine) = bridged(room, "machine")?;
    let machine = json!({"prevResult": machine});
    for port in [8080, 53, 9053] {
        serve(room, "machine", port)?;
    }
    serve(room, "c1", 80)?;
    serve(room, "c1", 9053)?;
    for (index, gateway) in ["10.1.2.1", "2001:db8:1::1"].into_iter().enumerate() {
        let to = address(&machine, index == 1);
        for port in [8080, 53, 9053] {
            expect(room, Some("outside"), &to, port, &format!("machine:{port} {}", OUTSIDE[index]))?;
            expect(room, None, &to, port, &format!("machine:{port} {gateway}"))?;
        }
        // From a container to another machine outside.
        expect(room, Some("outside"), HOST[index], 8080, &format!("c1:80 {}", OUTSIDE[index]))?;
        expect(room, Some("outside"), HOST[index], 9053, &format!("c1:9053 {}", OUTSIDE[index]))?;
    }
    serve(room, "outside", 8080)?;
    expect(room, Some("c1"), OUTSIDE[0], 8080, &format!("outside:8080 {}", "10.1.2.2"))?;
    expect(room, None, OUTSIDE[0], 8080, &format!("outside:8080 {}", HOST[0]))
}

fn loopback(room: &Room) -> Result<()> {
    published(room, "c1", json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]))?;
    bridged(room, "evil")?;
    ensure!(room.host_sysctl("net/ipv4/conf/br0/route_localnet")? == "1", "localhost needs route_localnet");
    ensure!(room.host_sysctl("net/ipv4/conf/all/route_localnet")? == "0", "every link has route_localnet");
    // A service that listens on the host's loopback only; the neighbour sends packets to it that
    // must not arrive.
    let secret = TcpListener::bind("127.0.0.1:7000")?;
    std::thread::spawn(move || secret.incoming().flatten().for_each(|mut s| drop(s.write_all(b"secret"))));
    room.inside("evil", || {
        fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1")?;
        Ok(())
    })?;
    ip::script(
        Some("evil"),
        // Its own loopback is down, so that it can route 127.0.0.0/8 to the host.
        "route add 127.0.0.0/8 via 10.1.2.1 dev eth0 src 10.1.2.3",
    )?;
    ensure!(ask(room, Some("evil"), "127.0.0.1", 7000).is_err(), "a neighbour reached the host's loopback");
    // Without the rules the neighbour reaches the service, so the attack itself works.
    for chain in ["published-new", "published-input"] {
        ip::output("nft", &["flush", "chain", "inet", "moor", chain])?;
    }
    let reply = ask(room, Some("evil"), "127.0.0.1", 7000).context("the attack itself does not work")?;
    ensure!(reply == "secret", "{reply}");
    Ok(())
}

fn snat(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mapping = |port: u16| json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
    let add = |id: &str, port: u16, keys: Value| -> Result<()> {
        let (container, previous) = bridged(room, id)?;
        let config = with(&portmap(mapping(port), &previous), keys);
        room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
        let check = room.attach("portmap", "CHECK", &container).config(&config).run()?;
        check.silent()?;
        serve(room, id, 80)
    };
    add("plain", 8081, json!({"snat": false, "markMasqBit": 7}))?;
    ensure!(
        room.host_sysctl("net/ipv4/conf/br0/route_localnet")? == "0",
        "snat: false needs no route_localnet"
    );
    add("all", 8082, json!({"masqAll": true}))?;
    add("usual", 8083, json!({"backend": "nftables"}))?;
    let gateways = ["10.1.2.1", "2001:db8:1::1"];
    for (index, gateway) in gateways.into_iter().enumerate() {
        let outside = |port, who: &str| expect(room, Some("outside"), HOST[index], port, who);
        outside(8081, &format!("plain:80 {}", OUTSIDE[index]))?;
        outside(8082, &format!("all:80 {gateway}"))?;
        outside(8083, &format!("usual:80 {}", OUTSIDE[index]))?;
        ensure!(ask(room, Some("plain"), HOST[index], 8081).is_err(), "snat: false has hairpin");
    }
    expect(room, None, "127.0.0.1", 8082, "all:80 10.1.2.1")
}

fn range(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let elements = || -> Result<usize> {
        let rules = ruleset()?;
        let maps = rules["nftables"].as_array().into_iter().flatten().filter_map(|row| row.get("map"));
        let ports =
            maps.filter(|map| ["ports", "range"].iter().any(|name| map["name"].to_string().contains(name)));
        Ok(ports.filter_map(|map| map["elem"].as_array()).map(Vec::len).sum())
    };
    // The location of the port numbers; nft's language cannot map a range, so each mapped port is
    // one element.
    let v4 = |to: u16| json!([{"hostPort": 20_000, "hostPortEnd": 39_999, "containerPort": to, "hostIP": "0.0.0.0"}]);
    let (container, config) = published(room, "c1", v4(20_000))?;
    let count = elements()?;
    ensure!(count <= 4, "20,000 ports are {count} elements");
    room.attach("portmap", "CHECK", &container).config(&config).run()?.silent()?;
    let config = with(&config, json!({"runtimeConfig": {"portMappings": v4(30_000)}}));
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    room.attach("portmap", "CHECK", &container).config(&config).run()?.silent()?;
    for port in [20_000, 27_777, 39_999] {
        serve(room, "c1", port + 10_000)?;
        expect(room, Some("outside"), HOST[0], port, &format!("c1:{} {}", port + 10_000, OUTSIDE[0]))?;
    }
    for port in [19_999, 40_000] {
        ensure!(ask(room, Some("outside"), HOST[0], port).is_err(), "port {port} is published as well");
    }
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    // The same, port by port.
    let each: Vec<Value> = (20_000..40_000)
        .map(|port| json!({"hostPort": port, "containerPort": port, "protocol": "tcp"}))
        .collect();
    let config = with(&config, json!({"runtimeConfig": {"portMappings": each}}));
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    let count = elements()?;
    ensure!(count <= 8, "20,000 ports of two families are {count} elements");
    serve(room, "c1", 33_333)?;
    expect(room, Some("outside"), HOST[1], 33_333, &format!("c1:33333 {}", OUTSIDE[1]))?;
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()
}

fn udp(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mappings = json!([{"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]);
    let other = json!([{"hostPort": 5454, "containerPort": 53, "protocol": "udp"}]);
    let (first, config) = published(room, "c1", mappings.clone())?;
    let (_, staying) = published(room, "c2", other)?;
    for (index, ids) in [["c1", "c2"], ["c1", "c2"]].into_iter().enumerate() {
        for (id, config) in ids.into_iter().zip([&config, &staying]) {
            answer(room, id, &address(config, index == 1))?;
        }
    }
    let clients = [udp_client(room, 0, 5353)?, udp_client(room, 1, 5353)?];
    let unrelated = udp_client(room, 0, 5454)?;
    for socket in clients.iter().chain([&unrelated]) {
        exchange(socket)?;
    }
    // Another container replaces the first, at other addresses; the clients keep their ports.
    room.attach("portmap", "DEL", &first).config(&config).run()?.silent()?;
    let flows = ip::output("cat", &["/proc/net/nf_conntrack"]).unwrap_or_default();
    ensure!(!flows.contains("dport=5353"), "DEL leaves flows to the container: {flows}");
    let (_, moved) = published(room, "c3", mappings)?;
    expect_clients_of(room, &clients, "c3", &moved)?;
    ensure!(exchange(&unrelated)?.starts_with("c2 "), "an unrelated flow was cut off");
    Ok(())
}
