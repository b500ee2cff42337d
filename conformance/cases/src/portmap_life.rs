//! portmap: ADD and CHECK of published ports. For DEL see `portmap_del`.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{VERSIONS, with};
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::conflists::runtime;
use harness::stage::portmap::{at_once, bridged, heir_of, portmap, published, ruleset};
use runtime::{Attachment, Conflist};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("portmap/a_taken_port_is_refused_and_its_owner_named", &["PM-R1"], taken),
    Case::new("portmap/add_twice_replaces_without_duplicates", &["PM-B1"], again),
    Case::new("portmap/check_names_missing_rules", &["C-043", "PM-1"], check),
    Case::new("portmap/invalid_input_is_refused_and_creates_nothing", &["PM-K2", "PM-K4"], bad_input),
    Case::new("portmap/a_failed_add_leaves_nothing_of_either_family", &["PM-B2"], failed),
    Case::new("portmap/the_result_passes_through", &["C-120", "PM-K7"], pass_through),
    Case::new("portmap/without_mappings_nothing_changes", &["PM-K1"], without_mappings),
    Case::new("portmap/status", &["C-044", "PM-R3"], status),
    Case::new("portmap/fifty_concurrent_adds_succeed", &["C-047", "PM-R6"], fifty),
    Case::new("portmap/a_runtime_runs_the_whole_chain", &["C-100", "C-122", "LR-3", "PM-4"], chain),
    Case::new("portmap/add_runs_no_program_and_commits_once", &["HO-1"], no_program).needs(&[Need::Strace]),
];

pub fn one(port: u16) -> Value {
    json!([
        {"hostPort": port, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": port, "containerPort": 53, "protocol": "udp"},
    ])
}

fn taken(room: &Room) -> Result<()> {
    const HERE: &str = "10.1.2.1";
    let range = json!({"hostPort": 3000, "hostPortEnd": 3999, "containerPort": 3000});
    let any = json!({"hostPort": 8080, "containerPort": 80});
    let here = json!({"hostPort": 9090, "containerPort": 80, "hostIP": HERE});
    let (owner, config) = published(room, "owner", json!([any, here, range]))?;
    let (other, previous) = bridged(room, "other")?;
    let before = ruleset()?;
    for mapping in [
        json!({"hostPort": 8080, "containerPort": 81}),
        json!({"hostPort": 8080, "containerPort": 80, "hostIP": HERE}),
        json!({"hostPort": 9090, "containerPort": 80}),
        json!({"hostPort": 9090, "containerPort": 80, "hostIP": HERE}),
        json!({"hostPort": 3500, "containerPort": 80}),
        json!({"hostPort": 3500, "containerPort": 80, "hostIP": HERE}),
        json!({"hostPort": 8000, "hostPortEnd": 8999, "containerPort": 80}),
        json!({"hostPort": 9000, "hostPortEnd": 9999, "containerPort": 80}),
        json!({"hostPort": 2500, "hostPortEnd": 3500, "containerPort": 80}),
    ] {
        let config = portmap(json!([{"hostPort": 1, "containerPort": 1}, mapping]), &previous);
        let error = room.attach("portmap", "ADD", &other).config(&config).run()?.error()?;
        ensure!(error.msg.contains("owner") && error.msg.contains("eth0"), "the owner is not named: {error}");
        ensure!(ruleset()? == before, "{mapping}: the refused ADD changed the rules");
    }
    // Another address, another protocol, a neighbouring port: these are free.
    let free = json!([
        {"hostPort": 9090, "containerPort": 80, "hostIP": "127.0.0.1"},
        {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
        {"hostPort": 4000, "containerPort": 80},
    ]);
    let config_of_other = portmap(free, &previous);
    room.attach("portmap", "ADD", &other).config(&config_of_other).run()?.result()?;
    room.attach("portmap", "DEL", &owner).config(&config).run()?.silent()?;
    room.attach("portmap", "CHECK", &other).config(&config_of_other).run()?.silent()?;
    // A freed port is available; and a dead container's mapping does not conflict when its address
    // has a new owner.
    let config = portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &config["prevResult"]);
    room.attach("portmap", "ADD", &owner).config(&config).run()?.result()?;
    let (heir, previous) = heir_of(room, &owner, &config)?;
    let config = portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &previous);
    room.attach("portmap", "ADD", &heir).config(&config).run()?.result()?;
    room.attach("portmap", "CHECK", &heir).config(&config).run()?.silent()
}

fn again(room: &Room) -> Result<()> {
    let (container, config) = published(room, "c1", one(8080))?;
    let before = ruleset()?;
    let twice = portmap(json!([one(8080)[0], one(8080)[0], one(8080)[1]]), &config["prevResult"]);
    for config in [&config, &twice] {
        room.attach("portmap", "ADD", &container).config(config).run()?.result()?;
        ensure!(ruleset()? == before, "the second ADD changed the rules");
    }
    // With other ports, at another address, after a rename: only the new rules exist.
    let mut moved = portmap(one(9090), &config["prevResult"]);
    moved["name"] = json!("renamed");
    moved["prevResult"]["ips"][0]["address"] = json!("10.1.2.77/24");
    room.attach("portmap", "ADD", &container).config(&moved).run()?.result()?;
    let rules = ruleset()?.to_string();
    ensure!(!rules.contains("8080") && !rules.contains("10.1.2.2\""), "the old ports are left: {rules}");
    room.attach("portmap", "CHECK", &container).config(&moved).run()?.silent()?;
    room.attach("portmap", "CHECK", &container).config(&config).run()?.error().map(drop)
}

fn check(room: &Room) -> Result<()> {
    let (container, config) = published(room, "c1", one(8080))?;
    let check = || room.attach("portmap", "CHECK", &container).config(&config).run();
    let add = || room.attach("portmap", "ADD", &container).config(&config).run()?.result();
    check()?.silent()?;
    let nft = |words: &str| ip::output("nft", &words.split(' ').collect::<Vec<_>>()).map(drop);
    for (change, named) in [
        ("flush ruleset", "published-prerouting"),
        ("delete element inet moor ports4 { tcp . 8080 }", "tcp . 8080"),
        ("delete element inet moor ports6 { udp . 8080 }", "udp . 8080"),
        ("delete element inet moor loopback4 { 10.1.2.2 }", "loopback4"),
        ("flush set inet moor hairpin4", "hairpin4"),
        ("flush map inet moor publishers", "publishers"),
        ("flush chain inet moor published-output", "published-output"),
        ("flush chain inet moor published", "published"),
        ("add rule inet moor published-input accept", "published-input"),
        ("flush chain inet moor published-new", "published-new"),
        ("flush chain inet moor published-loopback", "published-loopback"),
    ] {
        nft(change)?;
        harness::stage::reapply::mended(&check()?, named).with_context(|| format!("after {change}"))?;
        ensure!(check()?.stderr.is_empty(), "after {change}: it is not restored");
        nft(change)?;
        harness::stage::reapply::forget_records()?;
        let error = check()?.error().with_context(|| format!("after {change}"))?;
        let complete = ["expected", "actual", named].iter().all(|word| error.msg.contains(word));
        ensure!(complete, "after {change}, CHECK reports {error}");
        nft("flush ruleset")?;
        add()?;
        check()?.silent().with_context(|| format!("{change}, and ADD again"))?;
    }
    std::fs::write("/proc/sys/net/ipv4/conf/br0/route_localnet", "0")?;
    harness::stage::reapply::mended(&check()?, "route_localnet")?;
    ensure!(room.host_sysctl("net/ipv4/conf/br0/route_localnet")? == "1", "it stays off");
    Ok(())
}

fn bad_input(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = ruleset()?;
    let add = |mappings: Value, keys: Value| {
        let config = with(&portmap(mappings, &previous), keys);
        room.attach("portmap", "ADD", &container).config(&config).run()
    };
    let good = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"});
    let bad = |keys: Value| json!([good, with(&good, keys)]);
    for (mappings, text) in [
        (bad(json!({"hostPort": null})), "Invalid host port number: 0"),
        (bad(json!({"hostPort": -1})), "Invalid host port number: -1"),
        (bad(json!({"hostPort": 65536})), "Invalid host port number: 65536"),
        (bad(json!({"containerPort": 0})), "Invalid container port number: 0"),
        (bad(json!({"containerPort": 70000})), "Invalid container port number: 70000"),
        (bad(json!({"hostPort": 9, "protocol": "icmp"})), "icmp"),
        (bad(json!({"hostPort": 9, "hostIP": "bogus"})), "bogus"),
        (bad(json!({"hostPort": 9, "hostIP": "224.0.0.1"})), "224.0.0.1"),
        (bad(json!({"hostPort": 9, "hostIP": "::1"})), "::1"),
        (bad(json!({"containerPort": 81})), "8080"),
        (bad(json!({"hostPortEnd": 8079})), "8079"),
        (bad(json!({"hostPort": 9, "hostPortEnd": 20, "containerPortEnd": 90})), "equally"),
        (bad(json!({"hostPort": 1, "hostPortEnd": 65535})), "65535"),
    ] {
        add(mappings, json!({}))?.refused(text)?;
    }
    for keys in [json!({"hostPort": "80"}), json!({"hostPort": 1.5}), json!({"protocol": 6})] {
        add(bad(keys), json!({}))?.error_code(999)?;
    }
    let many: Vec<Value> =
        (0..100_000).map(|n| json!({"hostPort": 1 + n % 60_000, "containerPort": 80})).collect();
    add(json!(many), json!({}))?.refused("too many")?;
    let scattered: Vec<Value> =
        (0..30_000).map(|n| json!({"hostPort": 1 + 2 * n, "containerPort": 80})).collect();
    add(json!(scattered), json!({}))?.refused("too many")?;
    for (keys, text) in [
        (json!({"markMasqBit": 32}), "MasqMarkBit must be between 0 and 31"),
        (
            json!({"markMasqBit": 1, "externalSetMarkChain": "X"}),
            "Cannot specify externalSetMarkChain and markMasqBit",
        ),
        (json!({"backend": "bogus"}), "unrecognized backend"),
        (json!({"prevResult": null}), "must be called as chained plugin"),
    ] {
        add(json!([good]), keys)?.refused(text)?;
    }
    ensure!(ruleset()? == before, "a refused ADD created rules");
    Ok(())
}

fn failed(room: &Room) -> Result<()> {
    // IPv4 is free, IPv6 is taken.
    let v6 = json!([{"hostPort": 8080, "containerPort": 80, "hostIP": "::"}]);
    published(room, "owner", v6)?;
    let (other, previous) = bridged(room, "other")?;
    let before = ruleset()?;
    let config = portmap(one(8080), &previous);
    room.attach("portmap", "ADD", &other).config(&config).run()?.error_with(999, "[::]:8080/tcp")?;
    ensure!(ruleset()? == before, "the failed ADD left rules");
    // A container without an address of the family of the hostIP.
    let mut v4_only = previous.clone();
    v4_only["ips"] = json!([previous["ips"][0]]);
    let asked = json!([{"hostPort": 1, "containerPort": 1}, {"hostPort": 2, "containerPort": 2, "hostIP": "2001:db8:1::1"}]);
    room.attach("portmap", "ADD", &other)
        .config(&portmap(asked, &v4_only))
        .run()?
        .refused("no IPv6 address")?;
    ensure!(ruleset()? == before, "the failed ADD left rules");
    // The wildcard address of a family that the container lacks needs no rule.
    let config = portmap(json!([{"hostPort": 2, "containerPort": 2, "hostIP": "::"}]), &v4_only);
    room.attach("portmap", "ADD", &other).config(&config).run()?.result()?;
    ensure!(ruleset()? == before, "ports were published without a container address");
    Ok(())
}

fn pass_through(room: &Room) -> Result<()> {
    for version in VERSIONS {
        let container = room.container(&format!("c-{version}"))?;
        let config = harness::config::bridge(version);
        let previous = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
        let config = with(&portmap(one(8080), &previous), json!({"cniVersion": version}));
        let result = room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
        ensure!(result == previous, "{version}: {previous} became {result}");
        room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    }
    Ok(())
}

fn without_mappings(room: &Room) -> Result<()> {
    let before = ruleset()?;
    let (container, previous) = bridged(room, "c1")?;
    for mappings in [json!([]), Value::Null] {
        let config = portmap(mappings, &previous);
        let result = room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
        ensure!(result == previous, "{previous} became {result}");
        room.attach("portmap", "CHECK", &container).config(&config).run()?.silent()?;
        room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    }
    let no_ips = with(&previous, json!({"ips": []}));
    let config = portmap(one(8080), &no_ips);
    room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
    ensure!(ruleset()? == before, "rules were created");
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap"});
    room.call("portmap", "STATUS").config(&config).run()?.silent()
}

fn fifty(room: &Room) -> Result<()> {
    const COUNT: u16 = 50;
    let before = ruleset()?;
    let attached = (0..COUNT).map(|n| {
        let (container, previous) = bridged(room, &format!("c{n}"))?;
        let port = 8000 + n;
        Ok((container, portmap(one(port), &previous)))
    });
    let attached = attached.collect::<Result<Vec<_>>>()?;
    let all = |verb| at_once(room, verb, &attached);
    all("ADD")?;
    all("CHECK")?;
    all("DEL")?;
    let after = ruleset()?;
    ensure!(after == before, "left behind: {after}");
    Ok(())
}

fn chain(room: &Room) -> Result<()> {
    let list =
        Conflist::from_file(room.net_d.join("40-portmap.conflist")).context("load 40-portmap.conflist")?;
    let container = room.container("c1")?;
    let mut attachment = Attachment::new(&container.id, container.path.display().to_string(), "eth0");
    attachment.capabilities.insert("portMappings".into(), one(8080));
    let runtime = runtime(room);
    runtime.add(&list, &attachment).context("ADD")?;
    ensure!(ruleset()?.to_string().contains("8080"), "the chain published nothing");
    runtime.check(&list, &attachment).context("CHECK")?;
    ip::output("nft", &["flush", "ruleset"])?;
    // A mapping on record is restored; without a record it is gone.
    runtime.check(&list, &attachment).context("CHECK after a flush")?;
    ensure!(ruleset()?.to_string().contains("8080"), "CHECK does not make the rules again");
    ip::output("nft", &["flush", "ruleset"])?;
    let before = ruleset()?;
    harness::stage::reapply::forget_records()?;
    ensure!(runtime.check(&list, &attachment).is_err(), "CHECK does not see that the rules are gone");
    runtime.del(&list, &attachment).context("DEL")?;
    runtime.del(&list, &attachment).context("DEL again")?;
    ensure!(ruleset()? == before, "the chain left rules");
    Ok(())
}

fn no_program(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let config = portmap(one(8080), &previous);
    for verb in ["ADD", "CHECK", "DEL"] {
        let log = room.scratch(verb);
        let file = log.display().to_string();
        let words = [
            "strace",
            "-f",
            "-qq",
            "-s",
            "40",
            "-e",
            "trace=execve,?vfork,?fork,clone,?clone3,sendto,sendmsg",
            "-o",
        ];
        let call =
            room.attach("portmap", verb, &container).config(&config).under(&[&words[..], &[&file]].concat());
        ensure!(call.run()?.succeeded(), "{verb} failed");
        let log = std::fs::read_to_string(&log)?;
        let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        // By the name of the system call: paths may hold any of these strings.
        let calls = |name: &str| {
            let named =
                |line: &&str| line.split_whitespace().nth(1).is_some_and(|call| call.starts_with(name));
            log.lines().filter(named).count()
        };
        let started = calls("fork(") + calls("vfork(") + calls("clone");
        ensure!(calls("execve(") == 1 && started == 0, "{verb} runs programs: {log}");
        let batches = count("NFNL_MSG_BATCH_BEGIN");
        ensure!(batches == usize::from(verb != "CHECK"), "{verb} commits {batches} times: {log}");
    }
    Ok(())
}
