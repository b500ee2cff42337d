//! portmap, `backend: iptables`: the reference's rules, byte for byte.

use std::os::unix::fs::symlink;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::room::call::Call;
use harness::stage::portmap::{bridged, portmap};
use serde_json::{Value, json};

use crate::portmap_del::uncounted;

pub const CASES: &[Case] = &[
    Case::new("portmap_iptables/rules_equal_the_references_byte_for_byte", &["PM-I1"], matrix)
        .needs(&[Need::Iptables, Need::Reference]),
    Case::new("portmap_iptables/each_suite_takes_over_from_the_other", &["PM-5", "PM-I2"], takeover)
        .needs(&[Need::Iptables, Need::Reference]),
    Case::new("portmap_iptables/older_chains_are_removed", &["PM-I3"], older).needs(&[Need::Iptables]),
    Case::new("portmap_iptables/add_twice_replaces_without_duplicates", &["PM-I4"], again)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/check_names_each_missing_rule", &["C-043", "PM-I8"], check)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/a_failed_family_leaves_nothing_of_the_other", &["PM-I5"], failed)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/options_of_the_other_back_end_are_refused", &["PM-I6"], refused)
        .needs(&[Need::Iptables]),
    Case::new("portmap_iptables/add_runs_two_programs_per_family_and_del_none", &["PM-I7", "HO-1"], programs)
        .needs(&[Need::Iptables, Need::Strace]),
];

/// The rules of both families, as the programs print them, without their date.
pub fn saved() -> Result<String> {
    let mut text = String::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let printed = ip::output(program, &["-t", "nat"])?;
        printed.lines().filter(|line| !line.starts_with('#')).for_each(|line| text += &format!("{line}\n"));
    }
    Ok(text)
}

fn flush() -> Result<()> {
    ip::output("nft", &["flush", "ruleset"]).map(drop)
}

/// One of the reference's plugins, for `eth0` of a container.
pub fn reference<'r>(room: &'r Room, plugin: &str, verb: &str, container: &Container) -> Call<'r> {
    let call = Call::new(room, room.reference.join(plugin)).env("CNI_COMMAND", verb);
    let call = call.env("CNI_PATH", &room.reference).env("CNI_CONTAINERID", &container.id);
    call.env("CNI_NETNS", &container.path).env("CNI_IFNAME", "eth0").env("TMPDIR", harness::room::SCRATCH)
}

pub fn iptables(mappings: Value, previous: &Value) -> Value {
    with(&portmap(mappings, previous), json!({"backend": "iptables"}))
}

pub fn published(room: &Room, id: &str, mappings: Value, keys: Value) -> Result<(Container, Value)> {
    let (container, previous) = bridged(room, id)?;
    let config = with(&iptables(mappings, &previous), keys);
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    Ok((container, config))
}

pub fn one(port: u16) -> Value {
    json!([
        {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": port, "containerPort": 53, "protocol": "udp"},
    ])
}

fn of_family(previous: &Value, v6: bool) -> Value {
    let ips = previous["ips"].as_array().into_iter().flatten();
    let ips: Vec<&Value> =
        ips.filter(|ip| ip["address"].as_str().is_some_and(|text| text.contains(':') == v6)).collect();
    with(previous, json!({"ips": ips}))
}

fn matrix(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let many = |count: u16, proto: &str| -> Vec<Value> {
        let one = |n| json!({"hostPort": 8000 + n, "containerPort": 80 + n, "protocol": proto});
        (0..count).map(one).collect()
    };
    let tcp = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"});
    let mixed = json!([
        {"hostPort": 53, "containerPort": 53, "protocol": "udp"}, tcp,
        {"hostPort": 36412, "containerPort": 36412, "protocol": "sctp"},
        {"hostPort": 54, "containerPort": 53, "protocol": "udp"},
    ]);
    let addressed = json!([
        {"hostPort": 1, "containerPort": 1, "protocol": "tcp", "hostIP": "10.1.2.1"},
        {"hostPort": 2, "containerPort": 2, "protocol": "tcp", "hostIP": "2001:db8:1::1"},
        {"hostPort": 3, "containerPort": 3, "protocol": "tcp", "hostIP": "0.0.0.0"},
        {"hostPort": 4, "containerPort": 4, "protocol": "udp", "hostIP": "::"},
        {"hostPort": 5, "containerPort": 5, "protocol": "tcp", "hostIP": "127.0.0.1"},
    ]);
    let none = || json!({});
    for (mappings, keys) in [
        (json!([tcp]), none()),
        (json!([tcp, tcp]), none()),
        (mixed.clone(), none()),
        (addressed.clone(), none()),
        (json!(many(15, "tcp")), none()),
        (json!(many(16, "udp")), none()),
        (json!([many(31, "tcp"), many(2, "sctp")].concat()), none()),
        (mixed.clone(), json!({"snat": false})),
        (mixed.clone(), json!({"markMasqBit": 0})),
        (mixed.clone(), json!({"markMasqBit": 31})),
        (mixed.clone(), json!({"externalSetMarkChain": "KUBE-MARK-MASQ"})),
        (
            mixed.clone(),
            json!({"conditionsV4": ["!", "-s", "192.0.2.0/24", "-i", "br0"], "conditionsV6": ["!", "-d", "2001:db8:9::/64"]}),
        ),
        (mixed, json!({"conditionsV4": ["-m", "comment", "--comment", "a \"b\" c\\d"]})),
        (json!([tcp]), json!({"name": "n".repeat(200)})),
        (json!([tcp]), json!({"name": "n".repeat(230)})),
    ] {
        for previous in [previous.clone(), of_family(&previous, false), of_family(&previous, true)] {
            let config = with(&iptables(mappings.clone(), &previous), keys.clone());
            let context = || format!("{mappings} with {keys} at {}", previous["ips"]);
            // We refuse an address of a family that the container does not have; the reference
            // skips it.
            if mappings == addressed && previous["ips"].as_array().is_some_and(|ips| ips.len() < 2) {
                continue;
            }
            let prepare = || -> Result<()> {
                flush()?;
                for program in ["iptables", "ip6tables"] {
                    // The owner of the mark bit, and rules that existed before.
                    ip::output(program, &["-t", "nat", "-N", "KUBE-MARK-MASQ"])?;
                    ip::output(program, &["-t", "nat", "-A", "POSTROUTING", "-p", "icmp", "-j", "ACCEPT"])?;
                }
                Ok(())
            };
            prepare()?;
            reference(room, "portmap", "ADD", &container)
                .config(&config)
                .run()?
                .result()
                .with_context(context)?;
            let theirs = saved()?;
            ensure!(theirs.contains("--to-destination"), "the reference created no rules: {}", context());
            prepare()?;
            room.attach("portmap", "ADD", &container)
                .config(&config)
                .run()?
                .result()
                .with_context(context)?;
            let ours = saved()?;
            ensure!(ours == theirs, "{}: ours are\n{ours}\ntheirs are\n{theirs}", context());
            room.attach("portmap", "CHECK", &container)
                .config(&config)
                .run()?
                .silent()
                .with_context(context)?;
        }
    }
    Ok(())
}

fn takeover(room: &Room) -> Result<()> {
    let mappings = || {
        json!([
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "10.1.2.1"},
        ])
    };
    let (first, other) = bridged(room, "first")?;
    let neighbour = iptables(one(7000), &other);
    reference(room, "portmap", "ADD", &first).config(&neighbour).run()?.result()?;
    let (container, previous) = bridged(room, "c1")?;
    let before = saved()?;
    // The reference's CHECK (of 1.1.0) queries each program for the rules of both families: it is
    // called with IPv4 only, and without an ip6tables.
    let bin = room.scratch("bin");
    std::fs::create_dir_all(&bin)?;
    symlink(ip::output("sh", &["-c", "command -v iptables"])?.trim(), bin.join("iptables"))?;
    for previous in [previous.clone(), of_family(&previous, false)] {
        let config =
            with(&iptables(mappings(), &previous), json!({"conditionsV4": ["!", "-s", "192.0.2.0/24"]}));
        let ours = |verb| room.attach("portmap", verb, &container).config(&config).run();
        let theirs = |verb| reference(room, "portmap", verb, &container).config(&config).run();
        ours("ADD")?.result()?;
        if previous["ips"].as_array().is_some_and(|ips| ips.len() == 1) {
            let check = reference(room, "portmap", "CHECK", &container).config(&config).env("PATH", &bin);
            check.run()?.silent().context("the reference's CHECK of ours")?;
        }
        theirs("DEL")?.silent().context("the reference's DEL of ours")?;
        ensure!(saved()? == before, "the reference's DEL left of ours: {}", saved()?);
        // Rules that it does not know are deleted with our own.
        ours("DEL")?.silent()?;
        theirs("ADD")?.result()?;
        ensure!(saved()? != before, "the reference's ADD created nothing");
        ours("DEL")?.silent()?;
        ensure!(saved()? == before, "our DEL left of the reference's: {}", saved()?);
        // Both for one container: our ADD after theirs adds no duplicates.
        theirs("ADD")?.result()?;
        let made = saved()?;
        ours("ADD")?.result()?;
        ensure!(saved()? == made, "our ADD after the reference's created {}, not {made}", saved()?);
        theirs("ADD")?.result()?;
        ensure!(saved()? == made, "the reference's ADD after ours created {}, not {made}", saved()?);
        ours("CHECK")?.silent()?;
        ours("DEL")?.silent()?;
        ensure!(saved()? == before, "our DEL left {}", saved()?);
    }
    // Beside a neighbour of the reference: its rules are complete to the end.
    room.attach("portmap", "CHECK", &first).config(&neighbour).run()?.silent()?;
    room.attach("portmap", "DEL", &first).config(&neighbour).run()?.silent()?;
    ensure!(!saved()?.contains("CNI-DN-"), "left: {}", saved()?);
    Ok(())
}

fn older(room: &Room) -> Result<()> {
    const CHAIN: &str = "CNI-SN-b40d6be49a3410ab31bc2";
    for program in ["iptables", "ip6tables"] {
        for words in [
            &["-N", CHAIN][..],
            &["-A", CHAIN, "-p", "tcp", "--dport", "80", "-j", "MASQUERADE"],
            &["-N", "CNI-HOSTPORT-DNAT"],
            &["-A", "CNI-HOSTPORT-DNAT", "-p", "tcp", "-j", CHAIN],
        ] {
            ip::output(program, &[&["-t", "nat"], words].concat())?;
        }
    }
    let config = json!({"cniVersion": USUAL, "name": "n", "type": "portmap"});
    let container = Container { id: "id1".into(), path: "/run/netns/gone".into() };
    room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(!saved()?.contains("CNI-SN-"), "left: {}", saved()?);
    Ok(())
}

fn again(room: &Room) -> Result<()> {
    let (container, config) = published(room, "c1", one(8080), json!({}))?;
    let before = saved()?;
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    ensure!(saved()? == before, "the second ADD changed the rules: {}", saved()?);
    let mut moved = with(&config, json!({"runtimeConfig": {"portMappings": one(9090)}}));
    moved["prevResult"]["ips"][0]["address"] = json!("10.1.2.77/24");
    room.attach("portmap", "ADD", &container).config(&moved).run()?.result()?;
    let after = saved()?;
    ensure!(!after.contains("8080") && !after.contains("10.1.2.2:"), "the old ports are left: {after}");
    room.attach("portmap", "CHECK", &container).config(&moved).run()?.silent()?;
    room.attach("portmap", "CHECK", &container).config(&config).run()?.error()?;
    // With the other back end: CHECK compares with the configured one.
    let flipped = with(&moved, json!({"backend": "nftables"}));
    room.attach("portmap", "CHECK", &container).config(&flipped).run()?.error().map(drop)
}

fn check(room: &Room) -> Result<()> {
    let keys =
        json!({"conditionsV4": ["!", "-s", "192.0.2.0/24"], "conditionsV6": ["!", "-s", "2001:db8:9::/64"]});
    let (container, config) = published(room, "c1", one(8080), keys)?;
    let check = || room.attach("portmap", "CHECK", &container).config(&config).run();
    check()?.silent()?;
    let rules: Vec<(&str, String)> = ["iptables", "ip6tables"]
        .into_iter()
        .map(|program| Ok((program, ip::output(program, &["-t", "nat", "-S"])?)))
        .collect::<Result<Vec<_>>>()?
        .into_iter()
        .flat_map(|(program, printed)| {
            let rules = printed.lines().filter(|line| line.starts_with("-A ")).map(str::to_owned);
            rules.map(move |rule| (program, rule)).collect::<Vec<_>>()
        })
        .collect();
    ensure!(rules.len() == 2 * 5 + 4 + 3 * 2 + 2 * 2, "{} rules: {rules:?}", rules.len());
    for (program, rule) in rules {
        let lines = format!("*nat\n-D {}\nCOMMIT\n", rule.trim_start_matches("-A "));
        let path = room.write("lines", lines)?.display().to_string();
        ip::output(&format!("{program}-restore"), &["--noflush", &path])?;
        let error = check()?.error().with_context(|| format!("without {rule}"))?;
        let chain = rule.split(' ').nth(1).unwrap_or_default();
        let target = rule.rsplit(" -j ").next().unwrap_or_default();
        let expected = ["expected present", "actual absent", chain, target, program];
        ensure!(
            expected.iter().all(|word| error.msg.contains(word)),
            "without {rule}, CHECK reports {error}"
        );
        room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
        check()?.silent().with_context(|| format!("{rule}, and ADD again"))?;
    }
    let chain = config_chain()?;
    ip::output("iptables", &["-t", "nat", "-I", &chain, "-j", "ACCEPT"])?;
    check()?.error_with(999, &format!("rules of {chain}"))?;
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    std::fs::write("/proc/sys/net/ipv4/conf/br0/route_localnet", "0")?;
    harness::stage::reapply::mended(&check()?, "route_localnet")
}

/// The chain of the only container.
fn config_chain() -> Result<String> {
    let saved = saved()?;
    let line = saved.lines().find(|line| line.starts_with(":CNI-DN-")).context("no container has a chain")?;
    Ok(line.trim_start_matches(':').split(' ').next().unwrap_or_default().to_owned())
}

fn failed(room: &Room) -> Result<()> {
    // The shared chains exist, so that only objects of the container can be left over.
    published(room, "first", one(7000), json!({}))?;
    let (container, previous) = bridged(room, "c1")?;
    let before = uncounted()?;
    let nonsense = with(&iptables(one(8080), &previous), json!({"conditionsV6": ["-m", "no-such-match"]}));
    let error = room.attach("portmap", "ADD", &container).config(&nonsense).run()?.error_code(999)?;
    let all = format!("{} {}", error.msg, error.details);
    ensure!(all.contains("ip6tables") && all.contains("no-such-match"), "the error names no cause: {error}");
    ensure!(uncounted()? == before, "the failed ADD left {}", uncounted()?);
    // No value is parsed as a further line.
    let lines = json!({"conditionsV4": ["-s", "10.0.0.0/8\n-F CNI-HOSTPORT-DNAT"]});
    let config = with(&iptables(one(8080), &previous), lines);
    room.attach("portmap", "ADD", &container).config(&config).run()?.refused("no word of a rule")?;
    ensure!(uncounted()? == before, "the refused ADD created {}", uncounted()?);
    // Another attachment has the port in the other back end: the error names its owner.
    let (owner, theirs) = bridged(room, "owner")?;
    room.attach("portmap", "ADD", &owner).config(&portmap(one(8080), &theirs)).run()?.result()?;
    let before = uncounted()?;
    let config = iptables(one(8080), &previous);
    room.attach("portmap", "ADD", &container).config(&config).run()?.error_with(999, "owner")?;
    ensure!(uncounted()? == before, "the failed ADD left {}", uncounted()?);
    // No programs: the error names what is missing, and nothing is created.
    let config = iptables(one(8081), &previous);
    let call = room.attach("portmap", "ADD", &container).config(&config);
    let wrapper = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /usr/sbin && exec \"$0\""];
    let error = call.under(&wrapper).run()?.error_code(999)?;
    ensure!(error.to_string().contains("iptables-save"), "{error}");
    ensure!(uncounted()? == before, "the failed ADD left {}", uncounted()?);
    Ok(())
}

fn refused(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = uncounted()?;
    let add = |keys: Value| {
        let config = with(&portmap(one(8080), &previous), keys);
        room.attach("portmap", "ADD", &container).config(&config).run()
    };
    add(json!({"backend": "nftables", "externalSetMarkChain": "X", "conditionsV4": ["-s", "10.0.0.0/8"]}))?.refused(
        "nftables backend was requested but configuration contains iptables-specific options [externalSetMarkChain conditionsV4]",
    )?;
    add(json!({"backend": "iptables", "conditionsV6": ["ip6", "saddr", "fd00::/8"]}))?.refused(
        "iptables backend was requested but configuration contains nftables-specific options [conditionsV6]",
    )?;
    add(json!({"backend": "x"}))?.refused("unrecognized backend \"x\"")?;
    let bad = json!([one(8080)[0], {"hostPort": 65536, "containerPort": 80, "protocol": "tcp"}]);
    let config = iptables(bad, &previous);
    room.attach("portmap", "ADD", &container)
        .config(&config)
        .run()?
        .refused("Invalid host port number: 65536")?;
    ensure!(uncounted()? == before, "a refused ADD created rules");
    Ok(())
}

fn programs(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let config = iptables(one(8080), &previous);
    // Rules in the program's own syntax need no second query.
    for (verb, most) in [("ADD", 4), ("CHECK", 2), ("DEL", 0)] {
        let log = room.scratch(verb);
        let file = log.display().to_string();
        let words = ["strace", "-f", "-qq", "-s", "200", "-e", "trace=execve", "-o", &file];
        let call = room.attach("portmap", verb, &container).config(&config).under(&words);
        ensure!(call.run()?.succeeded(), "{verb} failed");
        let log = std::fs::read_to_string(&log)?;
        let started: Vec<&str> = log.lines().filter(|line| line.contains("execve(")).skip(1).collect();
        ensure!(started.len() <= most, "{verb} runs {} programs: {log}", started.len());
        ensure!(started.iter().all(|line| line.contains("tables-")), "{verb} runs other programs: {log}");
    }
    Ok(())
}
