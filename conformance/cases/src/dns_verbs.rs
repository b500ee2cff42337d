//! dns: DEL, CHECK, GC, STATUS.

use std::fs;
use std::net::UdpSocket;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::room::Room;
use harness::stage::dns::{
    GATEWAYS, Named, OTHER_GATEWAY, call, expect, kill_responder, other_bridge, records, resolve,
};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("dns/del_succeeds_in_every_state", &["C-042", "D-065"], del_matrix),
    Case::new("dns/check_reports_every_drift", &["C-043", "D-066"], drifts),
    Case::new("dns/gc_removes_invalid_attachments", &["C-045", "D-067"], gc),
    Case::new("dns/status_reports_whether_add_would_succeed", &["C-044", "D-110"], status),
];

/// {namespace fine, unset, gone} x {prevResult, none} x {record, broken record} x {responder,
/// none}, twice each.
fn del_matrix(room: &Room) -> Result<()> {
    let first = Named::add(room, "first", "first", json!({}))?;
    for case in 0..24 {
        let (netns, prev, broken, dead) = (case % 3, case / 3 % 2 == 0, case / 6 % 2 == 1, case / 12 == 1);
        let context = || format!("namespace {netns}, prevResult {prev}, broken {broken}, dead {dead}");
        let id = format!("c{case}");
        let named = Named::add(room, &id, "web", json!({}))?;
        let record = records().into_iter().find(|path| path.ends_with(format!("{id}@eth0.json")));
        let record = record.with_context(|| format!("no record of {id}"))?;
        if broken {
            fs::write(&record, "{")?;
        }
        if dead {
            kill_responder()?;
        }
        if netns == 2 {
            room.remove(&named.container)?;
        }
        let config = if prev {
            named.config.clone()
        } else {
            with(&named.config, json!({"prevResult": null, "ttl": "x"}))
        };
        for time in ["once", "twice"] {
            let call = call(room, "DEL", &named.container, "", &config);
            let call = if netns == 1 { call.env("CNI_NETNS", "") } else { call };
            call.run()?.silent().with_context(|| format!("{}, {time}", context()))?;
            ensure!(!record.exists(), "{}, {time}: the record is still there", context());
        }
        expect(room, None, GATEWAYS[0], "first", &[&first.address(false)]).with_context(context)?;
        ensure!(
            resolve(room, None, GATEWAYS[0], "web.net")?.is_empty(),
            "{}: the name is still found",
            context()
        );
        let bridge = harness::config::bridge(USUAL);
        room.attach("bridge", "DEL", &named.container).config(&bridge).run()?.silent()?;
    }
    Ok(())
}

fn drifts(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    named.verb(room, "CHECK")?.silent()?;
    let record = records().remove(0);
    let right = fs::read_to_string(&record)?;
    fs::remove_file(&record)?;
    named.verb(room, "CHECK")?.error_with(999, "not recorded")?;
    for (from, to, word) in [("10.1.2.2", "10.1.2.99", "addresses"), ("\"web\"", "\"wob\"", "names")] {
        fs::write(&record, right.replace(from, to))?;
        named.verb(room, "CHECK")?.error_with(999, word)?;
    }
    fs::write(&record, "{")?;
    named.verb(room, "CHECK")?.error()?;
    fs::write(&record, &right)?;
    named.verb(room, "CHECK")?.silent()?;
    // CHECK repairs what it can.
    ip::output("nft", &["flush", "ruleset"])?;
    named.verb(room, "CHECK")?.silent()?;
    ensure!(ip::output("nft", &["list", "ruleset"])?.contains("resolvers4"), "the rules are still missing");
    // A responder that cannot be restarted: another process has its port.
    kill_responder()?;
    let taken = UdpSocket::bind((GATEWAYS[0], 53))?;
    named.verb(room, "CHECK")?.error_with(999, GATEWAYS[0])?;
    drop(taken);
    named.verb(room, "CHECK")?.silent()
}

fn gc(room: &Room) -> Result<()> {
    let keep = Named::add(room, "keep", "keep", json!({}))?;
    let stale = Named::add(room, "stale", "stale", json!({}))?;
    let other = Named::behind(room, "other", "other", &other_bridge(), json!({}))?;
    let valid = json!([{"containerID": "keep", "ifname": "eth0"}]);
    let keys = json!({
        "cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": valid, "cni.dev/attachments": valid,
    });
    let run = |keys: Value| room.call("dns", "GC").config(&with(&keep.config, keys)).run();
    run(json!({"cniVersion": "1.1.0", "prevResult": null}))?.silent()?;
    ensure!(records().len() == 3, "removed without a list of valid attachments: {:?}", records());
    run(keys)?.silent()?;
    ensure!(records().len() == 2, "{:?}", records());
    expect(room, Some("keep"), GATEWAYS[0], "keep", &[&keep.address(false)])?;
    ensure!(resolve(room, Some("keep"), GATEWAYS[0], "stale.net")?.is_empty(), "stale is still found");
    expect(room, Some("other"), OTHER_GATEWAY, "other", &[&other.address(false)])?;
    stale.del(room)?;
    run(json!({"cniVersion": "1.1.0", "prevResult": null, "cni.dev/valid-attachments": []}))?.silent()?;
    ensure!(records().len() == 1, "{:?}", records());
    let rules = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!rules.contains(GATEWAYS[0]) && rules.contains(OTHER_GATEWAY), "{rules}");
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "dns"});
    let run = |keys: Value| room.call("dns", "STATUS").config(&with(&config, keys)).run();
    run(json!({}))?.silent()?;
    fs::write(room.scratch("file"), "")?;
    run(json!({"stateDir": room.scratch("file").join("x")}))?.error_code(50)?;
    run(json!({"ttl": -1}))?.error_code(7)?;
    let named = Named::add(room, "c1", "web", json!({}))?;
    run(json!({}))?.silent()?;
    // A record of a later version is reported, and kept.
    let record = records().remove(0);
    let later = fs::read_to_string(&record)?.replace("\"v\":1", "\"v\":2");
    fs::write(&record, &later)?;
    run(json!({}))?.error_code(51)?;
    ensure!(fs::read_to_string(&record)? == later, "the file was changed");
    named.del(room)?;
    run(json!({}))?.silent()
}
