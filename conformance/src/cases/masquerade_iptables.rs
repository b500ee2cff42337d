//! bridge, `ipMasqBackend: iptables`: the reference's rules, byte for byte (bridge.md section 5).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::portmap_iptables::{reference, saved};
use super::{USUAL, bridge, with};
use crate::case::Case;
use crate::need::Need;
use crate::room::Room;
use crate::room::netns::{Container, OUTSIDE};
use crate::{ip, socket};

pub const CASES: &[Case] = &[
    Case::new("masquerade_iptables/each_suite_takes_over_from_the_other", &["bridge 5"], takeover)
        .needs(&[Need::Iptables, Need::Reference]),
    Case::new("masquerade_iptables/the_outside_sees_the_host", &["bridge 5"], seen).needs(&[Need::Iptables]),
    Case::new("masquerade_iptables/check_names_each_rule_that_is_missing", &["C-043", "bridge 8"], check)
        .needs(&[Need::Iptables]),
    Case::new("masquerade_iptables/two_interfaces_share_a_chain", &["bridge 5"], two_interfaces)
        .needs(&[Need::Iptables]),
    Case::new("masquerade_iptables/a_failed_add_leaves_nothing", &["bridge 3"], failed)
        .needs(&[Need::Iptables]),
];

fn config() -> Value {
    with(&bridge(USUAL), json!({"ipMasq": true, "ipMasqBackend": "iptables"}))
}

/// By whatever back end it was made: what the configuration says now is another thing.
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
        ensure!(by_reference.contains("MASQUERADE"), "the reference made no rules");
        let prev = with(&config, json!({"prevResult": made}));
        del(room, &container, &prev)?;
        let empty = saved()?;
        ensure!(!empty.contains("CNI-"), "our DEL left of the reference's: {empty}");
        // The next address is the same one again.
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
            let seen = socket::seen_as(room, id, "outside", outside)?;
            ensure!(seen == host, "{outside} takes {id} for {seen}, not for the host");
        }
    }
    for (address, sibling) in [("10.1.2.2", "10.1.2.3"), ("2001:db8:1::2", "2001:db8:1::3")] {
        let seen = socket::seen_as(room, "c2", "c1", address)?;
        ensure!(seen == sibling, "c1 takes c2 for {seen}, not {sibling}");
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
                    let tells = ["expected present", "actual absent", rule]
                        .iter()
                        .all(|word| error.msg.contains(word));
                    ensure!(tells, "without {rule}, CHECK says {error}");
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
    // iptables makes its table when it is first used, and leaves it.
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
