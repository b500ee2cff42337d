//! bridge, macspoofchk: a container sends with its own MAC address only.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{bridge, layer2, with};
use harness::room::Room;
use harness::{ip, snapshot, socket};
use serde_json::{Value, json};

use crate::bridge_keys::add;

pub const CASES: &[Case] = &[
    Case::new("macspoofchk/a_frame_from_another_address_is_dropped", &["BR-K13"], dropped),
    Case::new("macspoofchk/check_names_missing_rules", &["BR-R6"], check),
    Case::new("macspoofchk/rules_do_not_grow_with_ports", &["BR-R14"], constant),
];

fn guarded() -> Value {
    with(&bridge("1.1.0"), json!({"macspoofchk": true}))
}

/// Whether an answer arrives within a time that is ample for one that arrives at all.
fn answers(room: &Room, from: &str, to: &str) -> Result<bool> {
    Ok(room.inside(from, || socket::reach(to.parse()?, Duration::from_millis(400))).is_ok())
}

fn dropped(room: &Room) -> Result<()> {
    add(room, &room.container("c1")?, &guarded())?;
    // On the same bridge, without a filter.
    add(room, &room.container("free")?, &bridge("1.1.0"))?;
    for (id, may) in [("c1", false), ("free", true)] {
        ensure!(answers(room, id, "10.1.2.1")?, "{id} with its own address");
        let own = ip::link(Some(id), "eth0")?.map(|link| link["address"].clone()).unwrap_or_default();
        let own = own.as_str().unwrap_or_default().to_owned();
        ip::run_in(id, &["link", "set", "eth0", "address", "02:00:00:00:00:99"])?;
        ensure!(answers(room, id, "10.1.2.1")? == may, "{id} with another address");
        ip::run_in(id, &["link", "set", "eth0", "address", &own])?;
        room.reach(id, "10.1.2.1")?;
    }
    Ok(())
}

fn check(room: &Room) -> Result<()> {
    let config = with(&layer2("1.1.0"), json!({"macspoofchk": true}));
    for (n, (harm, error)) in [
        ("flush set bridge moor macs", "set bridge moor macs"),
        ("flush set bridge moor ports", "set bridge moor ports"),
        ("flush chain bridge moor macspoofchk", "rules of chain bridge moor macspoofchk"),
        ("delete table bridge moor", "chain bridge moor macspoofchk: expected present, actual absent"),
    ]
    .into_iter()
    .enumerate()
    {
        let container = room.container(&format!("c{n}"))?;
        let result = add(room, &container, &config)?;
        let checked = with(&config, json!({"prevResult": result}));
        let check = || room.attach("bridge", "CHECK", &container).config(&checked).run();
        check()?.silent()?;
        super::masquerade::nft(harm)?;
        harness::stage::reapply::mended(&check()?, error)?;
        ensure!(check()?.stderr.is_empty(), "it is not restored");
        super::masquerade::nft(harm)?;
        harness::stage::reapply::forget_records()?;
        check()?.error_with(999, error)?;
        room.attach("bridge", "DEL", &container).config(&checked).run()?.silent()?;
        ensure!(snapshot::rules()?.is_empty(), "after {harm}: {:#?}", snapshot::rules()?);
    }
    Ok(())
}

fn constant(room: &Room) -> Result<()> {
    let rules =
        || -> Result<usize> { Ok(snapshot::rules()?.iter().filter(|line| line.ends_with(" drop")).count()) };
    for n in 0..5 {
        add(room, &room.container(&format!("c{n}"))?, &guarded())?;
        ensure!(rules()? == 1, "{:#?}", snapshot::rules()?);
    }
    Ok(())
}
