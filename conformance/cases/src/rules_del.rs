//! bridge DEL and GC leave no packet rule, whatever is missing, and whichever suite made it.

use std::fs::File;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::{ip, snapshot};
use serde_json::{Value, json};

use crate::bridge_keys::add;
use crate::masquerade::masquerade;

pub const CASES: &[Case] = &[
    Case::new("rules/del_matrix_leaves_no_rules", &["C-042", "BR-B7"], matrix),
    Case::new("rules/del_keeps_other_attachments_rules", &["C-047", "BR-B9"], others),
    Case::new("rules/gc_removes_invalid_attachments", &["C-045", "BR-R2"], gc),
    Case::new("rules/failed_add_leaves_no_rules", &["C-085", "BR-R1"], failed_add),
    Case::new("rules/del_removes_the_references_rules", &["BR-R5"], migration).needs(&[Need::Reference]),
    Case::new("rules/both_suites_work_side_by_side", &["BR-R19"], side_by_side).needs(&[Need::Reference]),
    Case::new("rules/del_and_gc_remove_the_references_nftables_rules", &["BR-R5"], reference_nftables),
];

/// With both kinds of packet rules.
fn config() -> Value {
    with(&masquerade(), json!({"macspoofchk": true}))
}

/// {namespace fine, empty, gone} x {prevResult, none} x {same name, renamed} x {other attachments,
/// none}, twice each.
fn matrix(room: &Room) -> Result<()> {
    for others in [false, true] {
        if others {
            add(room, &room.container("other")?, &config())?;
        }
        for (n, (netns, prev, renamed)) in ["fine", "empty", "gone"]
            .into_iter()
            .flat_map(|netns| [(netns, true), (netns, false)])
            .flat_map(|(netns, prev)| [(netns, prev, false), (netns, prev, true)])
            .enumerate()
        {
            let what = format!("others {others}, namespace {netns}, prevResult {prev}, renamed {renamed}");
            let before = snapshot::rules()?;
            ensure!(before.is_empty() != others, "{what}: {before:?}");
            let container = room.container(&format!("c{n}-{others}"))?;
            let result = add(room, &container, &config())?;
            let held = File::open(&container.path)?;
            if netns == "gone" {
                room.remove(&container)?;
            }
            let mut config = config();
            if prev {
                config["prevResult"] = result.clone();
            }
            if renamed {
                config["name"] = "renamed".into();
            }
            // Without prevResult, a renamed network's rules are kept while their attachment exists.
            if renamed && !prev && netns != "gone" {
                let made = snapshot::rules()?;
                room.attach("bridge", "DEL", &container).config(&config).run()?.silent()?;
                ensure!(snapshot::rules()? == made, "{what}: the rules of an existing attachment are gone");
            }
            if renamed && !prev {
                let veth = result["interfaces"][1]["name"].as_str().context("no host veth")?.to_owned();
                ip::run(&["link", "del", &veth]).ok();
            }
            for time in ["once", "twice"] {
                let call = room.attach("bridge", "DEL", &container).config(&config);
                let call = if netns == "empty" { call.env("CNI_NETNS", "") } else { call };
                call.run()?.silent().with_context(|| format!("{what}, {time}"))?;
                let after = snapshot::rules()?;
                ensure!(after == before, "{what}, {time}, left: {after:#?}");
            }
            drop(held);
            if renamed {
                // Its lease still belongs to the old name.
                room.attach("bridge", "DEL", &container).config(&self::config()).run()?.silent()?;
            }
        }
    }
    Ok(())
}

fn others(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    add(room, &container, &config())?;
    let before = snapshot::rules()?;
    let del = || room.attach("bridge", "DEL", &container).config(&config()).env("CNI_NETNS", "");
    del().env("CNI_IFNAME", "eth1").run()?.silent()?;
    del().env("CNI_CONTAINERID", "c").run()?.silent()?;
    del().env("CNI_CONTAINERID", "c11").run()?.silent()?;
    ensure!(snapshot::rules()? == before, "changed: {:#?}", snapshot::rules()?);
    // A network with a configuration that makes no rules (any more) keeps none either.
    let without = with(&config(), json!({"ipMasq": false, "macspoofchk": false}));
    room.attach("bridge", "DEL", &container).config(&without).run()?.silent()?;
    ensure!(snapshot::rules()?.is_empty(), "left: {:#?}", snapshot::rules()?);
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    let other = with(
        &config(),
        json!({"name": "other", "bridge": "br1", "ipam": {"type": "host-local", "subnet": "10.5.0.0/24"}}),
    );
    add(room, &room.container("foreign")?, &other)?;
    add(room, &room.container("c1")?, &config())?;
    let before = snapshot::rules()?;
    for id in ["c2", "c3"] {
        add(room, &room.container(id)?, &config())?;
    }
    // c3's namespace and link are gone, as after a crash of the runtime.
    room.remove(&Container { id: "c3".into(), path: "/run/netns/c3".into() })?;
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}, {"containerID": "c2", "ifname": "eth9"}]);
    let collect = |valid: &Value| {
        let keys = json!({"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid});
        room.call("bridge", "GC").config(&with(&config(), keys)).run()?.silent()
    };
    for _ in 0..2 {
        collect(&valid)?;
        ensure!(snapshot::rules()? == before, "left: {:#?}", snapshot::rules()?);
    }
    collect(&json!([]))?;
    let rules = snapshot::rules()?.join("\n");
    ensure!(!rules.contains("moor/net/") && rules.contains("moor/other/eth0/foreign"), "{rules}");
    Ok(())
}

fn failed_add(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    // A route that the kernel refuses, after the rules are made.
    let mut config = config();
    config["ipam"]["routes"] = json!([{"dst": "10.99.0.0/16", "gw": "172.31.255.1"}]);
    room.attach("bridge", "ADD", &container).config(&config).run()?.error_code(999)?;
    room.ensure_nothing_left(&before, &["c1"])
}

/// A call of the reference's bridge.
fn reference<'r>(room: &'r Room, verb: &str, container: &Container, ifname: &str) -> Call<'r> {
    Call::new(room, room.reference.join("bridge"))
        .env("CNI_COMMAND", verb)
        .env("CNI_PATH", &room.reference)
        .env("CNI_CONTAINERID", &container.id)
        .env("CNI_NETNS", &container.path)
        .env("CNI_IFNAME", ifname)
        // It passes rules to nft in a file.
        .env("TMPDIR", harness::room::SCRATCH)
}

/// Objects that the reference's own DEL also leaves: the tables and base chains of iptables-nft and
/// of its MAC filter.
fn without_empty(rules: Vec<String>) -> Vec<String> {
    let mut rules = rules;
    rules.retain(|line| {
        let what = line.split_once(": ").map_or("", |(_, what)| what);
        let base = what.starts_with("type ") && what.contains(" hook ");
        let chain = ["chain POSTROUTING {", "chain PREROUTING {"].contains(&what);
        !(base || chain || what.starts_with("table "))
    });
    rules
}

fn migration(room: &Room) -> Result<()> {
    let config = with(&config(), json!({"cniVersion": "1.0.0"}));
    for (id, gone) in [("c1", false), ("c2", true), ("c3", true)] {
        let container = room.container(id)?;
        let mut results = vec![];
        for ifname in ["eth0", "eth1"] {
            results.push(reference(room, "ADD", &container, ifname).config(&config).run()?.result()?);
        }
        ensure!(without_empty(snapshot::rules()?).len() > 10, "the reference created no rules");
        if gone {
            room.remove(&container)?;
        }
        let prev = id != "c3";
        for (ifname, result) in ["eth0", "eth1"].into_iter().zip(results) {
            let config = if prev { with(&config, json!({"prevResult": result})) } else { config.clone() };
            let del = room.attach("bridge", "DEL", &container).env("CNI_IFNAME", ifname).config(&config);
            del.run()?.silent()?;
            let rules = snapshot::rules()?.join("\n");
            if ifname == "eth0" && prev {
                // Both interfaces share a chain; the other's rules are complete.
                ensure!(rules.matches("jump CNI-").count() == 2, "{rules}");
                ensure!(rules.contains(&format!("macspoofchk-{id}-eth1")), "{rules}");
            }
            ensure!(!rules.contains(&format!("{id}-{ifname}")), "{rules}");
        }
        let left = without_empty(snapshot::rules()?);
        ensure!(left.is_empty(), "left: {left:#?}");
    }
    Ok(())
}

fn side_by_side(room: &Room) -> Result<()> {
    let config = with(&config(), json!({"cniVersion": "1.0.0"}));
    let (theirs, ours) = (room.container("theirs")?, room.container("ours")?);
    reference(room, "ADD", &theirs, "eth0").config(&config).run()?.result()?;
    add(room, &ours, &config)?;
    let both = snapshot::rules()?;
    room.attach("bridge", "DEL", &ours).config(&config).run()?.silent()?;
    ensure!(!snapshot::rules()?.iter().any(|line| line.contains("moor")), "ours are left");
    let again = room.container("again")?;
    add(room, &again, &config)?;
    ensure!(snapshot::rules()?.len() == both.len(), "the reference's rules changed");
    reference(room, "DEL", &theirs, "eth0").config(&config).run()?;
    room.attach("bridge", "DEL", &again).config(&config).run()?.silent()?;
    let left = without_empty(snapshot::rules()?);
    ensure!(left.is_empty(), "left: {left:#?}");
    Ok(())
}

/// The nftables back end is newer than the reference that distributions package; these are its
/// rules for network `mynet`, `eth0` of `cid1`, and a second attachment.
fn reference_nftables(room: &Room) -> Result<()> {
    let rule = |address: &str, hash: &str, id: &str| {
        format!(
            "add rule inet cni_plugins_masquerade masq_checks ip saddr == {address} ip daddr != 10.1.2.0/24 masquerade \
             comment \"d23676b4f2d9fe04-{hash}, net: mynet, if: eth0, id: {id}\"\n"
        )
    };
    let script = "table inet cni_plugins_masquerade {
            comment \"Masquerading for plugins from github.com/containernetworking/plugins\"
            chain masq_checks { }
            chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                ip daddr 224.0.0.0/4 return
                goto masq_checks
            }
        }\n"
    .to_owned()
        + &rule("10.1.2.3", "287fc69eff0574a2", "one");
    let load = |script: &str| -> Result<()> {
        let path = room.write("script.nft", script)?;
        ip::output("nft", &["-f", &path.display().to_string()]).map(drop)
    };
    load(&script)?;
    let before = snapshot::rules()?;
    let config = with(&masquerade(), json!({"name": "mynet"}));
    let container = Container { id: "cid1".into(), path: "/run/netns/gone".into() };
    for name in ["mynet", "renamed"] {
        load(&rule("10.1.2.2", "0b65a318f52e521b", "cid1"))?;
        ensure!(snapshot::rules()? != before, "no rule was added");
        let config = with(&config, json!({"name": name}));
        room.attach("bridge", "DEL", &container).config(&config).run()?.silent()?;
        ensure!(snapshot::rules()? == before, "left: {:#?}", snapshot::rules()?);
    }
    // GC: `one` is valid, `cid1` is not; other networks are not affected.
    load(&rule("10.1.2.2", "0b65a318f52e521b", "cid1"))?;
    let keys = json!({"cni.dev/valid-attachments": [{"containerID": "one", "ifname": "eth0"}]});
    room.call("bridge", "GC").config(&with(&config, keys)).run()?.silent()?;
    ensure!(snapshot::rules()? == before, "left: {:#?}", snapshot::rules()?);
    let keys = json!({"name": "other", "cni.dev/valid-attachments": []});
    room.call("bridge", "GC").config(&with(&config, keys)).run()?.silent()?;
    ensure!(snapshot::rules()? == before, "another network's GC removed: {:#?}", snapshot::rules()?);
    Ok(())
}
