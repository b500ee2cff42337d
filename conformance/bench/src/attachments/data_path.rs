//! `--data-path`: the cost of a connection through a published port, or out through masquerade.
//!
//! Each set of rules has a host of its own: three namespaces, a container behind a bridge, the
//! host, and the outside. So no rules affect another set, and all sets are measured in turns.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::namespace::Container;
use harness::room::Room;
use harness::{ip, processor, store};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use serde::{Deserialize, Serialize};

use super::contender::Contender;
use super::policies;
use super::ports::{self, Mapping};
use super::scenario::{MEASURED, Scenario, address};
use crate::stats::{median, turns};

/// Rounds, and connections of each in one.
const ROUNDS: usize = 20;
const CONNECTIONS: usize = 150;
/// Bytes that go both ways over one connection, one after the other.
const ECHOES: usize = 150;
/// Bytes of a bulk, and how many go both ways over one connection.
const BULK: usize = 64 * 1024;
const BULKS: usize = 20;
/// The timeout of a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// The network between host and outside, and the outside's port.
const HOST: &str = "198.51.100.1";
const OUTSIDE: &str = "198.51.100.2";
const OUTSIDE_PORT: u16 = 9000;

/// Many ports.
pub const MANY: u16 = 10_000;

/// The rules of a host. The measured port is the last of that many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rules {
    /// None: the container is reached at its own address.
    None,
    /// Ours.
    Ours(u16),
    /// Ours with `fastPath`.
    FastPath,
    /// Ours behind a firewall with policies, among that many networks.
    Networks(u16),
    /// Those of the reference's iptables back end.
    Iptables(u16),
    /// Those of its nftables back end.
    Nftables(u16),
}

impl Rules {
    /// All measured rules.
    const ALL: [Rules; 7] = [
        Rules::None,
        Rules::Ours(1),
        Rules::Ours(MANY),
        Rules::Iptables(1),
        Rules::Iptables(MANY),
        Rules::Nftables(1),
        Rules::Nftables(MANY),
    ];

    /// The name in tables.
    pub fn name(self) -> String {
        let of = |owner: &str, ports: u16| match ports {
            1 => format!("{owner}, one port"),
            _ => format!("{owner}, the last of {ports} ports"),
        };
        match self {
            Rules::None => "no rules".into(),
            Rules::Ours(ports) => of("ours", ports),
            Rules::FastPath => "ours with fastPath".into(),
            Rules::Networks(count) => format!("one of {count} networks with policies"),
            Rules::Iptables(ports) => of("reference's iptables rules", ports),
            Rules::Nftables(ports) => of("reference's nftables rules", ports),
        }
    }

    /// Whether masquerade is measured as well: once for each kind of rules, with one attachment.
    fn masquerades(self) -> bool {
        matches!(self, Rules::None | Rules::Ours(1) | Rules::Iptables(1) | Rules::Nftables(1))
    }
}

/// The cost of connections through some rules: a median of each round, microseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Costs {
    /// From connecting until the end of the connection.
    pub connection: Vec<f64>,
    /// A byte both ways, once connected.
    pub echo: Vec<f64>,
    /// [`BULK`] bytes both ways.
    pub bulk: Vec<f64>,
}

/// One host's costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataPath {
    /// Its rules.
    pub rules: Rules,
    /// From the outside to the container.
    pub inward: Costs,
    /// From the container to the outside, masqueraded.
    pub outward: Option<Costs>,
}

/// A host with its container and its outside.
struct Host {
    path: DataPath,
    inside: Container,
    outside: Container,
    to_container: SocketAddr,
}

/// The job of the room with all hosts.
pub fn job(room: &Room) -> Result<Vec<DataPath>> {
    measure(room, &Rules::ALL, ROUNDS)
}

/// Measures a host for each of these rules, in turns.
pub fn measure(room: &Room, rules: &[Rules], rounds: usize) -> Result<Vec<DataPath>> {
    // With client and server on two processors, an echo takes three times as long, whatever the
    // rules.
    processor::stay_on_one()?;
    let ours = Contender::ours(room);
    let mut hosts = vec![];
    for (number, rules) in rules.iter().enumerate() {
        let host = Host::new(room, &ours, number, *rules).with_context(|| rules.name())?;
        hosts.push(host);
    }
    let mut servers = vec![];
    for host in &hosts {
        let inside = SocketAddr::from(([0; 4], MEASURED.1));
        servers.push(room.inside(&host.inside.id, || serve(inside))?);
        servers.push(room.inside(&host.outside.id, || serve(SocketAddr::from(([0; 4], OUTSIDE_PORT))))?);
    }
    for round in 0..rounds {
        for turn in turns(round, hosts.len()) {
            if let Some(host) = hosts.get_mut(turn) {
                host.measure(room).with_context(|| host.path.rules.name())?;
            }
        }
    }
    ensure!(servers.iter().all(|server| !server.is_finished()), "a server has ended");
    Ok(hosts.into_iter().map(|host| host.path).collect())
}

impl Host {
    fn new(room: &Room, ours: &Contender, number: usize, rules: Rules) -> Result<Self> {
        let name = |what: &str| format!("{what}{number}");
        let host = room.container(&name("host"))?;
        let inside = room.container(&name("in"))?;
        let outside = room.container(&name("out"))?;
        // An index of its own: see `Room::outside`. Its default route makes it the uplink.
        ip::script(
            Some(&host.id),
            &format!(
                "link set lo up
                 link add wan0 index 1000 type veth peer name eth0 netns {}
                 addr add {HOST}/24 dev wan0
                 link set wan0 up
                 route add default via {OUTSIDE}",
                outside.id
            ),
        )?;
        let subnet = format!("{}/16", address(ours.slot, 0));
        ip::script(
            Some(&outside.id),
            &format!(
                "link set lo up
                 addr add {OUTSIDE}/24 dev eth0
                 link set eth0 up
                 route add {subnet} via {HOST}"
            ),
        )?;
        // Every host is a machine of its own, without any other's containers.
        store::forget("/run/moor")?;
        let container = room.inside(&host.id, || set_up(ours, &inside, rules, &subnet))?;
        let to_container = match rules {
            Rules::None | Rules::Networks(_) => SocketAddr::new(container, MEASURED.1),
            _ => SocketAddr::new(HOST.parse()?, MEASURED.0),
        };
        let outward = rules.masquerades().then(Costs::default);
        Ok(Self {
            path: DataPath { rules, inward: Costs::default(), outward },
            inside,
            outside,
            to_container,
        })
    }

    fn measure(&mut self, room: &Room) -> Result<()> {
        let to = self.to_container;
        room.inside(&self.outside.id, || costs(to, &mut self.path.inward))?;
        if let Some(outward) = &mut self.path.outward {
            let to = SocketAddr::new(OUTSIDE.parse()?, OUTSIDE_PORT);
            room.inside(&self.inside.id, || costs(to, outward))?;
        }
        Ok(())
    }
}

/// Attaches the container and creates the rules; returns its address. In the host's namespace.
fn set_up(ours: &Contender, inside: &Container, rules: Rules, subnet: &str) -> Result<IpAddr> {
    let scenario = match rules {
        Rules::Ours(others) => {
            // The attachments of others first: publishing a port needs the gateway, which the first
            // ADD creates.
            ports::publish(ours, others - 1)?;
            Scenario::Portmap
        }
        Rules::FastPath => Scenario::Portmap,
        Rules::Networks(others) => {
            policies::others(ours, others - 1)?;
            Scenario::Firewall
        }
        _ => Scenario::Bridge,
    };
    let mut attachment = ours.attachment(scenario, inside, "eth0");
    if rules == Rules::FastPath {
        attachment.chain.iter_mut().for_each(|config| config["fastPath"] = true.into());
    }
    if let (Rules::Networks(_), Some(firewall)) = (rules, attachment.chain.last_mut()) {
        firewall["policy"] = policies::policy();
    }
    attachment.run("ADD")?;
    let result = attachment.result.context("ADD has no result")?;
    let net = result["ips"][0]["address"].as_str().context("ADD returned no address")?;
    let address: IpAddr = net.split('/').next().unwrap_or_default().parse().context("read the address")?;
    let IpAddr::V4(v4) = address else { return Err(anyhow!("{address} is not an IPv4 address")) };
    let mappings = |count: u16| {
        let mut mappings = ports::others(ours.slot, count - 1);
        mappings.push(Mapping { host_port: MEASURED.0, address: v4, port: MEASURED.1 });
        mappings
    };
    match rules {
        Rules::None | Rules::Ours(_) | Rules::Networks(_) => {}
        Rules::FastPath => {
            let tables = ip::output("nft", &["list", "flowtables"])?;
            ensure!(tables.contains("flowtable "), "these plugins make no flowtable");
        }
        Rules::Iptables(count) => {
            ports::load_iptables(&mappings(count), subnet)?;
            let masquerade = format!(
                "*nat\n:CNI-MASQ - [0:0]\n-A CNI-MASQ -d {subnet} -j ACCEPT\n\
                 -A CNI-MASQ ! -d 224.0.0.0/4 -j MASQUERADE\n-A POSTROUTING -s {v4}/32 -j CNI-MASQ\nCOMMIT\n"
            );
            ports::fed("iptables-restore", &["--noflush"], &masquerade)?;
        }
        Rules::Nftables(count) => {
            ports::load_nftables(&mappings(count))?;
            let masquerade = format!(
                "table inet cni_plugins_masquerade {{ chain masq_checks {{\n\
                 ip saddr == {v4} ip daddr != {subnet} masquerade\n}}\n\
                 chain postrouting {{ type nat hook postrouting priority 100;\n\
                 ip daddr 224.0.0.0/4 return; ip6 daddr ff00::/8 return; goto masq_checks; }}\n}}\n"
            );
            ports::fed("nft", &["-f", "-"], &masquerade)?;
        }
    }
    Ok(address)
}

/// Echoes bytes until the peer closes, one connection after the other; ends with the room.
pub fn serve(at: SocketAddr) -> Result<JoinHandle<()>> {
    let listener = TcpListener::bind(at).with_context(|| format!("listen at {at}"))?;
    Ok(std::thread::spawn(move || {
        // A reset by the client also ends the connection.
        for mut stream in listener.incoming().flatten() {
            drop(echo(&mut stream));
        }
    }))
}

fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; BULK];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => stream.write_all(bytes.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A round of connections, and a connection of echoes; in the client's namespace.
fn costs(to: SocketAddr, costs: &mut Costs) -> Result<()> {
    let connect = || -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connect to {to}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        // A reset at the end: otherwise thousands of connections would stay in TIME_WAIT for
        // minutes.
        setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
        Ok(stream)
    };
    let mut byte = [0];
    let mut times = vec![];
    for _ in 0..CONNECTIONS {
        let began = Instant::now();
        let mut stream = connect()?;
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte).context("read the answer")?;
        drop(stream);
        times.push(micros(began));
    }
    costs.connection.push(median(&times));
    times.clear();
    let mut stream = connect()?;
    for _ in 0..ECHOES {
        let began = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte).context("read the answer")?;
        times.push(micros(began));
    }
    costs.echo.push(median(&times));
    times.clear();
    let mut bytes = vec![0; BULK];
    for _ in 0..BULKS {
        let began = Instant::now();
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes).context("read the bulk's answer")?;
        times.push(micros(began));
    }
    costs.bulk.push(median(&times));
    Ok(())
}

fn micros(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e6
}
