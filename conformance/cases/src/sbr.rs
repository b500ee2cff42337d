//! sbr: packets, routes and tables.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{VERSIONS, with};
use harness::diff;
use harness::ip;
use harness::room::Room;
use harness::stage::two_ways::{LINKS, addresses, answered, call, chained, gateways, run, two_ways};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new(
        "sbr/answers_leave_by_the_interface_that_the_question_came_in_by",
        &["SB-1", "SB-2", "SB-3", "SB-5"],
        packets,
    ),
    Case::new(
        "sbr/routes_keep_metrics_next_hops_and_protocols",
        &["SB-3", "SB-4", "SB-B7", "SB-B8", "SB-B9", "SB-R1"],
        routes,
    ),
    Case::new("sbr/add_again_changes_nothing", &["SB-B2"], again),
    Case::new("sbr/tables_in_use_are_never_chosen", &["SB-B1"], in_use),
    Case::new("sbr/attachments_at_the_same_time_get_different_tables", &["SB-R2"], at_once),
    Case::new("sbr/a_configured_table_gets_rules_alone", &["SB-K1"], configured),
    Case::new("sbr/configured_gateways_replace_the_others", &["SB-K2"], replaced),
    Case::new("sbr/source_hints_stay_in_the_main_table", &["SB-K3"], hints),
    Case::new("sbr/every_version_has_its_result", &["C-050", "SB-2"], versions),
];

pub(crate) fn sbr(nth: usize) -> Value {
    chained("sbr", nth, json!({}))
}

/// The tables of the rules for packets from that interface, IPv4 first.
pub(crate) fn tables(nth: usize) -> Result<Vec<String>> {
    let mut tables = Vec::new();
    for (family, address) in ["-4", "-6"].iter().zip(addresses(nth)) {
        let rules = ip::rows(Some("c1"), &["-N", family, "rule", "show", "from", &address])?;
        let table = |rule: Value| rule["table"].as_str().map(str::to_owned).context("a rule without a table");
        tables.extend(rules.into_iter().map(table).collect::<Result<Vec<_>>>()?);
    }
    Ok(tables)
}

/// The routes of a table, of both families.
fn routes_of(table: &str) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for family in ["-4", "-6"] {
        // A table that a family does not have is an error for `ip`.
        let all = ip::rows(Some("c1"), &["-N", "-d", family, "route", "show", "table", "all"])?;
        rows.extend(all.into_iter().filter(|row| row["table"].as_str().unwrap_or("254") == table));
    }
    Ok(rows)
}

fn of_link<'r>(rows: &'r [Value], link: &str) -> Vec<&'r Value> {
    rows.iter().filter(|row| row["dev"] == link).collect()
}

fn packets(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = room.snapshot_in(&container)?;
    ensure!(answered(room, 0)? == [true; 2], "the first gateway gets no answer");
    ensure!(answered(room, 1)? == [false; 2], "the second gateway gets an answer without routes by source");
    for nth in [0, 1] {
        let result = run(room, "ADD", &container, nth, &sbr(nth))?.result()?;
        ensure!(result == sbr(nth)["prevResult"], "{result}");
        run(room, "CHECK", &container, nth, &sbr(nth))?.silent()?;
    }
    for nth in [0, 1] {
        ensure!(answered(room, nth)? == [true; 2], "gateway {nth} gets {:?}", answered(room, nth)?);
    }
    let main = routes_of("254")?;
    for link in LINKS {
        let left = of_link(&main, link).into_iter().filter(|row| row["dst"] != "fe80::/64").count();
        ensure!(left == 0, "routes of {link} are in the main table: {main:?}");
    }
    for nth in [1, 0] {
        run(room, "DEL", &container, nth, &sbr(nth))?.silent()?;
    }
    ensure!(answered(room, 0)? == [true; 2] && answered(room, 1)? == [false; 2], "not as before");
    let changes = diff::lines(&before, &room.snapshot_in(&container)?);
    ensure!(changes.is_empty(), "DEL leaves {changes:?}");
    Ok(())
}

fn routes(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    ip::script(
        Some("c1"),
        "addr add 10.3.0.5/24 dev net1
         route add 10.50.0.0/16 via 10.2.0.9 dev net1 metric 50 mtu 1400 proto 77
         route add 10.51.0.0/16 nexthop via 10.2.0.1 dev net1 weight 3 nexthop via 10.2.0.2 dev net1
         route add 10.52.0.0/16 nexthop via 10.2.0.1 dev net1 nexthop via 10.1.0.1 dev eth0
         route add 10.53.0.0/16 dev net1 scope link
         route add 10.54.0.0/16 via 10.77.0.1 dev net1 onlink
         route add 10.55.0.0/16 via 10.3.0.1 dev net1
         -6 route add fd50::/32 via fd02::9 dev net1 metric 50 mtu 1400
         -6 route add fd51::/32 nexthop via fd02::1 dev net1 nexthop via fd02::2 dev net1",
    )?;
    let second = json!({"interface": 0, "address": "10.3.0.5/24"});
    let mut config = sbr(1);
    config["prevResult"]["ips"].as_array_mut().context("no ips")?.push(second);
    let before = room.snapshot_in(&container)?;
    run(room, "ADD", &container, 1, &config)?.result()?;
    run(room, "CHECK", &container, 1, &config)?.silent()?;
    let own = tables(1)?;
    let [v4, v6] = &own[..] else { anyhow::bail!("tables {own:?}") };
    let other = ip::rows(Some("c1"), &["-N", "rule", "show", "from", "10.3.0.5"])?;
    let other =
        other.first().and_then(|rule| rule["table"].as_str()).context("no rule for 10.3.0.5")?.to_owned();
    let (first, second, sixth, main) =
        (routes_of(v4)?, routes_of(&other)?, routes_of(v6)?, routes_of("254")?);
    let find = |rows: &[Value], dst: &str| rows.iter().find(|row| row["dst"] == dst).cloned();
    let get = |rows: &[Value], dst: &str| find(rows, dst).with_context(|| format!("no {dst} in {rows:?}"));
    let metric = get(&first, "10.50.0.0/16")?;
    ensure!(metric["metric"] == 50 && metric["protocol"] == "77", "{metric}");
    ensure!(metric["metrics"][0]["mtu"] == 1400 && metric["gateway"] == "10.2.0.9", "{metric}");
    let hops = get(&first, "10.51.0.0/16")?["nexthops"].clone();
    ensure!(hops[0]["weight"] == 3 && hops[1]["gateway"] == "10.2.0.2", "{hops}");
    let shared = get(&first, "10.52.0.0/16")?;
    ensure!(!shared.to_string().contains("eth0") && shared.to_string().contains("10.2.0.1"), "{shared}");
    ensure!(
        get(&main, "10.52.0.0/16")?["nexthops"].as_array().is_some_and(|hops| hops.len() == 2),
        "{main:?}"
    );
    for table in [&first, &second] {
        for dst in ["10.53.0.0/16", "10.54.0.0/16"] {
            get(table, dst)?;
        }
    }
    get(&second, "10.55.0.0/16")?;
    ensure!(find(&first, "10.55.0.0/16").is_none(), "{first:?}");
    ensure!(find(&second, "10.50.0.0/16").is_none(), "{second:?}");
    ensure!(get(&sixth, "fd50::/32")?["metric"] == 50, "{sixth:?}");
    ensure!(get(&sixth, "fd51::/32")?.to_string().contains("fd02::2"), "{sixth:?}");
    get(&sixth, "fe80::/64")?;
    let left = of_link(&main, "net1").into_iter().filter(|row| row["dst"] != "fe80::/64").count();
    ensure!(left == 0 && of_link(&main, "net1").len() == 1, "in the main table: {main:?}");
    run(room, "DEL", &container, 1, &config)?.silent()?;
    let changes = diff::lines(&before, &room.snapshot_in(&container)?);
    ensure!(changes.is_empty(), "DEL leaves {changes:?}");
    Ok(())
}

fn again(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let hinted = chained("sbr", 1, json!({"addSourceHints": true}));
    for config in [sbr(1), chained("sbr", 1, json!({"table": 500})), hinted] {
        let first = run(room, "ADD", &container, 1, &config)?.result()?;
        let after = room.snapshot_in(&container)?;
        let second = run(room, "ADD", &container, 1, &config)?.result()?;
        ensure!(first == second, "{first} and {second}");
        let changes = diff::lines(&after, &room.snapshot_in(&container)?);
        ensure!(changes.is_empty(), "{config}: a second ADD changes {changes:?}");
        run(room, "DEL", &container, 1, &config)?.silent()?;
        ensure!(tables(1)?.is_empty(), "rules are left");
    }
    Ok(())
}

fn in_use(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    ip::script(
        Some("c1"),
        "rule add fwmark 7 lookup 100
         route add 10.60.0.0/16 dev eth0 table 101
         -6 rule add from fd77::/64 lookup 102
         -6 route add fd60::/32 dev eth0 table 103
         route add unreachable 10.61.0.0/16 table 104",
    )?;
    run(room, "ADD", &container, 1, &sbr(1))?.result()?;
    ensure!(tables(1)? == ["105", "106"], "{:?}", tables(1)?);
    run(room, "ADD", &container, 0, &sbr(0))?.result()?;
    ensure!(tables(0)? == ["107", "108"], "{:?}", tables(0)?);
    run(room, "DEL", &container, 1, &sbr(1))?.silent()?;
    let rules = ip::rows(Some("c1"), &["-N", "rule", "show"])?;
    ensure!(rules.iter().any(|rule| rule["table"] == "100"), "the administrator's rule is gone: {rules:?}");
    ensure!(routes_of("101")?.len() == 1 && routes_of("103")?.len() == 1, "an administrator's route is gone");
    Ok(())
}

fn at_once(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    for round in 0..5 {
        std::thread::scope(|scope| -> Result<()> {
            let container = &container;
            let running = [0, 1].map(|nth| scope.spawn(move || run(room, "ADD", container, nth, &sbr(nth))));
            for thread in running {
                thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??.result()?;
            }
            Ok(())
        })?;
        let mut all = [tables(0)?, tables(1)?].concat();
        all.sort();
        all.dedup();
        ensure!(all.len() == 4, "round {round}: tables {all:?}");
        for nth in [0, 1] {
            run(room, "DEL", &container, nth, &sbr(nth))?.silent()?;
        }
    }
    Ok(())
}

fn configured(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    ip::script(Some("c1"), "route add default via 10.2.0.1 dev net1 table 4000000000")?;
    let before = room.snapshot_in(&container)?;
    let keys = json!({"table": 4_000_000_000_u32, "gateways": ["10.2.0.9"], "addSourceHints": true});
    let config = chained("sbr", 1, keys);
    run(room, "ADD", &container, 1, &config)?.result()?;
    ensure!(tables(1)? == ["4000000000"; 2], "{:?}", tables(1)?);
    ensure!(answered(room, 1)?[0], "no answer by the administrator's route");
    let rules = |lines: Vec<String>| -> Vec<String> {
        lines.into_iter().filter(|line| !line.starts_with("rule ")).collect()
    };
    ensure!(rules(before.clone()) == rules(room.snapshot_in(&container)?), "more than rules changed");
    run(room, "CHECK", &container, 1, &config)?.silent()?;
    run(room, "DEL", &container, 1, &config)?.silent()?;
    let changes = diff::lines(&before, &room.snapshot_in(&container)?);
    ensure!(changes.is_empty(), "DEL leaves {changes:?}");
    Ok(())
}

fn replaced(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let mut config = chained("sbr", 1, json!({"gateways": ["fd02::9", "10.2.0.9"]}));
    run(room, "ADD", &container, 1, &config)?.result()?;
    run(room, "CHECK", &container, 1, &config)?.silent()?;
    let defaults = |wanted: &[&str]| -> Result<()> {
        for (table, gateway) in tables(1)?.iter().zip(wanted) {
            let routes = routes_of(table)?;
            let found: Vec<_> = routes.iter().filter(|row| row["dst"] == "default").collect();
            ensure!(found.len() == 1 && found[0]["gateway"] == *gateway, "table {table}: {found:?}");
        }
        Ok(())
    };
    defaults(&["10.2.0.9", "fd02::9"])?;
    // Another gateway of an earlier ADD does not stay.
    config["gateways"] = json!(["10.2.0.8", "fd02::8"]);
    run(room, "CHECK", &container, 1, &config)?.error_with(999, "10.2.0.8")?;
    run(room, "ADD", &container, 1, &config)?.result()?;
    defaults(&["10.2.0.8", "fd02::8"])?;
    run(room, "DEL", &container, 1, &config)?.silent()?;
    // The link has no default route now, so the result's gateway makes one.
    run(room, "ADD", &container, 1, &sbr(1))?.result()?;
    let [v4, v6] = gateways(1);
    defaults(&[&v4, &v6])?;
    ensure!(answered(room, 1)? == [true; 2], "no answers");
    run(room, "DEL", &container, 1, &sbr(1))?.silent()?;
    let main = routes_of("254")?;
    let default = of_link(&main, "net1").into_iter().find(|row| row["dst"] == "default");
    ensure!(default.is_none(), "a route that ADD made is in the main table: {default:?}");
    Ok(())
}

fn hints(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = room.snapshot_in(&container)?;
    let config = chained("sbr", 1, json!({"addSourceHints": true}));
    run(room, "ADD", &container, 1, &config)?.result()?;
    run(room, "CHECK", &container, 1, &config)?.silent()?;
    let main = routes_of("254")?;
    for (dst, source) in ["10.2.0.0/24", "fd02::/64"].iter().zip(addresses(1)) {
        let row = main.iter().find(|row| row["dst"] == *dst && row["dev"] == "net1");
        ensure!(row.is_some_and(|row| row["prefsrc"] == source), "{dst}: {main:?}");
    }
    ensure!(!of_link(&main, "net1").iter().any(|row| row["dst"] == "default"), "{main:?}");
    ensure!(answered(room, 1)? == [true; 2], "no answers");
    run(room, "DEL", &container, 1, &config)?.silent()?;
    let changes = diff::lines(&before, &room.snapshot_in(&container)?);
    ensure!(changes.is_empty(), "DEL leaves {changes:?}");
    Ok(())
}

fn versions(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    for version in VERSIONS {
        let config = match version {
            "0.1.0" | "0.2.0" => {
                let ip4 = json!({"ip": "10.2.0.5/24", "gateway": "10.2.0.1"});
                let ip6 = json!({"ip": "fd02::5/64", "gateway": "fd02::1"});
                with(&sbr(1), json!({"cniVersion": version, "prevResult": {"ip4": ip4, "ip6": ip6}}))
            }
            _ => {
                let mut config = with(&sbr(1), json!({"cniVersion": version}));
                config["prevResult"]["cniVersion"] = version.into();
                if version < "1.0.0" {
                    config["prevResult"]["ips"][0]["version"] = "4".into();
                    config["prevResult"]["ips"][1]["version"] = "6".into();
                }
                config
            }
        };
        let result = run(room, "ADD", &container, 1, &config)?.result().context(version)?;
        ensure!(result["cniVersion"] == version && result.to_string().contains("fd02::5/64"), "{result}");
        ensure!(tables(1)?.len() == 2, "{version}: {:?}", tables(1)?);
        if version >= "0.4.0" {
            run(room, "CHECK", &container, 1, &config)?.silent().context(version)?;
        }
        run(room, "DEL", &container, 1, &config)?.silent().context(version)?;
    }
    let bare = with(&sbr(1), json!({"prevResult": null}));
    run(room, "ADD", &container, 1, &bare)?.refused("This plugin must be called as chained plugin")?;
    let mut other = sbr(1);
    other["prevResult"]["interfaces"][0]["name"] = "net7".into();
    call(room, "ADD", &container, 1, &other).run()?.refused("No IP addresses supplied on interface: net1")?;
    Ok(())
}
