//! bridge, ipMasq: packets to the outside have the host's address, packets inside keep their own.

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::config::{bridge, with};
use harness::namespace::{Container, OUTSIDE};
use harness::need::Need;
use harness::room::Room;
use harness::stage::reapply::{self, forget_records};
use harness::{ip, snapshot, socket};
use serde_json::{Value, json};

use crate::bridge_keys::add;

pub const CASES: &[Case] = &[
    Case::new("masquerade/outside_sees_the_host_and_siblings_see_the_container", &["BR-K5"], seen_from),
    Case::new("masquerade/every_address_of_two_ranges_is_masqueraded", &["BR-B4"], two_ranges),
    Case::new(
        "masquerade/traffic_to_another_subnet_of_the_network_is_not_masqueraded",
        &["BR-R15"],
        other_subnet,
    ),
    Case::new("masquerade/rules_do_not_grow_with_containers_and_name_their_owner", &["BR-R14"], constant),
    Case::new("masquerade/back_end_is_checked_before_any_change", &["BR-K6"], back_end),
    Case::new("masquerade/check_names_missing_rules", &["BR-R6"], check),
    Case::new("masquerade/the_next_add_restores_a_flushed_table", &["BR-R16"], mended),
    Case::new("masquerade/an_address_left_by_another_attachment_is_taken_over", &["BR-R17"], taken_over),
    Case::new("masquerade/thirty_concurrent_attachments_leave_nothing", &["BR-R18"], thirty),
    Case::new("masquerade/runs_no_program_but_the_ipam_plugin", &["HO-1"], no_process).needs(&[Need::Strace]),
];

/// The usual bridge with masquerade.
pub fn masquerade() -> Value {
    with(&bridge("1.1.0"), json!({"ipMasq": true}))
}

/// The outside has no route to the containers: it can answer only the host.
pub fn ensure_masqueraded(from: &str) -> Result<()> {
    for (outside, host) in OUTSIDE.into_iter().zip(["198.51.100.1", "2001:db8:ff::1"]) {
        let seen = socket::seen_as(from, "outside", outside)?;
        ensure!(seen == host, "{outside} sees {from} as {seen}, not as the host");
    }
    Ok(())
}

fn seen_from(room: &Room) -> Result<()> {
    room.outside(&[])?;
    for id in ["c1", "c2"] {
        add(room, &room.container(id)?, &masquerade())?;
        ensure_masqueraded(id)?;
    }
    for (address, sibling) in [("10.1.2.2", "10.1.2.3"), ("2001:db8:1::2", "2001:db8:1::3")] {
        let seen = socket::seen_as("c2", "c1", address)?;
        ensure!(seen == sibling, "c1 sees c2 as {seen}, not {sibling}");
    }
    // One attachment is deleted, the other's rule is kept.
    let one = Container { id: "c1".into(), path: "/run/netns/c1".into() };
    room.attach("bridge", "DEL", &one).config(&masquerade()).run()?.silent()?;
    ensure_masqueraded("c2")
}

fn two_ranges(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mut config = masquerade();
    config["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/24"}]]);
    add(room, &room.container("c1")?, &config)?;
    for source in ["10.1.2.2", "10.1.3.2"] {
        ip::run_in("c1", &["route", "replace", OUTSIDE[0], "via", "10.1.2.1", "src", source])?;
        let seen = socket::seen_as("c1", "outside", OUTSIDE[0])?;
        ensure!(seen == "198.51.100.1", "the outside sees {source} as {seen}");
    }
    Ok(())
}

fn other_subnet(room: &Room) -> Result<()> {
    // One range set of two subnets, the first of which has room for one container: the host routes
    // between the two.
    let mut config = masquerade();
    config["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.0/30"}, {"subnet": "10.1.3.0/24"}]]);
    for (id, address) in [("c1", "10.1.2.2/30"), ("c2", "10.1.3.2/24")] {
        let result = add(room, &room.container(id)?, &config)?;
        ensure!(result["ips"][0]["address"] == address, "{result}");
    }
    let seen = socket::seen_as("c2", "c1", "10.1.2.2")?;
    ensure!(seen == "10.1.3.2", "c1 takes c2 for {seen}");
    Ok(())
}

/// How many objects of a kind `nft -j` lists.
fn count(kind: &str) -> Result<usize> {
    let all: Value = serde_json::from_str(&ip::output("nft", &["-j", "list", "ruleset"])?)?;
    Ok(all["nftables"].as_array().into_iter().flatten().filter(|object| !object[kind].is_null()).count())
}

fn constant(room: &Room) -> Result<()> {
    add(room, &room.container("c0")?, &masquerade())?;
    let before = [count("rule")?, count("chain")?];
    for n in 1..6 {
        add(room, &room.container(&format!("c{n}"))?, &masquerade())?;
    }
    let after = [count("rule")?, count("chain")?];
    ensure!(before == after, "rules and chains were {before:?} with one container, are {after:?} with six");
    let rules = snapshot::rules()?.join("\n");
    for n in 0..6 {
        // In two maps of each family.
        ensure!(rules.matches(&format!("moor/net/eth0/c{n}\"")).count() == 4, "owner c{n}: {rules}");
    }
    Ok(())
}

fn back_end(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let refused = |backend: &str| -> Result<_> {
        let config = with(&masquerade(), json!({"ipMasqBackend": backend}));
        let answer = room.attach("bridge", "ADD", &container).config(&config).run()?;
        room.ensure_unchanged(&before, "a refused back end made something")?;
        Ok(answer)
    };
    refused("x")?.refused("unknown ipmasq backend \"x\"")?;
    add(room, &container, &with(&masquerade(), json!({"ipMasqBackend": "nftables"})))?;
    Ok(())
}

/// CHECK passes after ADD, and names each rule that another process deleted or changed.
fn check(room: &Room) -> Result<()> {
    let inside = |rules: &[String]| {
        let name = rules.iter().find_map(|line| line.split(": chain ").nth(1)?.strip_prefix("masq-"));
        name.and_then(|name| name.split(' ').next()).map(|name| format!("masq-{name}"))
    };
    let harms: [(&[&str], &str); 6] = [
        (
            &["delete element inet moor masq6 { 2001:db8:1::N }"],
            "element 2001:db8:1::N of map inet moor masq6",
        ),
        (
            &[
                "delete element inet moor masq4 { 10.1.2.N }",
                "add element inet moor masq4 { 10.1.2.N comment \"other\" : accept }",
            ],
            "actual accept for other",
        ),
        (&["flush chain inet moor masq"], "rules of chain inet moor masq: expected 2, actual 0"),
        (&["flush chain inet moor INSIDE"], "rules of chain inet moor INSIDE"),
        (&["add rule inet moor INSIDE accept"], "rules of chain inet moor INSIDE"),
        (&["flush ruleset"], "chain inet moor masq: expected present, actual absent"),
    ];
    for (n, (harms, error)) in harms.into_iter().enumerate() {
        let container = room.container(&format!("c{n}"))?;
        let result = add(room, &container, &masquerade())?;
        let checked = with(&masquerade(), json!({"prevResult": result}));
        let check = || room.attach("bridge", "CHECK", &container).config(&checked).run();
        check()?.silent()?;
        let chain = inside(&snapshot::rules()?).context("no chain matches traffic inside the network")?;
        // Leases are allocated in order.
        let fill = |text: &str| text.replace('N', &(n + 2).to_string()).replace("INSIDE", &chain);
        let fill = |text: &str| {
            if text.contains("INSIDE") { text.replace("INSIDE", &chain) } else { fill(text) }
        };
        for harm in harms {
            nft(&fill(harm))?;
        }
        reapply::mended(&check()?, &fill(error))?;
        ensure!(check()?.stderr.is_empty(), "it is not restored");
        for harm in harms {
            nft(&fill(harm))?;
        }
        forget_records()?;
        check()?.error_with(999, &fill(error))?;
        room.attach("bridge", "DEL", &container).config(&checked).run()?.silent()?;
        if n > 0 {
            nft("flush ruleset")?;
        }
    }
    Ok(())
}

/// Runs one command of nft.
pub fn nft(command: &str) -> Result<()> {
    ip::output("nft", &[command]).map(drop)
}

fn mended(room: &Room) -> Result<()> {
    room.outside(&[])?;
    for (n, harm) in ["flush table inet moor", "flush chain inet moor masq", "delete table inet moor"]
        .into_iter()
        .enumerate()
    {
        add(room, &room.container(&format!("before{n}"))?, &masquerade())?;
        nft(harm)?;
        let next = format!("after{n}");
        add(room, &room.container(&next)?, &masquerade())?;
        ensure_masqueraded(&next).with_context(|| harm.to_owned())?;
    }
    Ok(())
}

fn taken_over(room: &Room) -> Result<()> {
    let (first, container) = (room.container("first")?, room.container("c1")?);
    add(room, &first, &masquerade())?;
    let before = snapshot::rules()?;
    nft("add element inet moor masq4 { 10.1.2.3 comment \"moor/net/eth0/dead\" : accept }")?;
    let result = add(room, &container, &masquerade())?;
    let checked = with(&masquerade(), json!({"prevResult": result}));
    room.attach("bridge", "CHECK", &container).config(&checked).run()?.silent()?;
    // DEL keeps an element that by then belongs to another attachment.
    nft("delete element inet moor masq6 { 2001:db8:1::3 }")?;
    nft("add element inet moor masq6 { 2001:db8:1::3 comment \"moor/net/eth0/next\" : accept }")?;
    room.attach("bridge", "DEL", &container).config(&checked).run()?.silent()?;
    nft("delete element inet moor masq6 { 2001:db8:1::3 }")?;
    ensure!(snapshot::rules()? == before, "left: {:#?}", snapshot::rules()?);
    Ok(())
}

fn thirty(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let containers = (0..30).map(|n| room.container(&format!("c{n}"))).collect::<Result<Vec<_>>>()?;
    let all = |verb: &str| -> Result<()> {
        std::thread::scope(|scope| {
            let run = |container| room.attach("bridge", verb, container).config(&masquerade()).run();
            let calls: Vec<_> =
                containers.iter().map(|container| scope.spawn(move || run(container))).collect();
            for call in calls {
                let answer = call.join().map_err(|_| anyhow!("a call panicked"))??;
                ensure!(answer.succeeded(), "{verb}: {}", answer.stderr);
            }
            Ok(())
        })
    };
    all("ADD")?;
    let rules = snapshot::rules()?.join("\n");
    ensure!(rules.matches("moor/net/eth0/c").count() == 120, "four elements each: {rules}");
    all("DEL")?;
    let ids: Vec<&str> = containers.iter().map(|container| container.id.as_str()).collect();
    room.ensure_nothing_left(&before, &ids)
}

fn no_process(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let log = room.scratch("strace");
    let words =
        ["strace", "-f", "-qq", "-e", "trace=execve", "-o", &log.display().to_string()].map(str::to_owned);
    let config = with(&masquerade(), json!({"macspoofchk": true}));
    for verb in ["ADD", "DEL"] {
        let answer = room.attach("bridge", verb, &container).config(&config).under(&words).run()?;
        ensure!(answer.succeeded(), "{verb}: {}", answer.stderr);
        let text = std::fs::read_to_string(&log)?;
        let programs: Vec<&str> =
            text.lines().filter_map(|line| line.split('"').nth(1)?.rsplit('/').next()).collect();
        // If one executable holds both plugins, no second process is needed.
        ensure!(matches!(programs[..], ["bridge"] | ["bridge", "host-local"]), "{verb} started {programs:?}");
    }
    Ok(())
}
