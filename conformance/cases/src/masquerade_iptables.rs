//! bridge, `ipMasqBackend: iptables`: the reference's rules, byte for byte.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::namespace::{Container, OUTSIDE};
use harness::need::Need;
use harness::room::Room;
use harness::{ip, socket};
use serde_json::{Value, json};

use crate::portmap_iptables::{reference, saved};

pub const CASES: &[Case] = &[
    Case::new("masquerade_iptables/each_suite_takes_over_from_the_other", &["BR-R5", "BR-I1"], takeover)
        .needs(&[Need::Iptables, Need::Reference]),
    Case::new("masquerade_iptables/the_outside_sees_the_host", &["BR-I2"], seen).needs(&[Need::Iptables]),
    Case::new("masquerade_iptables/check_names_each_missing_rule", &["C-043", "BR-I5"], check)
        .needs(&[Need::Iptables]),
    Case::new("masquerade_iptables/two_interfaces_share_a_chain", &["BR-I3"], two_interfaces)
        .needs(&[Need::Iptables]),
    Case::new(
        "masquerade_iptables/del_finds_rules_after_a_rename_and_without_prev_result",
        &["C-042", "BR-I6"],
        renamed,
    )
    .needs(&[Need::Iptables]),
    Case::new("masquerade_iptables/gc_removes_invalid_attachments", &["C-045", "C-046", "BR-I6"], gc)
        .needs(&[Need::Iptables]),
    Case::new("masquerade_iptables/a_failed_add_leaves_nothing", &["BR-I4"], failed).needs(&[Need::Iptables]),
];

fn config() -> Value {
    with(&bridge(USUAL), json!({"ipMasq": true, "ipMasqBackend": "iptables"}))
}

/// DEL removes rules of either back end, whatever the configuration names now.
fn del(room: &Room, container: &Container, config: &Value) -> Result<()> {
    let flipped = with(config, json!({"ipMasqBackend": "nftables"}));
    room.attach("bridge", "DEL", container).config(&flipped).run()?.silent()
}

fn takeover(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let single = |subnet: &str| json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": subnet}]]}});
    for keys in [json!({}), single("10.1.2.0/24"), single("2001:db8:1::/64")] {
        let config = with(&config(), keys.clone());
        let theirs = |verb| reference(room, "bridge", verb, &container).config(&config).run();
        let made = theirs("ADD")?.result().with_context(|| keys.to_string())?;
        let by_reference = saved()?;
        ensure!(by_reference.contains("MASQUERADE"), "the reference created no rules");
        let prev = with(&config, json!({"prevResult": made}));
        del(room, &container, &prev)?;
        let empty = saved()?;
        ensure!(!empty.contains("CNI-"), "our DEL left of the reference's: {empty}");
        // The next lease is the same address.
        std::fs::remove_dir_all("/var/lib/cni/networks").context("forget the leases")?;
        let made = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
        let ours = saved()?;
        ensure!(ours == by_reference, "{keys}: ours are\n{ours}\ntheirs are\n{by_reference}");
        let prev = with(&config, json!({"prevResult": made}));
        room.attach("bridge", "CHECK", &container).config(&prev).run()?.silent()?;
        theirs("DEL")?.silent().context("the reference's DEL of ours")?;
        ensure!(saved()? == empty, "the reference's DEL left of ours: {}", saved()?);
        del(room, &container, &prev)?;
        std::fs::remove_dir_all("/var/lib/cni/networks").context("forget the leases")?;
    }
    Ok(())
}

fn seen(room: &Room) -> Result<()> {
    room.outside(&[])?;
    for id in ["c1", "c2"] {
        let container = room.container(id)?;
        room.attach("bridge", "ADD", &container).config(&config()).run()?.result()?;
        for (outside, host) in OUTSIDE.into_iter().zip(["198.51.100.1", "2001:db8:ff::1"]) {
            let seen = socket::seen_as(id, "outside", outside)?;
            ensure!(seen == host, "{outside} sees {id} as {seen}, not as the host");
        }
    }
    for (address, sibling) in [("10.1.2.2", "10.1.2.3"), ("2001:db8:1::2", "2001:db8:1::3")] {
        let seen = socket::seen_as("c2", "c1", address)?;
        ensure!(seen == sibling, "c1 sees c2 as {seen}, not {sibling}");
    }
    Ok(())
}

fn check(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let made = room.attach("bridge", "ADD", &container).config(&config()).run()?.result()?;
    let prev = with(&config(), json!({"prevResult": made}));
    let check = || room.attach("bridge", "CHECK", &container).config(&prev).run();
    check()?.silent()?;
    for program in ["iptables", "ip6tables"] {
        let rules = ip::output(&format!("{program}-save"), &["-t", "nat"])?;
        let rules: Vec<&str> = rules.lines().filter_map(|line| line.strip_prefix("-A ")).collect();
        ensure!(rules.len() == 3, "{rules:?}");
        for rule in rules {
            for (command, is_there) in [("-D", false), ("-A", true)] {
                let path = room.write("lines", format!("*nat\n{command} {rule}\nCOMMIT\n"))?;
                ip::output(&format!("{program}-restore"), &["--noflush", &path.display().to_string()])?;
                if is_there {
                    check()?.silent()?;
                } else {
                    let error = check()?.error()?;
                    let complete = ["expected present", "actual absent", rule]
                        .iter()
                        .all(|word| error.msg.contains(word));
                    ensure!(complete, "without {rule}, CHECK reports {error}");
                }
            }
        }
    }
    Ok(())
}

fn two_interfaces(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let mut prevs = vec![];
    for ifname in ["eth0", "eth1"] {
        let call = room.attach("bridge", "ADD", &container).env("CNI_IFNAME", ifname).config(&config());
        prevs.push((ifname, with(&config(), json!({"prevResult": call.run()?.result()?}))));
    }
    for (left, (ifname, prev)) in [1, 0].into_iter().zip(&prevs) {
        room.attach("bridge", "DEL", &container).env("CNI_IFNAME", ifname).config(prev).run()?.silent()?;
        let rules = saved()?;
        let jumps = rules.matches("-A POSTROUTING").count();
        ensure!(
            jumps == 2 * left && rules.matches("MASQUERADE").count() == 2 * left,
            "after {ifname}: {rules}"
        );
        if let Some((ifname, prev)) = prevs.get(1).filter(|_| left == 1) {
            room.attach("bridge", "CHECK", &container)
                .env("CNI_IFNAME", ifname)
                .config(prev)
                .run()?
                .silent()?;
        }
    }
    Ok(())
}

fn failed(room: &Room) -> Result<()> {
    // iptables creates its table on first use, and keeps it.
    for program in ["iptables", "ip6tables"] {
        for command in ["-A", "-D"] {
            ip::output(program, &["-t", "nat", command, "POSTROUTING", "-j", "ACCEPT"])?;
        }
    }
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    // A route that the kernel refuses, after the rules are made.
    let mut config = config();
    config["ipam"]["routes"] = json!([{"dst": "10.99.0.0/16", "gw": "172.31.255.1"}]);
    room.attach("bridge", "ADD", &container).config(&config).run()?.error_code(999)?;
    ensure!(!saved()?.contains("CNI-"), "left: {}", saved()?);
    room.ensure_nothing_left(&before, &["c1"])
}

/// {only attachment, beside another interface of the container} x {prevResult, none} x {same
/// network, renamed}, twice each.
fn renamed(room: &Room) -> Result<()> {
    for case in 0..8 {
        let (prev, renamed, beside) = (case % 2 == 0, case / 2 % 2 == 1, case / 4 == 1);
        let context = || format!("beside {beside}, prevResult {prev}, renamed {renamed}");
        // The lease of a renamed network is kept: another container gets another address.
        let container = room.container(&format!("c{case}"))?;
        let add = |ifname: &str| {
            let call = room.attach("bridge", "ADD", &container).env("CNI_IFNAME", ifname);
            call.config(&config()).run()?.result()
        };
        if beside {
            add("eth1")?;
        }
        let before = saved()?;
        let made = add("eth0")?;
        ensure!(jumps(&saved()?).len() == jumps(&before).len() + 2, "ADD created {}", saved()?);
        let mut asked = with(&config(), if prev { json!({"prevResult": made}) } else { json!({}) });
        if renamed {
            asked["name"] = json!("renamed");
        }
        // Without prevResult, a renamed network's rules are kept while their attachment exists.
        if renamed && !prev {
            let all = saved()?;
            room.attach("bridge", "DEL", &container).config(&asked).run()?.silent().with_context(context)?;
            ensure!(
                jumps(&saved()?) == jumps(&all),
                "{}: the rules of an existing attachment are gone",
                context()
            );
            let veth = made["interfaces"][1]["name"].as_str().context("no host veth")?;
            ip::run(&["link", "del", veth]).ok();
        }
        // For a deleted attachment without prevResult, a second DEL would remove the rules that the
        // name matches.
        for _ in 0..if beside && !prev && !renamed { 1 } else { 2 } {
            room.attach("bridge", "DEL", &container).config(&asked).run()?.silent().with_context(context)?;
            ensure!(jumps(&saved()?) == jumps(&before), "{}: the rules are {}", context(), saved()?);
        }
        ensure!(beside || !saved()?.contains("CNI-"), "{}: left: {}", context(), saved()?);
    }
    Ok(())
}

fn jumps(saved: &str) -> Vec<&str> {
    saved.lines().filter(|line| line.starts_with("-A POSTROUTING")).collect()
}

fn gc(room: &Room) -> Result<()> {
    let add = |id: &str| -> Result<()> {
        let container = room.container(id)?;
        room.attach("bridge", "ADD", &container).config(&config()).run()?.result().map(drop)
    };
    add("c1")?;
    let before = saved()?;
    add("c2")?;
    let all = saved()?;
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let of = |name: &str, valid: Value| {
        let config =
            with(&config(), json!({"cniVersion": "1.1.0", "name": name, "cni.dev/valid-attachments": valid}));
        room.call("bridge", "GC").config(&config).run()?.silent()
    };
    of("other", json!([]))?;
    ensure!(saved()? == all, "GC of another network removed {}", saved()?);
    of("net", valid)?;
    ensure!(saved()? == before, "after GC the rules are {}, not {before}", saved()?);
    of("net", json!([]))?;
    ensure!(!saved()?.contains("CNI-"), "left: {}", saved()?);
    let records = harness::stage::reapply::records()?;
    ensure!(records.is_empty(), "left: {records:?}");
    Ok(())
}
