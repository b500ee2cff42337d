//! vrf: packets, routes and tables. They need a kernel with CONFIG_NET_VRF.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::need::Need;
use harness::room::Room;
use harness::stage::two_ways::{addresses, answered, chained, run, two_ways};
use harness::{diff, ip};
use serde_json::{Value, json};

pub(crate) const VRF: &[Need] = &[Need::Vrf];

pub const CASES: &[Case] = &[
    Case::new("vrf/a_container_answers_from_its_vrf", &["VR-1", "VR-2", "VR-5", "VR-B3"], packets).needs(VRF),
    Case::new("vrf/routes_and_addresses_are_kept", &["VR-B3", "VR-B5", "VR-R1", "VR-R2"], routes).needs(VRF),
    Case::new("vrf/tables_in_use_are_never_chosen", &["VR-K2", "VR-B1"], in_use).needs(VRF),
    Case::new("vrf/an_administrators_vrf_stays", &["VR-K2", "VR-R3"], administrators).needs(VRF),
    Case::new("vrf/attachments_at_the_same_time_share_it", &["VR-5", "VR-R4"], at_once).needs(VRF),
    Case::new("vrf/add_again_changes_nothing", &["VR-R5"], again).needs(VRF),
    Case::new("vrf/every_version_has_its_result", &["C-050", "VR-2"], versions).needs(VRF),
];

pub(crate) fn vrf(nth: usize) -> Value {
    chained("vrf", nth, json!({"vrfname": "red"}))
}

/// A snapshot without the rule that the kernel makes with the first VRF.
pub(crate) fn state(room: &Room) -> Result<Vec<String>> {
    let container = harness::namespace::Container { id: "c1".into(), path: "/run/netns/c1".into() };
    let mut lines = room.snapshot_in(&container)?;
    lines.retain(|line| !line.contains("l3mdev") && !line.contains("keep_addr_on_down"));
    Ok(lines)
}

pub(crate) fn ensure_same(room: &Room, before: &[String], what: &str) -> Result<()> {
    let changes = diff::lines(before, &state(room)?);
    ensure!(changes.is_empty(), "{what}: {changes:?}");
    Ok(())
}

/// The table of the VRF `red`; `None` without it.
pub(crate) fn table() -> Result<Option<u64>> {
    let link = ip::link(Some("c1"), "red")?;
    Ok(link.and_then(|link| link["linkinfo"]["info_data"]["table"].as_u64()))
}

fn routes_of(table: u64) -> Result<Vec<Value>> {
    let table = table.to_string();
    let mut rows = ip::rows(Some("c1"), &["-N", "-d", "-4", "route", "show", "table", "all"])?;
    rows.extend(ip::rows(Some("c1"), &["-N", "-d", "-6", "route", "show", "table", "all"])?);
    rows.retain(|row| row["table"] == table);
    Ok(rows)
}

fn packets(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = state(room)?;
    ensure!(answered(room, 1)? == [false; 2], "the second gateway gets an answer without a VRF");
    let result = run(room, "ADD", &container, 1, &vrf(1))?.result()?;
    ensure!(result == vrf(1)["prevResult"], "{result}");
    run(room, "CHECK", &container, 1, &vrf(1))?.silent()?;
    let link = ip::link(Some("c1"), "net1")?.context("no net1")?;
    ensure!(link["master"] == "red", "{link}");
    ensure!(answered(room, 1)? == [true; 2], "no answer from the VRF: {:?}", answered(room, 1)?);
    ensure!(answered(room, 0)? == [true; 2], "the other interface does not answer");
    run(room, "DEL", &container, 1, &vrf(1))?.silent()?;
    ensure!(table()?.is_none(), "the VRF is left");
    ensure_same(room, &before, "DEL leaves")
}

fn routes(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    ip::script(
        Some("c1"),
        "addr add 10.3.0.5/24 dev net1
         route add 10.50.0.0/16 via 10.2.0.9 dev net1 metric 50 mtu 1400 proto 77
         route add 10.51.0.0/16 nexthop via 10.2.0.1 dev net1 weight 3 nexthop via 10.2.0.2 dev net1
         route add 10.53.0.0/16 dev net1 scope link src 10.3.0.5
         route add 10.56.0.0/16 via 10.2.0.1 dev net1 table 900
         -6 route add fd50::/32 via fd02::9 dev net1 metric 50 mtu 1400
         -6 route add fd53::/32 via fd02::9 dev net1 src fd02::5",
    )?;
    let before = state(room)?;
    run(room, "ADD", &container, 1, &vrf(1))?.result()?;
    for address in addresses(1) {
        let own = ip::addresses(Some("c1"), "net1")?;
        ensure!(own.iter().any(|own| own.starts_with(&format!("{address}/"))), "{address}: {own:?}");
    }
    let rows = routes_of(table()?.context("no VRF")?)?;
    let get = |dst: &str| {
        rows.iter().find(|row| row["dst"] == dst).with_context(|| format!("no {dst} in {rows:?}"))
    };
    let metric = get("10.50.0.0/16")?;
    ensure!(
        metric["metric"] == 50 && metric["protocol"] == "77" && metric["metrics"][0]["mtu"] == 1400,
        "{metric}"
    );
    ensure!(get("10.51.0.0/16")?["nexthops"][0]["weight"] == 3, "{rows:?}");
    ensure!(get("10.53.0.0/16")?["prefsrc"] == "10.3.0.5", "{rows:?}");
    ensure!(get("fd50::/32")?["metric"] == 50, "{rows:?}");
    for dst in ["fd53::/32", "10.2.0.0/24", "10.3.0.0/24", "fd02::/64"] {
        get(dst)?;
    }
    ensure!(rows.iter().filter(|row| row["dst"] == "default").count() == 2, "{rows:?}");
    ensure!(routes_of(900)?.len() == 1, "a route of another table is lost");
    run(room, "DEL", &container, 1, &vrf(1))?.silent()?;
    ensure_same(room, &before, "DEL leaves")
}

fn in_use(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    ip::script(
        Some("c1"),
        "rule add fwmark 7 lookup 1
         route add 10.60.0.0/16 dev eth0 table 2
         -6 route add fd60::/32 dev eth0 table 3
         link add blue type vrf table 4",
    )?;
    run(room, "ADD", &container, 1, &vrf(1))?.result()?;
    ensure!(table()? == Some(5), "table {:?}", table()?);
    run(room, "DEL", &container, 1, &vrf(1))?.silent()?;
    let configured = with(&vrf(1), json!({"table": 4_000_000_000_u32}));
    run(room, "ADD", &container, 1, &configured)?.result()?;
    ensure!(table()? == Some(4_000_000_000), "table {:?}", table()?);
    run(room, "CHECK", &container, 1, &configured)?.silent()?;
    run(room, "DEL", &container, 1, &configured)?.silent()
}

fn administrators(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    ip::script(Some("c1"), "link add red type vrf table 70\n link set red up")?;
    run(room, "ADD", &container, 1, &vrf(1))?.result()?;
    run(room, "CHECK", &container, 1, &vrf(1))?.silent()?;
    run(room, "DEL", &container, 1, &vrf(1))?.silent()?;
    ensure!(table()? == Some(70), "the administrator's VRF is gone");
    let other = with(&vrf(1), json!({"table": 71}));
    run(room, "ADD", &container, 1, &other)?.error_with(999, "already exist with different routing table")?;
    run(room, "DEL", &container, 1, &other)?.silent()?;
    // DEL does not take the interface out of a VRF that ADD did not put it into.
    ip::script(Some("c1"), "link add blue type vrf table 72\n link set net1 master blue")?;
    run(room, "ADD", &container, 1, &vrf(1))?.error_with(999, "has already a master set: blue")?;
    run(room, "DEL", &container, 1, &vrf(1))?.silent()?;
    let link = ip::link(Some("c1"), "net1")?.context("no net1")?;
    ensure!(link["master"] == "blue" && table()? == Some(70), "{link}");
    Ok(())
}

fn at_once(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let before = state(room)?;
    let both = |verb: &'static str| -> Result<()> {
        std::thread::scope(|scope| {
            let container = &container;
            let running = [0, 1].map(|nth| scope.spawn(move || run(room, verb, container, nth, &vrf(nth))));
            for thread in running {
                let answer = thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
                ensure!(answer.succeeded(), "{verb}: {}", answer.summary());
            }
            Ok(())
        })
    };
    for _ in 0..2 {
        both("ADD")?;
        for link in ["eth0", "net1"] {
            let row = ip::link(Some("c1"), link)?.context("no link")?;
            ensure!(row["master"] == "red", "{row}");
        }
        both("DEL")?;
        ensure_same(room, &before, "DEL of both leaves")?;
    }
    // The VRF stays for the other one.
    both("ADD")?;
    run(room, "DEL", &container, 0, &vrf(0))?.silent()?;
    run(room, "CHECK", &container, 1, &vrf(1))?.silent()?;
    run(room, "DEL", &container, 1, &vrf(1))?.silent()?;
    ensure!(table()?.is_none(), "the VRF is left");
    Ok(())
}

fn again(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    let first = run(room, "ADD", &container, 1, &vrf(1))?.result()?;
    let after = state(room)?;
    let second = run(room, "ADD", &container, 1, &vrf(1))?.result()?;
    ensure!(first == second, "{first} and {second}");
    ensure_same(room, &after, "a second ADD changes")?;
    run(room, "DEL", &container, 1, &vrf(1))?.silent()
}

fn versions(room: &Room) -> Result<()> {
    let container = two_ways(room)?;
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut config = with(&vrf(1), json!({"cniVersion": version}));
        config["prevResult"]["cniVersion"] = version.into();
        if version < "1.0.0" {
            config["prevResult"]["ips"][0]["version"] = "4".into();
            config["prevResult"]["ips"][1]["version"] = "6".into();
        }
        let result = run(room, "ADD", &container, 1, &config)?.result().context(version)?;
        ensure!(result["cniVersion"] == version && result.to_string().contains("fd02::5/64"), "{result}");
        if version >= "0.4.0" {
            run(room, "CHECK", &container, 1, &config)?.silent().context(version)?;
        }
        run(room, "DEL", &container, 1, &config)?.silent().context(version)?;
    }
    let bare = with(&vrf(1), json!({"prevResult": null}));
    run(room, "ADD", &container, 1, &bare)?.refused("missing prevResult from earlier plugin")?;
    Ok(())
}
