//! `bandwidth` on packets: how far the bytes that pass in five seconds are from the configured
//! rate, in each direction.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use harness::config::{USUAL, bridge};
use harness::room::Room;
use harness::stage::lan::addresses_of;
use serde_json::{Value, json};

use super::compared::{Compared, Unit};
use super::contender::OURS;

/// In Mbit/s. Those of a group run at the same time; the last would take both processors.
const GROUPS: [&[u64]; 2] = [&[1, 10, 100], &[1000]];
const TIME: Duration = Duration::from_secs(5);
/// Until the burst has passed, and TCP knows the rate.
const BEFORE: Duration = Duration::from_secs(2);
/// What a connection may wait for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The bytes of a full frame, as disciplines count them, and TCP's part of them (with time stamps).
const FRAME: f64 = 1514.0;
const CONTENT: f64 = 1448.0;
/// What ours is held against.
const RATE: &str = "the rate";
/// The gateway's address.
const HOST: &str = "10.1.2.1";

/// One stream.
struct Stream {
    title: String,
    mbit: u64,
    /// The namespace that sends, and the one that listens; `None` is the host.
    from: Option<String>,
    to: Option<String>,
    address: IpAddr,
}

/// The job of the room.
pub fn job(room: &Room) -> Result<Vec<Compared>> {
    let mut all = vec![];
    for group in GROUPS {
        // Each in a container of its own: the acknowledgements wait for nobody.
        let both = group.iter().flat_map(|mbit| [(*mbit, true), (*mbit, false)]);
        let streams: Vec<Stream> =
            both.map(|(mbit, is_inward)| attach(room, mbit, is_inward)).collect::<Result<_>>()?;
        std::thread::scope(|scope| {
            let running: Vec<_> =
                streams.iter().map(|stream| (stream, scope.spawn(|| measure(room, stream)))).collect();
            for (stream, running) in running {
                let mut compared = Compared::new("bandwidth: off by", Unit::Factor);
                compared.of = Some(stream.title.clone());
                match running.join().map_err(|_| anyhow!("a thread panicked"))? {
                    Ok(bits) => {
                        let wanted = stream.mbit as f64 * 1e6;
                        compared.push(OURS, (bits / wanted).max(wanted / bits));
                        compared.push(RATE, 1.0);
                    }
                    Err(error) => compared.faults.push(format!("{error:#}")),
                }
                all.push(compared);
            }
            anyhow::Ok(())
        })?;
    }
    Ok(all)
}

/// A container with this rate, and a stream to it or from it.
fn attach(room: &Room, mbit: u64, is_inward: bool) -> Result<Stream> {
    let id = format!("{}{mbit}", if is_inward { "to" } else { "from" });
    let container = room.container(&id)?;
    let previous = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    let rate = mbit * 1_000_000;
    let config: Value = json!({
        "cniVersion": USUAL, "name": "net", "type": "bandwidth", "ingressRate": rate, "egressRate": rate,
        "prevResult": previous,
    });
    room.attach("bandwidth", "ADD", &container).config(&config).run()?.result()?;
    let [own, _] = addresses_of(&previous)?;
    Ok(match is_inward {
        true => {
            let title = format!("{mbit} Mbit/s to the container");
            Stream { title, mbit, from: None, to: Some(id), address: own.parse()? }
        }
        false => {
            let title = format!("{mbit} Mbit/s from the container");
            Stream { title, mbit, from: Some(id), to: None, address: HOST.parse()? }
        }
    })
}

fn within<T: Send>(room: &Room, ns: Option<&str>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match ns {
        Some(ns) => room.inside(ns, work),
        None => work(),
    }
}

/// Bits per second on the wire.
fn measure(room: &Room, stream: &Stream) -> Result<f64> {
    let Stream { from, to, address, .. } = stream;
    let listener = within(room, to.as_deref(), || {
        TcpListener::bind((*address, 0)).with_context(|| format!("listen at {address}"))
    })?;
    let at: SocketAddr = listener.local_addr()?;
    let mut sender = within(room, from.as_deref(), || Ok(TcpStream::connect_timeout(&at, PATIENCE)?))?;
    let (mut receiver, _) = listener.accept()?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    sender.set_write_timeout(Some(PATIENCE))?;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let block = vec![0; 1 << 16];
            while sender.write_all(&block).is_ok() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let counted = count(&mut receiver);
        is_over.store(true, Ordering::Relaxed);
        // The sender may be in the middle of a block.
        receiver.shutdown(std::net::Shutdown::Both)?;
        drop(receiver);
        counted
    })
}

fn count(receiver: &mut TcpStream) -> Result<f64> {
    let mut block = vec![0; 1 << 18];
    let began = Instant::now();
    while began.elapsed() < BEFORE {
        receiver.read(&mut block).context("before the measurement")?;
    }
    let (began, mut bytes) = (Instant::now(), 0);
    while began.elapsed() < TIME {
        bytes += receiver.read(&mut block).context("receive")?;
    }
    Ok(bytes as f64 * 8.0 / began.elapsed().as_secs_f64() * FRAME / CONTENT)
}
