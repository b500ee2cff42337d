//! vrf: CHECK, failed ADDs, DEL, and configurations.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::two_ways::{chained, run, two_ways};
use serde_json::{Value, json};

use crate::vrf::{VRF, ensure_same, state, table, vrf};

pub const CASES: &[Case] = &[
    Case::new("vrf/check_names_every_drift", &["C-043", "VR-4"], drifts).needs(VRF),
    Case::new("vrf/a_failed_add_leaves_nothing", &["C-085", "VR-3", "VR-R6"], failed_add).needs(VRF),
    Case::new("vrf/del_matrix", &["C-042", "C-113", "C-114", "VR-6", "VR-B2", "VR-B4"], del_matrix)
        .needs(VRF),
    Case::new("vrf/del_keeps_another_networks_interface", &["C-047", "VR-6"], another_network).needs(VRF),
    Case::new("vrf/status_is_50_where_the_kernel_lacks_a_feature", &["C-044", "VR-7"], status),
    Case::new("vrf/del_succeeds_without_a_vrf", &["C-042", "VR-6", "VR-B4"], del_without),
    Case::new("vrf/invalid_config_is_refused_before_any_change", &["VR-K1", "VR-K2"], faults),
];

fn drifts(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let check = |config: &Value| run(room, "CHECK", &container, 1, config);
    run(room, "ADD", &container, 1, &vrf(1))?.result()?;
    check(&vrf(1))?.silent()?;
    check(&with(&vrf(1), json!({"table": 77})))?.error_with(999, "table of red: expected 77")?;
    for (breaks, mends, text) in [
        ("link set net1 nomaster", "link set net1 master red", "master of net1: expected red, actual none"),
        ("link set red down", "link set red up", "state of red: expected up"),
    ] {
        ip::script(Some("c1"), breaks)?;
        check(&vrf(1))?.error_with(999, text).context(breaks)?;
        ip::script(Some("c1"), mends)?;
        check(&vrf(1))?.silent().context(mends)?;
    }
    ip::script(Some("c1"), "link del red")?;
    check(&vrf(1))?.error_with(999, "interface red: expected present")?;
    ip::script(Some("c1"), "link add red type bridge")?;
    check(&vrf(1))?.error_with(999, "kind of red: expected vrf")?;
    Ok(())
}

fn failed_add(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    // The VRF is made before the interface turns out to be in another device.
    ip::script(Some("c1"), "link add blue type vrf table 72\n link set net1 master blue")?;
    let before = state(room)?;
    run(room, "ADD", &container, 1, &vrf(1))?.error_with(999, "has already a master set: blue")?;
    ensure!(table()?.is_none(), "the VRF is left");
    ensure_same(room, &before, "a failed ADD leaves")?;
    ip::script(Some("c1"), "link add red type bridge")?;
    let before = state(room)?;
    run(room, "ADD", &container, 1, &vrf(1))?.error_with(999, "no VRF")?;
    run(room, "DEL", &container, 1, &vrf(1))?.silent()?;
    ensure_same(room, &before, "a refused ADD leaves")
}

fn del_matrix(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = state(room)?;
    let verb = |verb: &str, config: &Value| run(room, verb, &container, 1, config);
    let bare = json!({"cniVersion": USUAL, "name": "net", "type": "vrf"});
    let broken = with(&bare, json!({"vrfname": 5, "table": "x"}));
    let renamed = with(&bare, json!({"vrfname": "green"}));
    for config in [vrf(1), with(&vrf(1), json!({"prevResult": null})), bare, broken, renamed] {
        verb("ADD", &vrf(1))?.result()?;
        for _ in 0..2 {
            verb("DEL", &config)?.silent().with_context(|| config.to_string())?;
            ensure_same(room, &before, "DEL leaves").with_context(|| config.to_string())?;
        }
    }
    verb("ADD", &vrf(1))?.result()?;
    ip::run_in("c1", &["link", "del", "net1"])?;
    verb("DEL", &vrf(1))?.silent().context("without the interface")?;
    ensure!(table()?.is_none(), "the VRF is left");
    let call = |netns: &str| room.attach("vrf", "DEL", &container).config(&vrf(1)).env("CNI_NETNS", netns);
    for netns in ["", "/run/nowhere", "/etc/hostname"] {
        call(netns).run()?.silent().with_context(|| format!("namespace {netns:?}"))?;
    }
    Ok(())
}

/// Two networks are meant for one interface: ADD of the second is refused, and its DEL follows.
fn another_network(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous = room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    let config = with(&vrf(0), json!({"prevResult": previous}));
    let verb = |verb: &str, config: &Value| room.attach("vrf", verb, &container).config(config).run();
    verb("ADD", &config)?.result()?;
    verb("DEL", &with(&config, json!({"name": "other", "prevResult": null})))?.silent()?;
    verb("CHECK", &config)?.silent().context("after another network's DEL")?;
    verb("DEL", &with(&config, json!({"name": "renamed"})))?.silent()?;
    ensure!(table()?.is_none(), "the VRF is left after DEL of a renamed network");
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = state(room)?;
    let current = with(&vrf(1), json!({"cniVersion": "1.1.0"}));
    let answer = room.call("vrf", "STATUS").config(&current).run()?;
    let gc = with(&current, json!({"cni.dev/valid-attachments": []}));
    room.call("vrf", "GC").config(&gc).run()?.silent()?;
    ensure_same(room, &before, "STATUS or GC changes")?;
    if Need::Vrf.probe(&room.suite, &room.reference).is_ok() {
        return answer.silent();
    }
    answer.error_with(50, "CONFIG_NET_VRF")?;
    run(room, "ADD", &container, 1, &current)?.error_with(999, "CONFIG_NET_VRF")?;
    ensure_same(room, &before, "a refused ADD leaves")?;
    run(room, "DEL", &container, 1, &current)?.silent()
}

fn del_without(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = state(room)?;
    let bare = json!({"cniVersion": USUAL, "name": "net", "type": "vrf"});
    for config in
        [vrf(1), bare.clone(), with(&bare, json!({"vrfname": "a/b"})), with(&bare, json!({"vrfname": 7}))]
    {
        run(room, "DEL", &container, 1, &config)?.silent().with_context(|| config.to_string())?;
    }
    ensure_same(room, &before, "DEL changes")
}

fn faults(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = state(room)?;
    for (keys, text) in [
        (json!({}), "configuration is expected to have a valid vrf name"),
        (json!({"vrfname": "a/b"}), "invalid vrfname"),
        (json!({"vrfname": "sixteen-letters-"}), "invalid vrfname"),
        (json!({"vrfname": "net1"}), "name of the interface"),
        (json!({"vrfname": "red", "table": 255}), "invalid table 255"),
        (json!({"vrfname": "red", "table": -7}), "invalid table -7"),
    ] {
        let config = chained("vrf", 1, keys);
        for verb in ["ADD", "CHECK"] {
            run(room, verb, &container, 1, &config)?
                .refused(text)
                .with_context(|| format!("{verb} {config}"))?;
        }
    }
    ensure_same(room, &before, "a refused call changes")
}
