//! bandwidth: packets keep to the rate. Only bounds that hold on a busy machine; `make bench` has
//! the figures.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness::case::Case;
use harness::config::with;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::addresses_of;
use serde_json::json;

use crate::bandwidth::shaped;

pub const CASES: &[Case] = &[
    Case::new("bandwidth_packets/both_directions_keep_to_their_rate", &["BW-4"], both_directions),
    Case::new("bandwidth_packets/only_shaped_subnets_keep_to_it", &["BW-4", "BW-K4"], shaped_subnets),
    Case::new("bandwidth_packets/a_fast_path_does_not_bypass_it", &["BW-4", "BW-R6"], fast_path)
        .needs(&[Need::Flowtables]),
    Case::new("bandwidth_packets/a_quiet_connection_does_not_wait_for_a_busy_one", &["BW-4", "BW-K5"], quiet)
        .needs(&[Need::FqCodel]),
];

/// In bytes per second, and in bytes.
const RATE: u64 = 100_000;
const BURST: u64 = 15_000;
const TIME: Duration = Duration::from_millis(400);
/// The length of a datagram, and how many of them are sent before a pause: some 3 MB per second.
const LENGTH: usize = 1200;
const AT_ONCE: usize = 16;
const PAUSE: Duration = Duration::from_millis(5);

/// What a receiver got.
#[derive(Clone, Copy)]
struct Passed {
    bytes: u64,
    time: Duration,
}

impl Passed {
    /// The most that a shaper lets through in that time.
    fn bound(&self) -> u64 {
        RATE * u64::try_from(self.time.as_micros()).unwrap_or(u64::MAX) / 1_000_000 + BURST
    }

    fn ensure_shaped(&self, what: &str) -> Result<()> {
        ensure!(self.bytes <= self.bound(), "{what}: {} bytes in {:?}", self.bytes, self.time);
        // A busy machine sends less.
        ensure!(self.bytes >= self.bound() / 8, "{what}: only {} bytes in {:?}", self.bytes, self.time);
        Ok(())
    }

    fn ensure_unshaped(&self, what: &str) -> Result<()> {
        ensure!(self.bytes > 2 * self.bound(), "{what}: only {} bytes in {:?}", self.bytes, self.time);
        Ok(())
    }
}

/// Sends many more datagrams than the rate lets through, and counts them at the other end, until it
/// is clear that they have no rate.
fn blast(room: &Room, from: Option<&str>, to: Option<&str>, address: &str) -> Result<Passed> {
    let address: IpAddr = address.parse()?;
    let open = || -> Result<UdpSocket> {
        let socket = UdpSocket::bind((address, 0)).with_context(|| format!("bind {address}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(socket)
    };
    let inside = |ns: Option<&str>, open: &(dyn Fn() -> Result<UdpSocket> + Sync)| match ns {
        Some(ns) => room.inside(ns, open),
        None => open(),
    };
    let receiver = inside(to, &open)?;
    let at = receiver.local_addr()?;
    let any = SocketAddr::new(if address.is_ipv4() { "0.0.0.0" } else { "::" }.parse()?, 0);
    let sender = inside(from, &|| Ok(UdpSocket::bind(any)?))?;
    sender.connect(at)?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let began = Instant::now();
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                // A full queue is an error, or a loss.
                (0..AT_ONCE).for_each(|_| drop(sender.send(&[0; LENGTH])));
                std::thread::sleep(PAUSE);
            }
        });
        let (mut bytes, mut last, mut buffer) = (0, began, [0; LENGTH]);
        let passed = |bytes| Passed { bytes, time: began.elapsed() };
        while began.elapsed() < TIME && bytes <= 4 * passed(bytes).bound() {
            if let Ok(length) = receiver.recv(&mut buffer) {
                bytes += u64::try_from(length)?;
                last = Instant::now();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        Ok(Passed { bytes, time: last - began })
    })
}

fn keys() -> serde_json::Value {
    json!({"ingressRate": 8 * RATE, "ingressBurst": 8 * BURST, "egressRate": 8 * RATE, "egressBurst": 8 * BURST})
}

/// Each direction in each family, all at the same time: a container for each family.
fn both_directions(room: &Room) -> Result<()> {
    let (_, config, _) = shaped(room, "c1", &keys())?;
    let (_, other, _) = shaped(room, "c2", &keys())?;
    let [v4, _] = addresses_of(&config["prevResult"])?;
    let [_, v6] = addresses_of(&other["prevResult"])?;
    let all = [
        ("IPv4 to the container", None, Some("c1"), v4.as_str()),
        ("IPv4 from the container", Some("c1"), None, "10.1.2.1"),
        ("IPv6 to the container", None, Some("c2"), v6.as_str()),
        ("IPv6 from the container", Some("c2"), None, "2001:db8:1::1"),
    ];
    std::thread::scope(|scope| {
        let running: Vec<_> = all
            .iter()
            .map(|(what, from, to, address)| (what, scope.spawn(|| blast(room, *from, *to, address))))
            .collect();
        running.into_iter().try_for_each(|(what, running)| {
            let passed = running.join().map_err(|_| anyhow!("a thread panicked"))??;
            passed.ensure_shaped(what)
        })
    })
}

/// The host's address of one family is shaped.
fn shaped_subnets(room: &Room) -> Result<()> {
    let keys = with(&keys(), json!({"shapedSubnets": ["10.1.2.1/32"]}));
    let (_, config, _) = shaped(room, "c1", &keys)?;
    let [v4, v6] = addresses_of(&config["prevResult"])?;
    for (what, from, to, address, is_shaped) in [
        ("IPv4 to the container", None, Some("c1"), v4.as_str(), true),
        ("IPv4 from the container", Some("c1"), None, "10.1.2.1", true),
        ("IPv6 to the container", None, Some("c1"), v6.as_str(), false),
        ("IPv6 from the container", Some("c1"), None, "2001:db8:1::1", false),
    ] {
        let passed = blast(room, from, to, address)?;
        if is_shaped { passed.ensure_shaped(what) } else { passed.ensure_unshaped(what) }?;
    }
    Ok(())
}

/// Packets of an established connection go from link to link before the host routes them; both
/// links' disciplines see them all the same.
fn fast_path(room: &Room) -> Result<()> {
    room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
    let container = room.container("c1")?;
    let network =
        with(&harness::config::bridge(harness::config::USUAL), json!({"ipMasq": true, "fastPath": true}));
    let previous = room.attach("bridge", "ADD", &container).config(&network).run()?.result()?;
    let config = crate::bandwidth::bandwidth(&keys(), &previous);
    crate::bandwidth::call(room, "ADD", &container, &config)?.result()?;
    let [v4, _] = addresses_of(&previous)?;
    blast(room, Some("c1"), Some("outside"), harness::namespace::OUTSIDE[0])?
        .ensure_shaped("from the container")?;
    blast(room, Some("outside"), Some("c1"), &v4)?.ensure_shaped("to the container")
}

/// A connection of TCP fills the queue, as fast as the rate lets it; half of the datagrams of
/// another one are answered within 30 ms, and what a container without such a connection takes on
/// this machine meanwhile.
fn quiet(room: &Room) -> Result<()> {
    let attach = |id, mbit, is_busy| {
        // A burst of half a second, and so a queue.
        let rate = mbit * 1_000_000;
        let keys = json!({"ingressRate": rate, "ingressBurst": rate / 2, "fqCodel": true});
        let (_, config, _) = shaped(room, id, &keys)?;
        let [address, _] = addresses_of(&config["prevResult"])?;
        anyhow::Ok((id, address.parse()?, is_busy))
    };
    let all = [attach("c1", 1, true)?, attach("c2", 10, true)?, attach("c3", 10, false)?];
    let medians = std::thread::scope(|scope| {
        let run = |(id, address, is_busy)| scope.spawn(move || round_trip(room, id, address, is_busy));
        let running = all.map(run).into_iter();
        running.map(|one| one.join().map_err(|_| anyhow!("a thread panicked"))?).collect::<Result<Vec<_>>>()
    })?;
    let [at_1, at_10, undisturbed] = medians[..] else { bail!("{medians:?}") };
    for (mbit, median) in [(1, at_1), (10, at_10)] {
        ensure!(
            median <= Duration::from_millis(30) + 3 * undisturbed,
            "at {mbit} Mbit/s: {median:?}, without a busy connection {undisturbed:?}"
        );
    }
    Ok(())
}

/// The median of round trips from the host, beside a stream to the container if it is busy.
fn round_trip(room: &Room, id: &str, address: IpAddr, is_busy: bool) -> Result<Duration> {
    let (listener, echo) =
        room.inside(id, || Ok((TcpListener::bind((address, 0))?, UdpSocket::bind((address, 0))?)))?;
    let sender = TcpStream::connect_timeout(&listener.local_addr()?, Duration::from_secs(5))?;
    let (receiver, _) = listener.accept()?;
    sender.set_write_timeout(Some(Duration::from_secs(5)))?;
    echo.set_read_timeout(Some(Duration::from_millis(100)))?;
    let client = UdpSocket::bind("0.0.0.0:0")?;
    client.connect(echo.local_addr()?)?;
    client.set_read_timeout(Some(Duration::from_secs(3)))?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while is_busy && (&sender).write_all(&[0; 1 << 16]).is_ok() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        scope.spawn(|| while (&receiver).read(&mut [0; 1 << 16]).is_ok_and(|length| length > 0) {});
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                if let Ok((_, from)) = echo.recv_from(&mut [0; 8]) {
                    drop(echo.send_to(b"!", from));
                }
            }
        });
        // Until the burst has passed.
        std::thread::sleep(Duration::from_secs(1));
        let ask = || -> Result<Duration> {
            let began = Instant::now();
            client.send(b"?")?;
            client.recv(&mut [0; 8]).context("no answer")?;
            let took = began.elapsed();
            std::thread::sleep(Duration::from_millis(20));
            Ok(took)
        };
        let asked = (0..20).map(|_| ask()).collect::<Result<Vec<_>>>();
        is_over.store(true, Ordering::Relaxed);
        sender.shutdown(std::net::Shutdown::Both)?;
        let mut asked = asked?;
        asked.sort();
        Ok(asked[asked.len() / 2])
    })
}
