//! Rules and packets: an outside, a host and a container, each in its own network namespace.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;
use std::{fs, process};

use nft::conntrack::{Flows, Replies};
use nft::{
    Base, Batch, Chain, Data, Element, Family, Field, Hook, IPV4, IPV6, Kind, LOCAL, Nft, Policy, Rule, Set,
    Table, Type, Value, Verdict,
};
use sys::testing::{another_network, run};
use sys::{NetNs, network_test};

const TABLE: Table<'_> = Table { family: Family::Inet, name: "moor" };
const PUBLISH: Chain<'_> = Chain { table: TABLE, name: "publish" };
const POSTROUTING: Chain<'_> = Chain { table: TABLE, name: "postrouting" };
const NAT: Base = Base { kind: Kind::Nat, hook: Hook::Prerouting, priority: -90, policy: Policy::Accept };
const PORTS4: Set<'_> = Set {
    table: TABLE,
    name: "ports4",
    key: &[Type::Proto, Type::Port],
    data: Data::Value(&[Type::Ipv4, Type::Port]),
    interval: false,
};
const ADDR_PORTS4: Set<'_> =
    Set { name: "addr-ports4", key: &[Type::Ipv4, Type::Proto, Type::Port], ..PORTS4 };
const PORTS6: Set<'_> = Set { name: "ports6", data: Data::Value(&[Type::Ipv6, Type::Port]), ..PORTS4 };
const SAME_PORTS4: Set<'_> =
    Set { name: "same-ports4", data: Data::Value(&[Type::Ipv4]), interval: true, ..PORTS4 };
const MASQ4: Set<'_> =
    Set { table: TABLE, name: "masq4", key: &[Type::Ipv4], data: Data::Verdict, interval: false };
const L4: [Field; 2] = [Field::L4PROTO, Field::DPORT];

const HOST: &str = "192.0.2.1";
const CLIENT: &str = "192.0.2.2";
const CONTAINER: &str = "10.9.1.2";
const OWNER: &str = "moor/net/eth0/c1";

struct World {
    outside: NetNs,
    container: NetNs,
    nft: Nft,
}

/// The path of a namespace for `ip`.
fn path(netns: &NetNs) -> String {
    format!("/proc/{}/fd/{}", process::id(), netns.as_fd().as_raw_fd())
}

fn world() -> World {
    let [outside, container] = [another_network(), another_network()];
    for (link, netns, v4, v6) in
        [("out0", &outside, "192.0.2", "2001:db8::"), ("con0", &container, "10.9.1", "fd00:9::")]
    {
        run(&format!("ip link add {link} type veth peer name eth0 netns {}", path(netns)));
        run(&format!("ip address add {v4}.1/24 dev {link}"));
        run(&format!("ip address add {v6}1/64 dev {link} nodad"));
        run(&format!("ip link set {link} up"));
        netns
            .enter(|| {
                run("ip link set lo up");
                run(&format!("ip address add {v4}.2/24 dev eth0"));
                run(&format!("ip address add {v6}2/64 dev eth0 nodad"));
                run("ip link set eth0 up");
                run(&format!("ip route add default via {v4}.1"));
                run(&format!("ip -6 route add default via {v6}1"));
            })
            .unwrap();
    }
    run("ip link set lo up");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    World { outside, container, nft: Nft::open().unwrap() }
}

fn commit(nft: &Nft, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    nft.commit(batch).unwrap_or_else(|error| panic!("{error:#}"));
}

/// Published ports, looked up only for packets to this host, both incoming and locally generated.
fn publishing(batch: &mut Batch) {
    batch.add_table(&TABLE, None);
    for set in [PORTS4, ADDR_PORTS4, PORTS6, SAME_PORTS4] {
        batch.add_set(&set, None);
    }
    batch.add_chain(&PUBLISH, None, None);
    for (name, hook) in [("prerouting", Hook::Prerouting), ("output", Hook::Output)] {
        let chain = Chain { name, ..PUBLISH };
        batch.add_chain(&chain, Some(&Base { hook, ..NAT }), None);
        let local = Rule::new().is(Field::FibDaddrType, Value::new().mark(LOCAL));
        batch.add_rule(&chain, &local.verdict(Verdict::Jump("publish".into())));
    }
    for rule in [
        Rule::new().nfproto(IPV4).dnat_map(&[Field::IP_DADDR, Field::L4PROTO, Field::DPORT], &ADDR_PORTS4),
        Rule::new().nfproto(IPV4).dnat_map(&L4, &PORTS4),
        Rule::new().nfproto(IPV4).dnat_map(&L4, &SAME_PORTS4),
        Rule::new().nfproto(IPV6).dnat_map(&L4, &PORTS6),
    ] {
        batch.add_rule(&PUBLISH, &rule);
    }
}

fn tcp(port: u16) -> Value {
    Value::new().proto(6).port(port)
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(ip: &str, port: u16) -> SocketAddr {
    (addr(ip), port).into()
}

/// Listens in a namespace and answers a client with the port and the client's address.
fn serve(netns: &NetNs, listen: SocketAddr) {
    let listener = netns.enter(|| TcpListener::bind(listen)).unwrap().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut answer = String::new();
            write!(answer, "{} {}", listen, stream.peer_addr().unwrap().ip()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
}

/// Answers every datagram with its own port, silently.
fn echo(netns: &NetNs, listen: SocketAddr) {
    let socket = netns.enter(|| UdpSocket::bind(listen)).unwrap().unwrap();
    std::thread::spawn(move || {
        loop {
            let (_, from) = socket.recv_from(&mut [0; 1]).unwrap();
            socket.send_to(listen.to_string().as_bytes(), from).unwrap();
        }
    });
}

/// Connects and returns the answer of the server that was reached.
fn ask(to: SocketAddr) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_from(netns: &NetNs, to: SocketAddr) -> Result<String, std::io::Error> {
    netns.enter(|| ask(to)).unwrap()
}

network_test! {
    /// PM-6, PM-B4: ports are published to the outside and to the host itself, the container sees
    /// the true client, and a connection to *another* machine's port is not touched
    /// (CVE-2025-67499, CVE-2019-9946), in both hooks.
    fn a_published_port_reaches_the_container_and_transit_is_untouched() {
        let world = world();
        commit(&world.nft, |batch| {
            publishing(batch);
            let to = |ip: &str, port| Value::new().addr(addr(ip)).port(port);
            batch.add_elements(&PORTS4, &[Element::new(tcp(8080)).to(to(CONTAINER, 80)).comment(OWNER)]);
            batch.add_elements(&PORTS6, &[Element::new(tcp(8080)).to(to("fd00:9::2", 80)).comment(OWNER)]);
            let key = Value::new().addr(addr(HOST)).proto(6).port(9090);
            batch.add_elements(&ADDR_PORTS4, &[Element::new(key).to(to(CONTAINER, 80)).comment(OWNER)]);
        });
        // Another machine, behind the host, with its own port 8080.
        world.container.enter(|| run("ip address add 10.9.1.9/24 dev eth0")).unwrap();
        world.container.enter(|| run("ip address add fd00:9::9/64 dev eth0 nodad")).unwrap();
        for listen in [at(CONTAINER, 80), at("fd00:9::2", 80), at("10.9.1.9", 8080), at("fd00:9::9", 8080)] {
            serve(&world.container, listen);
        }
        let web = |who: &str| format!("{} {who}", at(CONTAINER, 80));
        assert_eq!(ask_from(&world.outside, at(HOST, 8080)).unwrap(), web(CLIENT));
        assert_eq!(ask_from(&world.outside, at(HOST, 9090)).unwrap(), web(CLIENT));
        assert_eq!(ask_from(&world.outside, at("10.9.1.1", 8080)).unwrap(), web(CLIENT), "any local address");
        assert!(ask_from(&world.outside, at("10.9.1.1", 9090)).is_err(), "published at one address only");
        assert_eq!(ask_from(&world.outside, at("2001:db8::1", 8080)).unwrap(), "[fd00:9::2]:80 2001:db8::2");
        assert_eq!(ask(at(HOST, 8080)).unwrap(), web(HOST));
        assert_eq!(ask(at("2001:db8::1", 8080)).unwrap(), "[fd00:9::2]:80 2001:db8::1");

        assert_eq!(ask_from(&world.outside, at("10.9.1.9", 8080)).unwrap(), "10.9.1.9:8080 192.0.2.2");
        assert_eq!(ask_from(&world.outside, at("fd00:9::9", 8080)).unwrap(), "[fd00:9::9]:8080 2001:db8::2");
        assert_eq!(ask(at("10.9.1.9", 8080)).unwrap(), "10.9.1.9:8080 10.9.1.1");
        assert_eq!(ask(at("fd00:9::9", 8080)).unwrap(), "[fd00:9::9]:8080 fd00:9::1");

        commit(&world.nft, |batch| batch.del_elements(&PORTS4, &[Element::new(tcp(8080))]));
        assert!(ask_from(&world.outside, at(HOST, 8080)).is_err(), "no longer published");
    }
}

network_test! {
    /// PM-3: flows of a mapping with a new target are deleted; other flows to its container port
    /// stay.
    fn a_flow_to_an_old_target_is_deleted_and_an_unrelated_one_stays() {
        const UDP: u8 = 17;
        let world = world();
        let udp = |port| Value::new().proto(UDP).port(port);
        let to = |ip: &str| Value::new().addr(addr(ip)).port(53);
        commit(&world.nft, |batch| {
            publishing(batch);
            batch.add_elements(&PORTS4, &[Element::new(udp(5353)).to(to(CONTAINER)), Element::new(udp(5454)).to(to(CONTAINER))]);
        });
        world.container.enter(|| run("ip address add 10.9.1.3/24 dev eth0")).unwrap();
        echo(&world.container, at(CONTAINER, 53));
        echo(&world.container, at("10.9.1.3", 53));
        let [moving, staying] = [5353, 5454].map(|port| {
            let socket = world.outside.enter(|| UdpSocket::bind(at(CLIENT, 0))).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket.connect(at(HOST, port)).unwrap();
            socket
        });
        let answer = |socket: &UdpSocket| {
            let mut buffer = [0; 100];
            socket.send(b"?").unwrap();
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        };
        assert_eq!([answer(&moving), answer(&staying)], ["10.9.1.2:53", "10.9.1.2:53"]);
        commit(&world.nft, |batch| {
            batch.del_elements(&PORTS4, &[Element::new(udp(5353)), Element::new(udp(5454))]);
            batch.add_elements(&PORTS4, &[Element::new(udp(5353)).to(to("10.9.1.3")), Element::new(udp(5454)).to(to("10.9.1.3"))]);
        });
        // The kernel keeps using tracked flows, which is why they must be deleted.
        assert_eq!([answer(&moving), answer(&staying)], ["10.9.1.2:53", "10.9.1.2:53"]);
        let flows = |destination: Option<&str>, port, replies_from| Flows {
            proto: UDP, destination: destination.map(addr), ports: (port, port), replies_from,
        };
        let conntrack = world.nft.conntrack();
        let from = Replies::From(addr(CONTAINER));
        let others = [
            flows(Some("192.0.2.77"), 5353, from),
            flows(None, 5353, Replies::From(addr("10.9.1.3"))),
            flows(None, 5353, Replies::From(addr("fd00:9::2"))),
            flows(None, 5353, Replies::NotFrom(addr(CONTAINER))),
            flows(None, 53, from),
            Flows { proto: 6, ..flows(None, 5353, from) },
        ];
        assert_eq!(conntrack.forget(&others).unwrap(), 0);
        assert_eq!(conntrack.forget(&[flows(Some(HOST), 5353, from)]).unwrap(), 1);
        assert_eq!([answer(&moving), answer(&staying)], ["10.9.1.3:53", "10.9.1.2:53"]);
        assert_eq!(conntrack.forget(&[flows(None, 5454, Replies::NotFrom(addr("10.9.1.3")))]).unwrap(), 1);
        assert_eq!([answer(&moving), answer(&staying)], ["10.9.1.3:53", "10.9.1.3:53"]);
    }
}

network_test! {
    /// A range of ports that keep their numbers is one element.
    fn a_range_of_ports_is_published_by_one_element() {
        let world = world();
        let container = Value::new().addr(addr(CONTAINER));
        commit(&world.nft, |batch| {
            publishing(batch);
            let same = Element::range(tcp(1000), tcp(9999)).to(container).comment(OWNER);
            batch.add_elements(&SAME_PORTS4, &[same]);
        });
        for port in [1000, 5555, 9999] {
            serve(&world.container, at(CONTAINER, port));
            assert_eq!(ask_from(&world.outside, at(HOST, port)).unwrap(), format!("{CONTAINER}:{port} {CLIENT}"));
        }
        for port in [999, 10_000] {
            assert!(ask_from(&world.outside, at(HOST, port)).is_err(), "{port}");
        }
    }
}

network_test! {
    /// BR-K5: a container's address selects the rules of its attachment: unchanged inside,
    /// masqueraded outside.
    fn packets_that_leave_a_masqueraded_network_have_the_hosts_address() {
        let world = world();
        // Another destination in the network's own range, behind the outside machine.
        world.outside.enter(|| {
            run("ip address add 10.9.7.2/24 dev eth0");
            run("ip route add 10.9.1.0/24 via 192.0.2.1");
        }).unwrap();
        run("ip route add 10.9.7.0/24 dev out0");
        let [outside, inside] = [CLIENT, "10.9.7.2"].map(|ip| {
            let socket = world.outside.enter(|| UdpSocket::bind(at(ip, 53))).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            socket
        });
        // The source that a packet from the container appears to have. Every connection has a port
        // of its own.
        let seen = |by: &UdpSocket| {
            let from = world.container.enter(|| UdpSocket::bind(at("0.0.0.0", 0))).unwrap().unwrap();
            from.send_to(b"?", by.local_addr().unwrap()).unwrap();
            let (_, seen) = by.recv_from(&mut [0; 1]).unwrap();
            by.send_to(b"!", seen).unwrap();
            from.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            from.recv_from(&mut [0; 1]).unwrap();
            seen.ip().to_string()
        };
        assert_eq!(seen(&outside), CONTAINER, "before");
        let attachment = Chain { name: "masq-c1", ..PUBLISH };
        let element = Element::new(Value::new().addr(addr(CONTAINER)));
        commit(&world.nft, |batch| {
            batch.add_table(&TABLE, None);
            batch.add_set(&MASQ4, None);
            batch.add_chain(&POSTROUTING, Some(&Base { hook: Hook::Postrouting, priority: 100, ..NAT }), None);
            batch.add_rule(&POSTROUTING, &Rule::new().nfproto(IPV4).verdict_map(&[Field::IP_SADDR], &MASQ4));
            batch.add_chain(&attachment, None, Some(OWNER));
            for network in ["10.9.0.0/16", "224.0.0.0/4"] {
                let inside = Rule::new().nfproto(IPV4).network(Field::IP_DADDR, network.parse().unwrap(), true);
                batch.add_rule(&attachment, &inside.verdict(Verdict::Return));
            }
            batch.add_rule(&attachment, &Rule::new().masquerade(false));
            let target = Verdict::Goto(attachment.name.into());
            batch.create_elements(&MASQ4, &[element.clone().to(target).comment(OWNER)]);
        });
        assert_eq!(seen(&outside), HOST);
        assert_eq!(seen(&inside), CONTAINER);
        // Elements that jump to a chain must be deleted before it, in the same transaction.
        commit(&world.nft, |batch| {
            batch.del_elements(&MASQ4, std::slice::from_ref(&element));
            batch.del_chain(&attachment);
        });
        assert_eq!(seen(&outside), CONTAINER, "after");
    }
}
