//! Packets between containers of two hosts, and of one.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::cluster::Cluster;
use harness::cluster::pings::round_trips;
use harness::namespace::inside;
use harness::socket::{self, patience};

use super::super::compared::{Compared, Unit};
use super::super::contender::OURS;
use super::by_hand::{self, Way};
use super::{Network, millis};
use crate::stats::{median, turns};

/// Rounds of one stream and of pings on each way.
const ROUNDS: usize = 7;
/// Bytes of a stream.
const STREAM: usize = 128 << 20;
const BLOCK: usize = 256 << 10;
/// Pings of a round, one after the other.
const PINGS: usize = 500;
/// How long a way may take until it works.
const START: Duration = Duration::from_secs(2);

/// The rows of streams and pings.
pub fn rows(cluster: &Cluster<'_>) -> Result<Vec<Compared>> {
    let [one, two, ..] = &cluster.hosts[..] else { unreachable!("hosts were asked for") };
    let (front, alone) = (Network::front(), Network::bridge());
    let (near, _) = front.stay(one, "near")?;
    let (far, to_far) = front.stay(two, "far")?;
    let (beside, to_beside) = front.stay(one, "beside")?;
    let (bridged, _) = alone.stay(one, "bridged")?;
    let (other, to_other) = alone.stay(one, "other")?;
    let way = |name, from: &str, to: &str, address: &str| Way {
        name,
        ends: [from.to_owned(), to.to_owned()],
        to: address.to_owned(),
    };
    let between =
        [way(OURS, &near.ns, &far.ns, &to_far), by_hand::vxlan([one, two])?, by_hand::routed([one, two])?];
    let within =
        [way(OURS, &near.ns, &beside.ns, &to_beside), way("bridge", &bridged.ns, &other.ns, &to_other)];
    for way in between.iter().chain(&within) {
        works(cluster, way)?;
    }
    let mut rows = measure(&between, ["overlay: 128 MiB between hosts", "overlay: ping between hosts"])?;
    rows.extend(measure(&within, ["overlay: 128 MiB on a host", "overlay: ping on a host"])?);
    Ok(rows)
}

fn works(cluster: &Cluster<'_>, way: &Way) -> Result<()> {
    let to: IpAddr = way.to.parse()?;
    let reach = || inside(&way.ends[0], || socket::reach(to, Duration::from_millis(200))).map(drop);
    cluster.until(START, reach).with_context(|| format!("{} to {to}", way.name))?;
    Ok(())
}

fn measure(ways: &[Way], operations: [&str; 2]) -> Result<Vec<Compared>> {
    let mut rows = operations.map(|operation| Compared::new(operation, Unit::Ms));
    for round in 0..ROUNDS {
        for turn in turns(round, ways.len()) {
            let way = &ways[turn];
            let times = [stream(way), ping(way)];
            for (row, time) in rows.iter_mut().zip(times) {
                row.push(way.name, time.with_context(|| format!("{}: {}", row.operation, way.name))?);
            }
        }
    }
    Ok(rows.into())
}

/// The median round trip of a ping, in milliseconds.
fn ping(way: &Way) -> Result<f64> {
    let times = round_trips(&way.ends[0], &way.to, PINGS)?;
    Ok(median(&times.into_iter().map(millis).collect::<Vec<_>>()))
}

/// The milliseconds of one stream.
fn stream(way: &Way) -> Result<f64> {
    let to: IpAddr = way.to.parse()?;
    let listener = inside(&way.ends[1], || TcpListener::bind((to, 0)).context("listen"))?;
    let at = listener.local_addr()?;
    let near = inside(&way.ends[0], || {
        TcpStream::connect_timeout(&at, patience()).with_context(|| format!("connect to {at}"))
    })?;
    let (far, _) = listener.accept().context("accept")?;
    far.set_read_timeout(Some(patience()))?;
    near.set_write_timeout(Some(patience()))?;
    let began = Instant::now();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<()> {
            let (mut near, block) = (near, vec![0x6d; BLOCK]);
            (0..STREAM / BLOCK).try_for_each(|_| near.write_all(&block)).context("send")
        });
        let (mut far, mut have, mut received) = (far, vec![0; BLOCK], 0);
        loop {
            match far.read(&mut have).context("receive")? {
                0 => break,
                some => received += some,
            }
        }
        ensure!(received == STREAM, "{received} of {STREAM} bytes arrived");
        sending.join().map_err(|_| anyhow!("the sender panicked"))?
    })?;
    Ok(millis(began.elapsed()))
}
