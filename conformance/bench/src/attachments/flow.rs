//! `fastPath` by instructions: a virtual machine counts them, whatever this machine's load. Its
//! kernel has flowtables, and this one may not.

use anyhow::Result;
use harness::room::Room;

use super::compared::{Compared, Unit};
use super::contender::OURS;
use super::data_path::{self, Costs, Rules};

/// A count hardly varies, and emulation is slow.
const ROUNDS: usize = 2;

/// Ours without the key.
const SLOW: &str = "without fastPath";

/// What is measured, and its part of the costs.
type Operation = (&'static str, fn(&Costs) -> &Vec<f64>);

const OPERATIONS: [Operation; 3] = [
    ("fastPath: connection", |costs| &costs.connection),
    ("fastPath: echo", |costs| &costs.echo),
    ("fastPath: 64 KiB", |costs| &costs.bulk),
];

/// The job of the room in the machine. Its clock counts an instruction as a nanosecond.
pub fn job(room: &Room) -> Result<Vec<Compared>> {
    let paths = data_path::measure(room, &[Rules::Ours(1), Rules::FastPath], ROUNDS)?;
    let all = OPERATIONS.into_iter().map(|(operation, of)| {
        let mut compared = Compared::new(operation, Unit::Instructions);
        for path in &paths {
            let name = if path.rules == Rules::FastPath { OURS } else { SLOW };
            of(&path.inward).iter().for_each(|micros| compared.push(name, micros * 1e3));
        }
        compared
    });
    Ok(all.collect())
}

/// The operations, when they are not measured.
pub fn not_run(why: &str) -> Vec<Compared> {
    let all = OPERATIONS.into_iter().map(|(operation, _)| {
        let mut compared = Compared::new(operation, Unit::Instructions);
        compared.not_run(OURS, why);
        compared
    });
    all.collect()
}
