//! loopback DEL: `lo` is set down with the attachment that set it up, and with no other.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, smallest, with};
use harness::ip;
use harness::namespace::Container;
use harness::room::Room;
use serde_json::json;

use crate::loopback::is_up;

pub const CASES: &[Case] = &[
    Case::new("loopback/late_del_keeps_the_new_containers_lo", &["LO-L1"], late),
    Case::new("loopback/del_of_another_network_keeps_lo", &["LO-L1"], other_network),
    Case::new("loopback/del_keeps_lo_up_if_others_brought_it_up", &["LO-L1"], brought_up_by_others),
    Case::new("loopback/failed_add_leaves_lo_and_its_label", &["C-065", "LO-L1"], failed_add),
];

fn late(room: &Room) -> Result<()> {
    let config = smallest("loopback", USUAL);
    let dead = room.container("c1")?;
    room.attach("loopback", "ADD", &dead).config(&config).run()?.result()?;
    // First the same namespace, which the runtime gave to another container; then a new one.
    for again in [false, true] {
        if again {
            room.remove(&dead)?;
            room.container("c1")?;
        }
        let alive = Container { id: format!("new-{again}"), ..dead.clone() };
        room.attach("loopback", "ADD", &alive).config(&config).run()?.result()?;
        room.attach("loopback", "DEL", &dead).config(&config).run()?.silent()?;
        ensure!(is_up("c1")?, "same namespace {}: the new container's lo is down", !again);
        room.attach("loopback", "DEL", &alive).config(&config).run()?.silent()?;
        ensure!(!is_up("c1")?, "its own DEL leaves lo up");
    }
    Ok(())
}

fn other_network(room: &Room) -> Result<()> {
    let config = smallest("loopback", USUAL);
    let other = with(&config, json!({"name": "other"}));
    let container = room.container("c1")?;
    room.attach("loopback", "ADD", &container).config(&config).run()?.result()?;
    for add in [false, true] {
        if add {
            room.attach("loopback", "ADD", &container).config(&other).run()?.result()?;
        }
        room.attach("loopback", "DEL", &container).config(&other).run()?.silent()?;
        room.attach("loopback", "DEL", &container)
            .env("CNI_IFNAME", "eth9")
            .config(&config)
            .run()?
            .silent()?;
        ensure!(is_up("c1")?, "another attachment's DEL takes lo down");
    }
    room.attach("loopback", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(!is_up("c1")?, "its own DEL leaves lo up");
    Ok(())
}

fn brought_up_by_others(room: &Room) -> Result<()> {
    let config = smallest("loopback", USUAL);
    let container = room.container("c1")?;
    ip::run_in("c1", &["link", "set", "lo", "up"])?;
    for verb in ["DEL", "ADD", "DEL"] {
        room.attach("loopback", verb, &container).config(&config).run()?;
        ensure!(is_up("c1")?, "{verb} takes lo down, which the runtime brought up");
    }
    Ok(())
}

fn failed_add(room: &Room) -> Result<()> {
    let config = smallest("loopback", USUAL);
    let container = room.container("c1")?;
    ip::run_in("c1", &["addr", "add", "10.9.9.9/32", "dev", "lo"])?;
    for (up, alias) in [(false, "mine"), (true, "moor/net/eth0/another")] {
        ip::run_in("c1", &["link", "set", "lo", if up { "up" } else { "down" }, "alias", alias])?;
        room.attach("loopback", "ADD", &container).config(&config).run()?.error_code(999)?;
        let lo = ip::link(Some("c1"), "lo")?.context("no lo")?;
        ensure!(is_up("c1")? == up && lo["ifalias"] == alias, "was up: {up}, labelled {alias}: {lo}");
    }
    Ok(())
}
