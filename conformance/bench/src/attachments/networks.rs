//! The firewall among many networks with policies: a forwarded connection, and an ADD of one more.

use anyhow::Result;
use harness::ip;
use harness::room::Room;

use super::compared::{Compared, Unit};
use super::contender::{Contender, OURS};
use super::data_path::{self, Rules};
use super::policies;
use crate::stats::turns;

/// The numbers of networks. Each has a host of its own: see `data_path`.
const COUNTS: [u16; 3] = [1, 100, 1000];
/// Rounds of connections, and of ADDs.
const ROUNDS: usize = 20;

/// What the others are held against.
const ALONE: &str = "1 network";

/// The job of the room.
pub fn job(room: &Room) -> Result<Vec<Compared>> {
    // Its namespace is another than the host's.
    room.container("other")?;
    let paths = data_path::measure(room, &COUNTS.map(Rules::Networks), ROUNDS)?;
    let ours = Contender::ours(room);
    // One more on each host, by a bridge that exists.
    let hosts: Vec<(String, u16)> =
        (0..).zip(COUNTS).map(|(host, count): (u8, _)| (format!("host{host}"), count + 1)).collect();
    for (host, number) in &hosts {
        ip::script(Some(host), &format!("link add {} type bridge", policies::bridge(*number)))?;
    }
    let mut adds: Vec<[Vec<f64>; 2]> = hosts.iter().map(|_| Default::default()).collect();
    for round in 0..ROUNDS {
        for turn in turns(round, hosts.len()) {
            let ((host, number), [first, second]) = (&hosts[turn], &mut adds[turn]);
            room.inside(host, || {
                let fire =
                    |verb, container| Ok(policies::call(&ours, verb, *number, container).fire()?.0.wall_ms);
                first.push(fire("ADD", policies::FIRST)?);
                second.push(fire("ADD", "second")?);
                fire("DEL", "second")?;
                fire("DEL", policies::FIRST).map(drop)
            })?;
        }
    }
    let mut all = vec![];
    for (turn, count) in COUNTS.iter().enumerate().skip(1) {
        let among = |what: &str| Compared::new(&format!("{what} among {count} networks"), Unit::Ms);
        let mut connection = among("connection");
        let mut more = [among("firewall ADD of a new network"), among("firewall ADD")];
        for (name, of) in [(ALONE, 0), (OURS, turn)] {
            paths[of].inward.connection.iter().for_each(|micros| connection.push(name, micros / 1e3));
            for (compared, times) in more.iter_mut().zip(&adds[of]) {
                times.iter().for_each(|ms| compared.push(name, *ms));
            }
        }
        all.push(connection);
        all.extend(more);
    }
    Ok(all)
}
