//! firewall: keys, verbs, and what is there between them.

use std::fs;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::firewall::{Behind, Way, expect, firewall};
use harness::stage::lan::lan;
use harness::stage::reapply::{mended, reapply, records, rules};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("firewall/the_previous_result_is_required_and_returned", &["FW-1"], result),
    Case::new("firewall/what_is_not_known_is_refused", &["FW-K1", "FW-K2", "FW-K3", "FW-R9"], refused),
    Case::new("firewall/the_last_container_takes_everything", &["FW-6", "FW-B2"], last),
    Case::new("firewall/del_matrix", &["FW-6", "FW-B1"], del),
    Case::new("firewall/check_names_every_drift", &["FW-7", "FW-B5"], check),
    Case::new("firewall/flushed_rules_are_made_again", &["FW-R5"], flushed),
    Case::new("firewall/gc_takes_what_is_not_valid", &["FW-R6"], gc),
    Case::new("firewall/a_port_that_another_isolated_stays_isolated", &["FW-R8"], ports),
    Case::new("firewall/add_runs_no_program_and_commits_once", &["FW-R1"], commits).needs(&[Need::Strace]),
    Case::new("firewall/a_container_without_a_link_of_the_host_is_accepted", &["FW-2", "FW-R10"], linkless)
        .needs(&[Need::Macvlan]),
    Case::new("firewall/status_is_silent", &["FW-R7"], status),
];

fn isolated() -> Value {
    json!({"ingressPolicy": "isolated"})
}

fn same_bridge() -> Value {
    json!({"ingressPolicy": "same-bridge"})
}

fn result(room: &Room) -> Result<()> {
    let a = Behind::open(room, "a", 1)?;
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let previous = with(&a.result, json!({"cniVersion": version}));
        let keys = json!({"cniVersion": version, "prevResult": previous});
        let result = a.call(room, "ADD", &keys)?.result()?;
        ensure!(
            result["cniVersion"] == version && result["ips"][0]["address"] == a.result["ips"][0]["address"],
            "{result}"
        );
        ensure!(result["interfaces"] == a.result["interfaces"], "{result}");
    }
    let without = json!({"prevResult": null});
    for verb in ["ADD", "CHECK"] {
        a.call(room, verb, &without)?.error_with(7, "missing prevResult from earlier plugin")?;
    }
    a.call(room, "ADD", &json!({"cniVersion": "0.3.1"}))?.error_code(1)?;
    a.call(room, "DEL", &without)?.silent()
}

fn refused(room: &Room) -> Result<()> {
    let a = Behind::open(room, "a", 1)?;
    let before = room.snapshot()?;
    for (keys, code, text) in [
        (json!({"backend": "ipset"}), 2, "unrecognized backend \"ipset\""),
        (json!({"ingressPolicy": "closed"}), 7, "unknown ingress policy: \"closed\""),
        (json!({"iptablesAdminChainName": "A B"}), 7, "invalid iptablesAdminChainName"),
        (json!({"firewalldZone": "a b"}), 7, "invalid firewalldZone"),
    ] {
        a.call(room, "ADD", &keys)?.error_with(code, text)?;
        room.ensure_unchanged(&before, "after a refused ADD")?;
        a.call(room, "DEL", &keys)?.silent()?;
    }
    Ok(())
}

/// The policy of a link ends with its last container, of whichever network; other links keep theirs.
fn last(room: &Room) -> Result<()> {
    let before = rules()?;
    let all = [
        (Behind::add(room, "a", 1, &isolated())?, isolated()),
        (Behind::add(room, "b", 1, &isolated())?, isolated()),
        (Behind::add(room, "c", 2, &same_bridge())?, same_bridge()),
    ];
    let links = || ip::output("nft", &["list", "set", "inet", "moor", "isolated-links"]);
    all[0].0.del(room)?;
    ensure!(links()?.contains("\"br1\""), "br1 is open although it has a container: {}", links()?);
    all[1].0.del(room)?;
    ensure!(!links()?.contains("\"br1\"") && links()?.contains("\"br2\""), "{}", links()?);
    all[2].0.call(room, "CHECK", &all[2].1)?.silent()?;
    all[2].0.del(room)?;
    ensure!(rules()? == before, "left behind: {:#?}", rules()?);
    ensure!(records()?.is_empty(), "records are left: {:?}", records()?);
    Ok(())
}

fn del(room: &Room) -> Result<()> {
    let stays = Behind::add(room, "stays", 2, &same_bridge())?;
    let before = rules()?;
    let a = Behind::open(room, "a", 1)?;
    let keys = [
        json!({}),
        json!({"prevResult": null}),
        json!({"ingressPolicy": "unknown", "backend": "unknown"}),
        json!({"ingressPolicy": 7, "prevResult": {"ips": "none"}}),
        json!({"name": "renamed"}),
    ];
    for keys in keys {
        a.call(room, "ADD", &isolated())?.result()?;
        let veth = a.port()?;
        for _ in 0..2 {
            let call = room.attach("firewall", "DEL", &a.container).config(&a.config(&keys));
            // The renamed network's DEL knows the attachment by its link in prevResult.
            call.run()?.silent()?;
        }
        ensure!(rules()? == before, "{keys}: rules are left: {:#?}", rules()?);
        ensure!(!is_isolated(veth)?, "{keys}: {veth} stays isolated");
    }
    // Without a namespace, and after the container and its link are gone.
    a.call(room, "ADD", &isolated())?.result()?;
    let config = a.config(&json!({"prevResult": null}));
    room.attach("firewall", "DEL", &a.container).config(&config).env("CNI_NETNS", "").run()?.silent()?;
    ensure!(rules()? == before, "without a namespace: rules are left");
    a.call(room, "ADD", &isolated())?.result()?;
    ip::run(&["link", "del", a.port()?])?;
    room.remove(&a.container)?;
    room.attach("firewall", "DEL", &a.container).config(&config).run()?.silent()?;
    ensure!(rules()? == before, "without a link: rules are left");
    stays.call(room, "CHECK", &same_bridge())?.silent()
}

fn is_isolated(port: &str) -> Result<bool> {
    let rows = ip::rows(None, &["-d", "link", "show", "dev", port])?;
    Ok(rows.first().is_some_and(|row| row["linkinfo"]["info_slave_data"]["isolated"] == true))
}

/// Without records nothing is made again, so every drift is an error.
fn check(room: &Room) -> Result<()> {
    let a = Behind::add(room, "a", 1, &isolated())?;
    let check = || a.call(room, "CHECK", &isolated());
    check()?.silent()?;
    harness::stage::reapply::forget_records()?;
    let [v4, v6] = a.addresses()?;
    let port = a.port()?;
    for (what, change) in [
        ("firewall4", format!("delete element inet moor firewall4 {{ {v4} }}")),
        ("firewall6", format!("delete element inet moor firewall6 {{ {v6} }}")),
        ("isolated-links", "flush set inet moor isolated-links".to_owned()),
        ("behind", "flush set inet moor behind".to_owned()),
        ("isolated-by", "flush set inet moor isolated-by".to_owned()),
        (
            "isolated-within",
            "add element inet moor isolated-within { \"br1\" . \"br1\" comment \"moor/net1\" }".to_owned(),
        ),
        ("rules of chain inet moor firewall", "flush chain inet moor firewall".to_owned()),
    ] {
        ip::output("nft", &[&change])?;
        let error = check()?.error_code(999)?;
        ensure!(error.msg.contains(what), "{what} is not named: {error}");
        let before = rules()?;
        check()?.error_code(999)?;
        ensure!(rules()? == before, "CHECK changed rules");
        a.call(room, "ADD", &isolated())?.result()?;
        harness::stage::reapply::forget_records()?;
        check()?.silent()?;
    }
    ip::run(&["link", "set", "dev", port, "type", "bridge_slave", "isolated", "off"])?;
    let error = check()?.error_code(999)?;
    ensure!(error.msg.contains(&format!("isolation of port {port}")), "{error}");
    a.call(room, "DEL", &isolated())?.silent()?;
    let before = rules()?;
    check()?.error_code(999)?;
    ensure!(rules()? == before, "CHECK of what was never made makes {:#?}", rules()?);
    Ok(())
}

fn flushed(room: &Room) -> Result<()> {
    let a = Behind::add(room, "a", 1, &isolated())?;
    let b = Behind::add(room, "b", 1, &isolated())?;
    let c = Behind::add(room, "c", 2, &same_bridge())?;
    let before = rules()?;
    ip::output("nft", &["flush ruleset"])?;
    let printed = reapply(room, "portmap")?;
    ensure!(printed.contains("3 records"), "{printed}");
    ensure!(rules()? == before, "after reapply: {:#?}", rules()?);
    ip::output("nft", &["flush ruleset"])?;
    mended(&a.call(room, "CHECK", &isolated())?, "chain inet moor firewall")?;
    ensure!(rules()? == before, "after CHECK: {:#?}", rules()?);
    let ways = [
        Way { from: Some("a"), to: b.addresses()?, port: None, open: false },
        Way { from: Some("a"), to: c.addresses()?, port: None, open: false },
    ];
    expect(room, "after a flush", &ways)?;
    // A later ADD's policy is everybody's on the bridge, also when it is made again.
    b.call(room, "ADD", &same_bridge())?.result()?;
    a.call(room, "CHECK", &isolated())?.silent()?;
    ip::output("nft", &["flush ruleset"])?;
    reapply(room, "portmap")?;
    let within = ip::output("nft", &["list", "set", "inet", "moor", "isolated-within"])?;
    ensure!(within.contains("\"br1\" . \"br1\""), "{within}");
    a.call(room, "CHECK", &isolated())?.silent()?;
    ip::output("nft", &["flush ruleset"])?;
    [a, b, c].iter().try_for_each(|one| one.del(room))?;
    reapply(room, "portmap")?;
    ensure!(rules()?.is_empty(), "deleted containers have rules again: {:#?}", rules()?);
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    let before = rules()?;
    let gone = Behind::add(room, "gone", 1, &isolated())?;
    let stays = Behind::add(room, "stays", 1, &isolated())?;
    let other = Behind::add(room, "other", 2, &isolated())?;
    let config = |valid: Value| {
        let config = firewall("net1", &isolated(), &Value::Null);
        with(&config, json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid}))
    };
    let gc = |valid: Value| room.call("firewall", "GC").config(&config(valid)).run()?.silent();
    gc(json!([{"containerID": "stays", "ifname": "eth0"}]))?;
    ensure!(!is_isolated(gone.port()?)? && is_isolated(stays.port()?)?, "ports");
    for one in [&stays, &other] {
        one.call(room, "CHECK", &isolated())?.silent()?;
    }
    let left = rules()?;
    ensure!(!left.iter().any(|line| line.contains("moor/net1/eth0/gone")), "{left:#?}");
    gc(json!([]))?;
    other.call(room, "CHECK", &isolated())?.silent()?;
    other.del(room)?;
    ensure!(rules()? == before && records()?.is_empty(), "left: {:#?} {:?}", rules()?, records()?);
    Ok(())
}

fn ports(room: &Room) -> Result<()> {
    let a = Behind::open(room, "a", 1)?;
    let port = a.port()?;
    ip::run(&["link", "set", "dev", port, "type", "bridge_slave", "isolated", "on"])?;
    a.call(room, "ADD", &isolated())?.result()?;
    a.call(room, "DEL", &isolated())?.silent()?;
    ensure!(is_isolated(port)?, "the port is no longer isolated");
    ip::run(&["link", "set", "dev", port, "type", "bridge_slave", "isolated", "off"])?;
    for keys in [isolated(), isolated(), same_bridge()] {
        a.call(room, "ADD", &keys)?.result()?;
        ensure!(is_isolated(port)? == (keys == isolated()), "{keys}");
    }
    Ok(())
}

fn commits(room: &Room) -> Result<()> {
    let a = Behind::open(room, "a", 1)?;
    let log = room.scratch("strace");
    let words =
        ["strace", "-f", "-qq", "-e", "trace=sendto,sendmsg,execve", "-o", &log.display().to_string()]
            .map(str::to_owned);
    for commits in [1, 0] {
        let call = room.attach("firewall", "ADD", &a.container).config(&a.config(&isolated()));
        call.under(&words).run()?.result()?;
        let text = fs::read_to_string(&log)?;
        let count = text.matches("NFNL_MSG_BATCH_BEGIN").count();
        ensure!(count == commits, "{count} commits, not {commits}");
        ensure!(text.matches("execve(").count() == 1, "it runs programs: {text}");
    }
    Ok(())
}

fn linkless(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = rules()?;
    let container = room.container("m")?;
    let config = lan("macvlan", &json!({}));
    let result = room.attach("macvlan", "ADD", &container).config(&config).run()?.result()?;
    let call = |verb: &str, keys: &Value| {
        room.attach("firewall", verb, &container).config(&firewall("lan", keys, &result)).run()
    };
    call("ADD", &isolated())?.error_with(7, "needs a link of the host")?;
    ensure!(rules()? == before, "a refused ADD leaves rules");
    call("ADD", &json!({}))?.result()?;
    call("CHECK", &json!({}))?.silent()?;
    let links = ip::output("nft", &["list", "set", "inet", "moor", "isolated-links"])?;
    ensure!(!links.contains("wan0"), "the uplink is isolated: {links}");
    call("DEL", &json!({}))?.silent()?;
    ensure!(rules()? == before, "rules are left");
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    for policy in ["open", "isolated"] {
        let config = firewall("net1", &json!({"ingressPolicy": policy, "cniVersion": "1.1.0"}), &Value::Null);
        room.call("firewall", "STATUS").config(&config).run()?.silent()?;
    }
    Ok(())
}
