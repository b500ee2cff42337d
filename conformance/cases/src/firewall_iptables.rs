//! firewall, `backend: iptables`: the reference's rules, byte for byte.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use serde_json::{Value, json};

use crate::portmap_iptables::reference;

pub const CASES: &[Case] = &[
    Case::new("firewall_iptables/rules_equal_the_references_byte_for_byte", &["FW-50"], matrix)
        .needs(&[Need::Iptables, Need::Reference]),
    Case::new("firewall_iptables/each_suite_takes_over_from_the_other", &["FW-51"], takeover)
        .needs(&[Need::Iptables, Need::Reference]),
    Case::new("firewall_iptables/check_names_each_missing_rule_and_makes_nothing", &["FW-52"], check)
        .needs(&[Need::Iptables]),
    Case::new("firewall_iptables/a_failed_family_takes_back_this_calls_rules_alone", &["FW-53"], failed)
        .needs(&[Need::Iptables]),
    Case::new("firewall_iptables/del_needs_no_result_and_keeps_an_administrators_rules", &["FW-54"], del)
        .needs(&[Need::Iptables]),
    Case::new("firewall_iptables/a_late_del_keeps_the_rules_of_the_addresses_heir", &["FW-55"], late_del)
        .needs(&[Need::Iptables]),
    Case::new("firewall_iptables/only_the_families_in_use_need_programs", &["FW-56"], families)
        .needs(&[Need::Iptables]),
    Case::new("firewall_iptables/add_runs_two_programs_per_family_and_del_none", &["FW-57"], programs)
        .needs(&[Need::Iptables, Need::Strace]),
    Case::new("firewall_iptables/gc_removes_invalid_attachments", &["FW-58"], gc).needs(&[Need::Iptables]),
];

/// A configuration with a result of these addresses.
pub fn firewall(backend: &str, addresses: &[&str]) -> Value {
    let ips: Vec<Value> =
        addresses.iter().map(|address| json!({"address": address, "interface": 1})).collect();
    json!({
        "cniVersion": USUAL, "name": "net", "type": "firewall", "backend": backend,
        "prevResult": {
            "cniVersion": USUAL, "ips": ips,
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/c1"}],
        },
    })
}

pub const BOTH: [&str; 2] = ["10.1.2.3/24", "2001:db8:1::3/64"];

pub fn saved_by(kind: &str) -> Result<String> {
    let mut text = String::new();
    for program in ["iptables", "ip6tables"] {
        let printed = ip::output(&format!("{program}{kind}-save"), &["-t", "filter"])?;
        for line in printed.lines().filter(|line| !line.starts_with('#')) {
            // Without a chain's counters.
            let line = if line.starts_with(':') { line.split(" [").next().unwrap_or_default() } else { line };
            text += &format!("{line}\n");
        }
    }
    Ok(text)
}

pub fn saved() -> Result<String> {
    saved_by("")
}

/// Rules about one container; the shared chains stay.
pub fn own() -> Result<Vec<String>> {
    Ok(saved()?.lines().filter(|line| line.ends_with("-j ACCEPT")).map(str::to_owned).collect())
}

pub fn add(room: &Room, container: &Container, config: &Value) -> Result<()> {
    room.attach("firewall", "ADD", container).config(config).run()?.result().map(drop)
}

pub fn silent(room: &Room, verb: &str, container: &Container, config: &Value) -> Result<()> {
    room.attach("firewall", verb, container).config(config).run()?.silent()
}

fn matrix(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let several = ["10.1.2.3/24", "10.1.9.4/16", "2001:db8:1::3/64", "fd00::7/64"];
    let admin = |name: &str| json!({"iptablesAdminChainName": name});
    for (addresses, keys, prepared) in [
        (&BOTH[..], json!({}), &[][..]),
        (&BOTH[..1], json!({}), &[]),
        (&BOTH[1..], json!({}), &[]),
        (&several, json!({}), &[]),
        (&BOTH, admin("MY-OWN.chain_0"), &[]),
        // An earlier network has another chain, and an administrator has rules.
        (
            &BOTH,
            admin("MINE"),
            &[
                "-N CNI-ADMIN",
                "-A CNI-ADMIN -j DROP",
                "-N CNI-FORWARD",
                "-A CNI-FORWARD -j CNI-ADMIN",
                "-A FORWARD -p icmp -j DROP",
            ],
        ),
        (&BOTH, json!({}), &["-P FORWARD DROP", "-A FORWARD -j REJECT"]),
    ] {
        let config = with(&firewall("iptables", addresses), keys.clone());
        let context = || format!("{addresses:?} with {keys}");
        let prepare = || -> Result<()> {
            ip::output("nft", &["flush", "ruleset"])?;
            for program in ["iptables", "ip6tables"] {
                for line in prepared {
                    ip::output(program, &line.split(' ').collect::<Vec<_>>())?;
                }
            }
            Ok(())
        };
        prepare()?;
        reference(room, "firewall", "ADD", &container).config(&config).run()?.result()?;
        let theirs = saved()?;
        ensure!(theirs.contains("CNI-FORWARD -s "), "the reference made nothing: {}", context());
        prepare()?;
        add(room, &container, &config).with_context(context)?;
        let ours = saved()?;
        ensure!(ours == theirs, "{}: ours are\n{ours}\ntheirs are\n{theirs}", context());
        add(room, &container, &config)?;
        ensure!(saved()? == theirs, "{}: a second ADD made {}", context(), saved()?);
        silent(room, "CHECK", &container, &config).with_context(context)?;
        reference(room, "firewall", "DEL", &container).config(&config).run()?.silent()?;
        let theirs = saved()?;
        add(room, &container, &config)?;
        silent(room, "DEL", &container, &config)?;
        ensure!(saved()? == theirs, "{}: after DEL ours are {}, theirs {theirs}", context(), saved()?);
    }
    for name in ["FORWARD", "CNI-FORWARD", "A B", "-x", "12345678901234567890123456789", "a\nb"] {
        let config = with(&firewall("iptables", &BOTH), admin(name));
        let before = saved()?;
        let answer = room.attach("firewall", "ADD", &container).config(&config).run()?;
        answer.refused("iptablesAdminChainName").with_context(|| format!("{name:?}"))?;
        ensure!(saved()? == before, "{name:?} changed rules");
    }
    Ok(())
}

fn takeover(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let neighbour = room.container("c2")?;
    let theirs_of = firewall("iptables", &["10.1.2.9/24", "2001:db8:1::9/64"]);
    reference(room, "firewall", "ADD", &neighbour).config(&theirs_of).run()?.result()?;
    let before = saved()?;
    let config = firewall("iptables", &BOTH);
    let theirs = |verb| reference(room, "firewall", verb, &container).config(&config).run();
    add(room, &container, &config)?;
    theirs("CHECK")?.silent().context("the reference's CHECK of ours")?;
    theirs("DEL")?.silent()?;
    ensure!(saved()? == before, "the reference's DEL left of ours: {}", saved()?);
    silent(room, "DEL", &container, &config)?;
    // Whatever back end the configuration names by then.
    for backend in ["iptables", "nftables", "auto", "no such"] {
        theirs("ADD")?.result()?;
        ensure!(saved()? != before, "the reference's ADD made nothing");
        if backend == "iptables" {
            silent(room, "CHECK", &container, &config).context("CHECK of the reference's")?;
        }
        silent(room, "DEL", &container, &with(&config, json!({"backend": backend})))?;
        ensure!(saved()? == before, "our DEL with {backend} left of the reference's: {}", saved()?);
    }
    Ok(())
}

fn check(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = firewall("iptables", &BOTH);
    add(room, &container, &config)?;
    let all = saved()?;
    for program in ["iptables", "ip6tables"] {
        let rules = ip::output(program, &["-S"])?;
        let rules: Vec<&str> = rules.lines().filter_map(|line| line.strip_prefix("-A ")).collect();
        ensure!(rules.len() == 4, "{program}: {rules:?}");
        for rule in rules {
            let lines = room.write("lines", format!("*filter\n-D {rule}\nCOMMIT\n"))?;
            ip::output(&format!("{program}-restore"), &["--noflush", &lines.display().to_string()])?;
            let without = saved()?;
            let error = room.attach("firewall", "CHECK", &container).config(&config).run()?.error()?;
            let words = ["expected present", "actual absent", program, rule.split(' ').next().unwrap_or("")];
            ensure!(words.iter().all(|word| error.msg.contains(word)), "without {rule}: {error}");
            ensure!(saved()? == without, "CHECK made {}", saved()?);
            add(room, &container, &config)?;
            silent(room, "CHECK", &container, &config).with_context(|| format!("{rule}, and ADD again"))?;
        }
    }
    ensure!(saved()?.len() == all.len(), "after ADDs: {}", saved()?);
    // Without the chains: the reference's CHECK makes them.
    ip::output("nft", &["flush", "ruleset"])?;
    room.attach("firewall", "CHECK", &container).config(&config).run()?.error()?;
    ensure!(!saved()?.contains("CNI-"), "CHECK made {}", saved()?);
    Ok(())
}

/// IPv6 fails after IPv4: its table is another program's.
fn failed(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let bin = room.scratch("bin");
    std::fs::create_dir_all(&bin)?;
    for program in ["ip6tables", "ip6tables-restore"] {
        std::fs::write(bin.join(program), "#!/bin/sh\necho no room >&2\nexit 3\n")?;
        ip::output("chmod", &["+x", &bin.join(program).display().to_string()])?;
    }
    let fail = |config: &Value| {
        let call = room.attach("firewall", "ADD", &container).config(config).env("PATH", path_with(&bin));
        call.run()?.error_with(999, "no room").map(drop)
    };
    let config = firewall("iptables", &BOTH);
    ip::output("iptables", &["-S"])?;
    let before = saved()?;
    fail(&config)?;
    ensure!(saved()? == before, "the failed ADD left {}", saved()?);
    ensure!(room.files().iter().all(|line| !line.contains("accepted-")), "it left {:?}", room.files());
    // The address has a rule already, by an ADD before; and a neighbour uses the chains.
    add(room, &container, &firewall("iptables", &BOTH[..1]))?;
    let before = saved()?;
    fail(&firewall("iptables", &["10.1.2.3/24", "10.1.2.4/24", "2001:db8:1::3/64"]))?;
    ensure!(saved()? == before, "the failed ADD changed {before} to {}", saved()?);
    silent(room, "DEL", &container, &json!({"cniVersion": USUAL, "name": "net", "type": "firewall"}))?;
    ensure!(own()?.is_empty(), "left: {:?}", own()?);
    Ok(())
}

fn del(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = firewall("iptables", &BOTH);
    ip::output("iptables", &["-N", "CNI-FORWARD"])?;
    let of_admin = [
        "-A CNI-FORWARD -s 10.1.2.3/32 -p tcp -j ACCEPT",
        "-A CNI-FORWARD -d 10.1.2.3/32 -m mark --mark 0x1 -j ACCEPT",
        "-A CNI-FORWARD -s 10.1.2.3/32 -j DROP",
        "-A FORWARD -s 10.1.2.3/32 -j ACCEPT",
    ];
    for rule in of_admin {
        ip::output("iptables", &rule.split(' ').collect::<Vec<_>>())?;
    }
    let gone = Container { id: "c1".into(), path: "/run/netns/gone".into() };
    let none = Container { id: "c1".into(), path: "".into() };
    let bare = json!({"cniVersion": USUAL, "name": "net", "type": "firewall", "ingressPolicy": 7});
    for (container_of_del, of_del) in [
        (&container, &config),
        (&gone, &bare),
        (&none, &bare),
        (&none, &with(&bare, json!({"name": "other"}))),
    ] {
        add(room, &container, &config)?;
        // A second ADD has other addresses: DEL finds those of both.
        add(room, &container, &firewall("iptables", &["10.1.2.4/24"]))?;
        for _ in 0..2 {
            silent(room, "DEL", container_of_del, of_del)?;
        }
        let left = saved()?;
        ensure!(of_admin.iter().all(|rule| left.contains(rule)), "an administrator's rule is gone: {left}");
        ensure!(left.matches("-j ACCEPT").count() == 3, "DEL with {of_del} left {left}");
        ensure!(room.files().iter().all(|line| !line.contains("accepted-")), "left {:?}", room.files());
    }
    Ok(())
}

fn late_del(room: &Room) -> Result<()> {
    let [first, heir] = [room.container("c1")?, room.container("c2")?];
    let config = firewall("iptables", &BOTH);
    add(room, &first, &config)?;
    add(room, &heir, &config)?;
    let both = saved()?;
    for _ in 0..2 {
        silent(room, "DEL", &first, &config)?;
        ensure!(saved()? == both, "the heir of the addresses lost rules: {}", saved()?);
    }
    silent(room, "CHECK", &heir, &config)?;
    silent(room, "DEL", &heir, &config)?;
    ensure!(own()?.is_empty(), "left: {:?}", own()?);
    Ok(())
}

/// A search path that begins with this directory.
pub fn path_with(dir: &Path) -> String {
    format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default())
}

fn families(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let bin = room.scratch("bin");
    std::fs::create_dir_all(&bin)?;
    let real = ip::output("sh", &["-c", "readlink -f $(command -v iptables-save)"])?;
    std::fs::copy(real.trim(), bin.join("multi"))?;
    for program in ["iptables-save", "iptables-restore"] {
        symlink(bin.join("multi"), bin.join(program))?;
    }
    // The system's directories are searched too.
    let hide = "for dir in /usr/sbin /sbin /usr/local/sbin; do mount -t tmpfs none $dir; done; exec \"$0\"";
    let call = |verb, config: &Value| {
        let call = room.attach("firewall", verb, &container).config(config);
        call.env("PATH", format!("{}:/usr/bin:/bin", bin.display()))
            .under(&["unshare", "-m", "sh", "-c", hide])
            .run()
    };
    for verb in ["ADD", "CHECK", "DEL"] {
        let answer = call(verb, &firewall("iptables", &BOTH[..1]))?;
        ensure!(answer.succeeded(), "{verb} of IPv4 without ip6tables: {}", answer.summary());
    }
    call("ADD", &firewall("iptables", &BOTH))?.error_with(999, "ip6tables")?;
    ensure!(own()?.is_empty(), "the failed ADD left {:?}", own()?);
    Ok(())
}

fn programs(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = firewall("iptables", &BOTH);
    let trace = room.scratch("trace").display().to_string();
    let count = |verb: &str| -> Result<usize> {
        let wrapper = ["strace", "-f", "-e", "trace=execve", "-o", &trace];
        let answer = room.attach("firewall", verb, &container).config(&config).under(&wrapper).run()?;
        ensure!(answer.succeeded(), "{verb}: {}", answer.summary());
        let text = std::fs::read_to_string(&trace)?;
        Ok(text.lines().filter(|line| line.contains("execve(") && line.ends_with(" = 0")).count() - 1)
    };
    for (verb, programs) in [("ADD", 4), ("ADD", 2), ("CHECK", 2), ("DEL", 0)] {
        let counted = count(verb)?;
        ensure!(counted == programs, "{verb} runs {counted} programs, not {programs}");
    }
    Ok(())
}

fn gc(room: &Room) -> Result<()> {
    let containers = [room.container("c1")?, room.container("c2")?, room.container("c3")?];
    let address = ["10.1.2.3/24", "10.1.2.4/24", "10.1.2.5/24"];
    for (container, address) in containers.iter().zip(address) {
        let network = if container.id == "c3" { "other" } else { "net" };
        add(room, container, &with(&firewall("iptables", &[address]), json!({"name": network})))?;
    }
    let valid = |ids: &[&str]| -> Vec<Value> {
        ids.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect()
    };
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "firewall", "backend": "iptables"});
    let collect = |ids: &[&str]| -> Result<()> {
        let config = with(&config, json!({"cni.dev/valid-attachments": valid(ids)}));
        room.call("firewall", "GC").config(&config).run()?.silent()
    };
    let before = saved()?;
    room.call("firewall", "GC").config(&config).run()?.silent()?;
    collect(&["c1", "c2"])?;
    ensure!(saved()? == before, "GC took what is valid: {}", saved()?);
    collect(&["c1"])?;
    let left = saved()?;
    let there = |address: &str| left.contains(&format!("-s {address}/32 -j ACCEPT"));
    ensure!(there("10.1.2.3") && !there("10.1.2.4") && there("10.1.2.5"), "after GC: {left}");
    Ok(())
}
