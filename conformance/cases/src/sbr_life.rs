//! sbr: CHECK, failed ADDs, DEL, and neighbours in the same namespace.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::diff;
use harness::ip;
use harness::need::Need;
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::two_ways::{addresses, answered, chained, run, two_ways};
use serde_json::{Value, json};

use crate::sbr::{sbr, tables};

pub const CASES: &[Case] = &[
    Case::new("sbr/check_names_every_drift", &["C-043", "SB-B4"], drifts),
    Case::new("sbr/check_accepts_a_route_that_a_neighbour_advertises", &["SB-B4"], advertised),
    Case::new("sbr/a_failed_add_restores_the_main_table", &["C-085", "SB-B5"], failed_add),
    Case::new("sbr/del_matrix", &["C-042", "C-113", "C-114", "SB-6", "SB-B3"], del_matrix),
    Case::new("sbr/del_keeps_what_others_have", &["C-047", "SB-R3"], del_others),
    Case::new("sbr/del_keeps_another_networks_routes", &["C-047", "SB-R3"], another_network),
    Case::new("sbr/del_removes_the_references_rules", &["SB-R4"], of_reference).needs(&[Need::Reference]),
    Case::new("sbr/a_lock_on_the_namespace_makes_nobody_wait", &["SB-B6"], locked),
    Case::new("sbr/gc_and_status_change_nothing", &["C-044", "C-045", "SB-7"], gc_and_status),
    Case::new("sbr/invalid_config_is_refused_before_any_change", &["SB-K1", "SB-K2"], faults),
];

fn drifts(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    run(room, "ADD", &container, 1, &sbr(1))?.result()?;
    let [v4, v6] = &tables(1)?[..] else { anyhow::bail!("not two tables") };
    let [own4, own6] = addresses(1);
    let (lookup4, lookup6) = (format!("from {own4} lookup {v4}"), format!("from {own6} lookup {v6}"));
    let default = format!("default via 10.2.0.1 dev net1 metric 200 table {v4}");
    for (breaks, mends, text) in [
        (format!("rule del {lookup4}"), format!("rule add {lookup4}"), own4.as_str()),
        (format!("-6 rule del {lookup6}"), format!("-6 rule add {lookup6}"), own6.as_str()),
        (format!("route del {default}"), format!("route add {default}"), "via 10.2.0.1"),
        (
            "route add default via 10.2.0.1 dev net1 metric 900 onlink".into(),
            "route del default via 10.2.0.1 dev net1 metric 900".into(),
            "default route of net1 in the main table",
        ),
    ] {
        ip::script(Some("c1"), &breaks)?;
        let error = run(room, "CHECK", &container, 1, &sbr(1))?.error_code(999).context(breaks.clone())?;
        ensure!(error.msg.contains(text), "{breaks}: {error}");
        ip::script(Some("c1"), &mends)?;
        run(room, "CHECK", &container, 1, &sbr(1))?.silent().context(mends)?;
    }
    let configured = chained("sbr", 1, json!({"table": 700}));
    run(room, "CHECK", &container, 1, &configured)?.error_with(999, "lookup 700")?;
    ip::run_in("c1", &["link", "del", "net1"])?;
    run(room, "CHECK", &container, 1, &sbr(1))?.error_with(999, "net1")?;
    Ok(())
}

fn advertised(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    run(room, "ADD", &container, 1, &sbr(1))?.result()?;
    ip::script(Some("c1"), "-6 route add default via fe80::1 dev net1 metric 1024 proto ra")?;
    run(room, "CHECK", &container, 1, &sbr(1))?.silent()
}

fn failed_add(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    ip::script(
        Some("c1"),
        "route add 10.50.0.0/16 nexthop via 10.2.0.1 dev net1 nexthop via 10.2.0.2 dev net1
         -6 route add fd50::/32 via fd02::9 dev net1 metric 50",
    )?;
    let before = room.snapshot_in(&container)?;
    // The kernel refuses a gateway that is the container's own address, after the other family is
    // done.
    let config = chained("sbr", 1, json!({"gateways": ["fd02::5"]}));
    run(room, "ADD", &container, 1, &config)?.error_code(999)?;
    let changes = diff::lines(&before, &room.snapshot_in(&container)?);
    ensure!(changes.is_empty(), "a failed ADD leaves {changes:?}");
    run(room, "DEL", &container, 1, &config)?.silent()?;
    run(room, "ADD", &container, 1, &sbr(1))?.result()?;
    ensure!(answered(room, 1)? == [true; 2], "no answers after an ADD that failed");
    Ok(())
}

fn del_matrix(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let verb = |verb: &str, config: &Value| run(room, verb, &container, 1, config);
    let broken = json!({
        "cniVersion": USUAL, "name": "net", "type": "sbr", "table": "x", "gateways": 7, "addSourceHints": [],
    });
    for config in [sbr(1), with(&sbr(1), json!({"prevResult": null})), broken] {
        verb("ADD", &sbr(1))?.result()?;
        for _ in 0..2 {
            verb("DEL", &config)?.silent().with_context(|| config.to_string())?;
            ensure!(tables(1)?.is_empty(), "{config}: rules are left: {:?}", tables(1)?);
        }
    }
    // The address has left the link, or the link its namespace.
    let without_address = "addr del 10.2.0.5/24 dev net1\n -6 addr del fd02::5/64 dev net1";
    for gone in [without_address, "link del net1"] {
        verb("ADD", &sbr(1))?.result()?;
        ip::script(Some("c1"), gone)?;
        verb("DEL", &sbr(1))?.silent().context(gone)?;
        ensure!(tables(1)?.is_empty(), "{gone}: rules are left: {:?}", tables(1)?);
        if gone == without_address {
            ip::script(Some("c1"), "addr add 10.2.0.5/24 dev net1\n -6 addr add fd02::5/64 dev net1 nodad")?;
        }
    }
    let call = |netns: &str| room.attach("sbr", "DEL", &container).config(&sbr(1)).env("CNI_NETNS", netns);
    room.attach("sbr", "DEL", &container).config(&sbr(1)).unset("CNI_NETNS").run()?.silent()?;
    let files = room.files();
    for netns in ["", "/run/nowhere", "/run/netns/nobody", "/etc/hostname"] {
        call(netns).run()?.silent().with_context(|| format!("namespace {netns:?}"))?;
    }
    ensure!(room.files() == files, "DEL made a file");
    ensure!(std::fs::metadata("/run/netns/nobody").is_err(), "DEL made a namespace's file");
    Ok(())
}

fn del_others(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    for nth in [0, 1] {
        run(room, "ADD", &container, nth, &sbr(nth))?.result()?;
    }
    ip::script(
        Some("c1"),
        "rule add from 10.2.0.5 lookup 777
         rule add from 10.2.0.5 fwmark 3 lookup 778 protocol 109
         rule add from 10.99.0.5 lookup 779
         route add 10.77.0.0/16 dev net1 table 777",
    )?;
    let first = tables(0)?;
    run(room, "DEL", &container, 1, &sbr(1))?.silent()?;
    ensure!(tables(0)? == first && first.len() == 2, "the other interface's rules: {:?}", tables(0)?);
    ensure!(answered(room, 0)? == [true; 2], "the other interface does not answer");
    let mut left = tables(1)?;
    left.sort();
    ensure!(left == ["777", "778"], "of the administrator's rules {left:?} are left");
    let rules = ip::rows(Some("c1"), &["-N", "rule", "show", "from", "10.99.0.5"])?;
    ensure!(rules.len() == 1, "the administrator's rule for another address is gone");
    let routes = ip::rows(Some("c1"), &["-N", "route", "show", "table", "777"])?;
    ensure!(routes.len() == 1, "the administrator's route is gone");
    Ok(())
}

/// Two networks are meant for one interface: ADD of the second is refused, and its DEL follows.
fn another_network(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    let config = json!({"cniVersion": USUAL, "name": "net", "type": "sbr", "prevResult": previous});
    let verb = |verb: &str, config: &Value| room.attach("sbr", verb, &container).config(config).run();
    verb("ADD", &config)?.result()?;
    let other = with(&config, json!({"name": "other", "prevResult": null}));
    verb("DEL", &other)?.silent()?;
    verb("CHECK", &config)?.silent().context("after another network's DEL")?;
    // A renamed network: the runtime remembers the host's link.
    verb("DEL", &with(&config, json!({"name": "renamed"})))?.silent()?;
    verb("CHECK", &config)?.error_with(999, "rule")?;
    Ok(())
}

fn of_reference(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    ip::run_in("c1", &["rule", "add", "from", "10.2.0.5", "lookup", "777"])?;
    let program = room.reference.join("sbr");
    let call = Call::new(room, program).env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "c1");
    let call = call.env("CNI_NETNS", &container.path).env("CNI_IFNAME", "net1");
    call.env("CNI_PATH", &room.reference).config(&sbr(1)).run()?.result()?;
    ensure!(tables(1)?.len() == 3, "the reference made {:?}", tables(1)?);
    run(room, "DEL", &container, 1, &sbr(1))?.silent()?;
    ensure!(tables(1)? == ["777"], "left: {:?}", tables(1)?);
    Ok(())
}

fn locked(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let held = File::open(&container.path).context("open the namespace")?;
    held.lock().context("lock the namespace")?;
    // So that who waits for it is only late.
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(6));
        drop(held);
    });
    for verb in ["ADD", "CHECK", "DEL"] {
        let answer = run(room, verb, &container, 1, &sbr(1))?;
        ensure!(answer.succeeded(), "{verb}: {}", answer.summary());
        ensure_prompt(verb, answer.took, Duration::from_secs(5))?;
    }
    Ok(())
}

fn gc_and_status(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    run(room, "ADD", &container, 1, &sbr(1))?.result()?;
    let before = (room.snapshot()?, room.snapshot_in(&container)?);
    let config =
        json!({"cniVersion": "1.1.0", "name": "net", "type": "sbr", "cni.dev/valid-attachments": []});
    for verb in ["GC", "STATUS"] {
        room.call("sbr", verb).config(&config).run()?.silent().context(verb)?;
    }
    ensure!(before == (room.snapshot()?, room.snapshot_in(&container)?), "GC or STATUS changed something");
    Ok(())
}

fn faults(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = room.snapshot_in(&container)?;
    for (keys, text) in [
        (json!({"table": 0}), "invalid table 0"),
        (json!({"table": -7}), "invalid table -7"),
        (json!({"gateways": ["10.2.0.1", "10.2.0.2"]}), "more than one IPv4 gateway"),
        (json!({"gateways": ["somewhere"]}), "invalid gateway"),
    ] {
        let config = chained("sbr", 1, keys);
        for verb in ["ADD", "CHECK"] {
            run(room, verb, &container, 1, &config)?
                .refused(text)
                .with_context(|| format!("{verb} {config}"))?;
        }
        run(room, "DEL", &container, 1, &config)?.silent().with_context(|| config.to_string())?;
    }
    ensure!(room.snapshot_in(&container)? == before, "a refused call changed something");
    Ok(())
}
