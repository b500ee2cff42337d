//! The start of every executable: VERSION, beside the smallest executable there can be.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::processor;
use harness::room::Room;

use super::compared::{Compared, Unit};
use super::contender::{Contender, MULTICALL};
use super::elf;
use super::shot::Shot;
use crate::stats::turns;

/// Rounds of an executable, and the time after which it has no new one.
const ROUNDS: usize = 100;
const TIME: Duration = Duration::from_millis(1500);
/// The minimum number of rounds.
const LEAST: usize = 10;

/// The file that only exits.
pub const EMPTY: &str = "empty executable";

/// The executables that are measured.
const EXECUTABLES: [&str; 18] = [
    "bridge",
    "dhcp",
    "dns",
    "dummy",
    "firewall",
    "host-device",
    "host-local",
    "ipvlan",
    "loopback",
    "macvlan",
    "portmap",
    "ptp",
    "sbr",
    "static",
    "tap",
    "vlan",
    "vrf",
    MULTICALL,
];

/// The job of the room: every executable of ours that is there.
pub fn job(room: &Room, before: Option<&Path>) -> Result<Vec<Compared>> {
    processor::stay_on_one()?;
    let empty = empty(room)?;
    let mut all = vec![];
    let builds = [Some(Contender::ours(room)), before.map(Contender::before)].into_iter().flatten();
    let mut contenders = builds.map(|build| build.copied(room, &EXECUTABLES)).collect::<Result<Vec<_>>>()?;
    contenders.push(Contender::reference(room));
    let ours = contenders[0].dir.clone();
    for name in EXECUTABLES.into_iter().filter(|name| ours.join(name).is_file()) {
        let mut compared = Compared::new("VERSION", Unit::Ms);
        compared.of = Some(name.to_owned());
        let mut shots = vec![];
        for contender in &contenders {
            match contender.dir.join(name).is_file() {
                true => shots.push((contender.name, shot(room, contender, name)?)),
                false => compared.not_run(contender.name, &format!("it has no {name}")),
            }
        }
        match &empty {
            Some(empty) => shots.push((EMPTY, empty.clone())),
            None => compared.not_run(EMPTY, "the instructions of this machine are not known"),
        }
        measure(&mut compared, &shots)?;
        all.push(compared);
    }
    Ok(all)
}

/// A call of an executable. The one that holds all plugins is called by the name of one.
fn shot(room: &Room, contender: &Contender, name: &str) -> Result<Shot> {
    if name != MULTICALL {
        return Ok(contender.start(name));
    }
    let dir = room.scratch(&format!("all{}", contender.slot));
    fs::create_dir_all(&dir)?;
    symlink(contender.dir.join(name), dir.join("loopback")).context("name it loopback")?;
    Ok(Contender { dir, ..contender.clone() }.start("loopback"))
}

/// Writes the empty executable, if the instructions of this machine are known.
fn empty(room: &Room) -> Result<Option<Shot>> {
    let Some(file) = elf::smallest() else { return Ok(None) };
    let program = room.write("empty", file)?;
    fs::set_permissions(&program, Permissions::from_mode(0o755)).context("make it executable")?;
    Ok(Some(Shot { program, env: vec![], input: String::new(), tag: "start".into() }))
}

fn measure(compared: &mut Compared, shots: &[(&str, Shot)]) -> Result<()> {
    for (_, shot) in shots {
        shot.fire()?;
    }
    let began = Instant::now();
    for round in 0..ROUNDS {
        if round >= LEAST && began.elapsed() > TIME {
            break;
        }
        for turn in turns(round, shots.len()) {
            let (who, shot) = &shots[turn];
            compared.push(who, shot.fire()?.0.wall_ms);
        }
    }
    Ok(())
}
