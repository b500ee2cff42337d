//! bandwidth: repeated, failed, deleted and collected attachments, and those of the reference.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::portmap::bridged;
use serde_json::{Value, json};

use crate::bandwidth::{bandwidth, both, bucket, call, ifb, qdiscs, reference, shaped, tc, veth};

pub const CASES: &[Case] = &[
    Case::new("bandwidth_life/a_repeated_add_replaces", &["BW-B1"], repeated),
    Case::new("bandwidth_life/a_failed_add_leaves_nothing", &["BW-B2", "BW-R3"], failed),
    Case::new("bandwidth_life/del_matrix_leaves_nothing", &["C-042", "BW-6", "BW-B7"], del_matrix),
    Case::new("bandwidth_life/del_keeps_what_is_anothers", &["BW-R3"], others),
    Case::new("bandwidth_life/two_interfaces_of_a_container_have_an_ifb_each", &["BW-B6"], two),
    Case::new("bandwidth_life/gc_removes_invalid_attachments", &["C-045", "C-046", "BW-R1"], gc),
    Case::new("bandwidth_life/each_suite_takes_what_the_other_made", &["BW-L1", "BW-L2"], migration)
        .needs(&[Need::Reference]),
    Case::new("bandwidth_life/packets_pass_after_del", &["BW-B7", "BW-R5"], after_del),
];

fn repeated(room: &Room) -> Result<()> {
    let (container, config, result) = shaped(room, "c1", &both())?;
    let (veth, ifb) = (veth(&config)?, ifb(&result).context("no ifb")?);
    let before = room.snapshot()?;
    let again = call(room, "ADD", &container, &config)?.result()?;
    ensure!(again == result, "{again}");
    room.ensure_unchanged(&before, "after the same ADD")?;
    let filters = ip::output("tc", &["filter", "show", "dev", &veth, "ingress"])?;
    ensure!(filters.matches("Redirect").count() == 1, "{filters}");
    // The result of this plugin as its own previous result: the link is not named twice.
    let chained = with(&config, json!({"prevResult": result}));
    let named = call(room, "ADD", &container, &chained)?.result()?;
    ensure!(named["interfaces"] == result["interfaces"], "{named}");
    let faster = with(&config, json!({"egressRate": 32_000_000, "ingressRate": null, "ingressBurst": null}));
    call(room, "ADD", &container, &faster)?.result()?;
    ensure!(bucket(&ifb)?.starts_with("32Mbit"), "{}", bucket(&ifb)?);
    ensure!(!qdiscs(&veth)?.join("").contains("tbf"), "{:?}", qdiscs(&veth)?);
    call(room, "CHECK", &container, &faster)?.silent()?;
    let inward = json!({"ingressRate": 8_000_000, "egressRate": null, "egressBurst": null});
    let inward = with(&config, inward);
    let result = call(room, "ADD", &container, &inward)?.result()?;
    ensure!(result["interfaces"] == config["prevResult"]["interfaces"], "{result}");
    ensure!(ip::link(None, &ifb)?.is_none(), "{ifb} is left");
    ensure!(qdiscs(&veth)?.len() == 1, "{:?}", qdiscs(&veth)?);
    call(room, "CHECK", &container, &inward)?.silent()
}

fn failed(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let config = bandwidth(&both(), &previous);
    let link = veth(&config)?;
    // Found last: everything else is there by then.
    tc(&format!("qdisc add dev {link} clsact"))?;
    tc(&format!("filter add dev {link} ingress protocol ip prio 9 u32 match u32 0 0 flowid 1:7"))?;
    let before = room.snapshot()?;
    call(room, "ADD", &container, &config)?.refused("filters of another program")?;
    room.ensure_unchanged(&before, "after an ADD beside another program's filter")?;
    tc(&format!("filter del dev {link} ingress"))?;
    // An empty place of another program is used, and kept.
    let before = room.snapshot()?;
    call(room, "ADD", &container, &config)?.result()?;
    call(room, "DEL", &container, &config)?.silent()?;
    room.ensure_unchanged(&before, "after ADD and DEL beside clsact")?;
    tc(&format!("qdisc add dev {link} root handle 1: htb"))?;
    let before = room.snapshot()?;
    call(room, "ADD", &container, &config)?.refused("htb 1:, which is not this attachment's")?;
    room.ensure_unchanged(&before, "after an ADD beside another discipline")
}

/// {namespace fine, empty, gone} x {the same configuration, none, a broken one}, with prevResult
/// and without, twice each.
fn del_matrix(room: &Room) -> Result<()> {
    bridged(room, "first")?;
    let before = room.snapshot()?;
    for case in 0..9 {
        let (netns, prev, keys) = (case % 3, case % 2 == 0, case / 3);
        let context = || format!("namespace {netns}, prevResult {prev}, configuration {keys}");
        let id = format!("c{case}");
        let (container, config, result) = shaped(room, &id, &both())?;
        let mut asked = match keys {
            0 => config.clone(),
            1 => bandwidth(&json!({}), &Value::Null),
            _ => bandwidth(&json!({"ingressRate": "fast", "egressBurst": 8}), &Value::Null),
        };
        asked["prevResult"] = if prev { result.clone() } else { Value::Null };
        if netns == 2 {
            room.remove(&container)?;
        }
        for time in ["once", "twice"] {
            let call = room.attach("bandwidth", "DEL", &container).config(&asked);
            let call = if netns == 1 { call.env("CNI_NETNS", "") } else { call };
            call.run()?.silent().with_context(context)?;
            let left = ip::links(None)?;
            ensure!(!left.iter().any(|name| name.starts_with("bwp")), "{}, {time}: {left:?}", context());
        }
        let veth = veth(&config)?;
        if netns != 2 {
            ensure!(qdiscs(&veth)?.is_empty(), "{}: {:?}", context(), qdiscs(&veth)?);
        }
        room.attach("bridge", "DEL", &container).config(&bridge(USUAL)).run()?.silent()?;
        room.ensure_nothing_left(&before, &[&id]).with_context(context)?;
    }
    Ok(())
}

/// Another attachment, other names of its kind, and a discipline that replaced ours.
fn others(room: &Room) -> Result<()> {
    let (_, other, _) = shaped(room, "other", &both())?;
    let (container, config, result) = shaped(room, "c1", &both())?;
    let (link, ifb) = (veth(&config)?, ifb(&result).context("no ifb")?);
    ip::script(
        None,
        "link add bwp012345678901 type ifb\n link set bwp012345678901 alias moor/net/eth0/other",
    )?;
    tc(&format!("qdisc replace dev {link} root handle 7: htb"))?;
    let before = room.snapshot()?;
    call(room, "DEL", &container, &config)?.silent()?;
    let changes = room.changes_since(&before)?;
    ensure!(changes.iter().all(|line| line.contains(&ifb) || line.contains("ingress")), "{changes:#?}");
    ensure!(qdiscs(&link)?.len() == 1 && bucket(&veth(&other)?).is_ok(), "{:?}", qdiscs(&link)?);
    // A DEL of another network, of another interface, and of another container.
    let before = room.snapshot()?;
    let (owner, config) = (room.container("stranger")?, with(&other, json!({"name": "net2"})));
    call(room, "DEL", &owner, &other)?.silent()?;
    let kept = harness::namespace::Container { id: "other".into(), ..owner };
    call(room, "DEL", &kept, &config)?.silent()?;
    room.attach("bandwidth", "DEL", &kept).config(&other).env("CNI_IFNAME", "eth1").run()?.silent()?;
    room.ensure_unchanged(&before, "after the DEL of others")
}

fn two(room: &Room) -> Result<()> {
    let (container, config, first) = shaped(room, "c1", &both())?;
    let before = ip::links(None)?;
    let at = |plugin: &str, verb: &str, config: &Value| {
        room.attach(plugin, verb, &container).config(config).env("CNI_IFNAME", "eth1").run()
    };
    let previous = at("bridge", "ADD", &bridge(USUAL))?.result()?;
    let second = bandwidth(&both(), &previous);
    let result = at("bandwidth", "ADD", &second)?.result()?;
    ensure!(ifb(&first) != ifb(&result) && ifb(&result).is_some(), "{first} and {result}");
    at("bandwidth", "CHECK", &second)?.silent()?;
    call(room, "CHECK", &container, &config)?.silent()?;
    at("bandwidth", "DEL", &second)?.silent()?;
    at("bridge", "DEL", &bridge(USUAL))?.silent()?;
    ensure!(ip::links(None)? == before, "{:?}", ip::links(None)?);
    call(room, "CHECK", &container, &config)?.silent()
}

fn gc(room: &Room) -> Result<()> {
    let (kept, config, _) = shaped(room, "c1", &both())?;
    let stale = [shaped(room, "c2", &both())?, shaped(room, "c3", &both())?];
    let base = json!({"cniVersion": "1.1.0", "name": "net", "type": "bandwidth"});
    let collect = |keys: Value| room.call("bandwidth", "GC").config(&with(&base, keys)).run()?.silent();
    let before = room.snapshot()?;
    collect(json!({}))?;
    collect(json!({"name": "net2", "cni.dev/valid-attachments": []}))?;
    room.ensure_unchanged(&before, "GC without a list, and of another network")?;
    collect(json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}))?;
    for (_, config, result) in &stale {
        let link = ifb(result).context("no ifb")?;
        ensure!(ip::link(None, &link)?.is_none(), "{link} is left");
        // Packets pass until the container is collected too.
        let all = qdiscs(&veth(config)?)?.join("; ");
        ensure!(!all.contains("ingress"), "{all}");
    }
    call(room, "CHECK", &kept, &config)?.silent()
}

fn migration(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let (container, previous) = bridged(room, "c1")?;
    let config = bandwidth(&both(), &previous);
    let theirs = |verb| reference(room, verb, &container, &config).run();
    let ours = |verb| call(room, verb, &container, &config);
    let result = ours("ADD")?.result()?;
    theirs("CHECK")?.silent()?;
    theirs("DEL")?.silent()?;
    ensure!(
        ip::link(None, &ifb(&result).context("no ifb")?)?.is_none(),
        "the reference's DEL finds the link"
    );
    ours("DEL")?.silent()?;
    theirs("ADD")?.result()?;
    ours("CHECK")?.silent()?;
    ours("DEL")?.silent()?;
    ensure!(!ip::links(None)?.iter().any(|name| name.starts_with("bwp")), "{:?}", ip::links(None)?);
    tc(&format!("qdisc del dev {} root", veth(&config)?))?;
    theirs("ADD")?.result()?;
    // Ours in place of theirs.
    ours("ADD")?.result()?;
    ours("CHECK")?.silent()?;
    ours("DEL")?.silent()?;
    ensure!(qdiscs(&veth(&config)?)?.is_empty(), "{:?}", qdiscs(&veth(&config)?)?);
    room.attach("bridge", "DEL", &container).config(&bridge(USUAL)).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

/// Also after the reference's DEL, which leaves a filter that leads to nowhere.
fn after_del(room: &Room) -> Result<()> {
    let (container, config, result) = shaped(room, "c1", &both())?;
    let link = ifb(&result).context("no ifb")?;
    let addresses = ip::rows(None, &["addr", "show", "dev", &link])?;
    ensure!(!addresses.iter().any(|row| row.to_string().contains("fe80")), "{addresses:?}");
    room.reach("c1", "10.1.2.1")?;
    call(room, "DEL", &container, &config)?.silent()?;
    room.reach("c1", "10.1.2.1")?;
    call(room, "ADD", &container, &config)?.result()?;
    ip::run(&["link", "del", &link])?;
    call(room, "DEL", &container, &config)?.silent()?;
    room.reach("c1", "10.1.2.1")
}
