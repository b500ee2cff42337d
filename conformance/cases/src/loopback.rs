//! loopback: its link, its result, CHECK and DEL.

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, smallest, with};
use harness::golden::differences;
use harness::ip;
use harness::room::Room;
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("loopback/result_in_every_version", &["C-060", "C-063", "LO-2"], results),
    Case::new("loopback/lo_is_up_with_both_addresses_whatever_the_ifname", &["LO-1"], up),
    Case::new("loopback/check_reports_that_lo_is_down", &["C-043", "LO-5"], check),
    Case::new("loopback/del_takes_lo_down_and_is_idempotent", &["C-042", "C-114", "LO-6"], del),
    Case::new("loopback/foreign_address_on_lo_is_an_error", &["LO-4"], foreign_address),
    Case::new("loopback/prev_result_is_passed_through", &["C-041", "LO-3"], prev_result),
];

pub fn is_up(ns: &str) -> Result<bool> {
    Ok(ip::link(Some(ns), "lo")?
        .is_some_and(|link| link["flags"].as_array().is_some_and(|flags| flags.contains(&json!("UP")))))
}

fn results(room: &Room) -> Result<()> {
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let container = room.container(&format!("c{index}"))?;
        let result = room
            .attach("loopback", "ADD", &container)
            .config(&smallest("loopback", version))
            .run()?
            .result()?;
        let lo = json!([{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": container.path}]);
        let expected = match version {
            "0.1.0" | "0.2.0" => {
                json!({"cniVersion": version, "ip4": {"ip": "127.0.0.1/8"}, "ip6": {"ip": "::1/128"}, "dns": {}})
            }
            "1.0.0" | "1.1.0" => json!({"cniVersion": version, "interfaces": lo, "ips": [
                {"interface": 0, "address": "127.0.0.1/8"}, {"interface": 0, "address": "::1/128"}]}),
            _ => json!({"cniVersion": version, "interfaces": lo, "dns": {}, "ips": [
                {"version": "4", "interface": 0, "address": "127.0.0.1/8"},
                {"version": "6", "interface": 0, "address": "::1/128"}]}),
        };
        let found = differences(&expected, &result);
        ensure!(found.is_empty(), "{version}: {found:#?}");
    }
    Ok(())
}

fn up(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = smallest("loopback", USUAL);
    room.attach("loopback", "ADD", &container).config(&config).run()?.result()?;
    ensure!(is_up("c1")?, "lo is down");
    let links = ip::links(Some("c1"))?;
    ensure!(links == ["lo"], "links are {links:?}");
    room.reach("c1", "127.0.0.1")?;
    room.reach("c1", "::1")?;
    // A second DEL does no harm: containerd and the runtime may both send one.
    room.attach("loopback", "ADD", &container).config(&config).run()?.result()?;
    Ok(())
}

fn check(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = smallest("loopback", USUAL);
    let result = room.attach("loopback", "ADD", &container).config(&config).run()?.result()?;
    let checked = with(&config, json!({"prevResult": result}));
    room.attach("loopback", "CHECK", &container).config(&checked).run()?.silent()?;
    room.attach("loopback", "CHECK", &container).config(&config).run()?.silent()?;
    ip::run_in("c1", &["link", "set", "lo", "down"])?;
    let call = room.attach("loopback", "CHECK", &container).config(&checked);
    call.run()?.error_with(999, "loopback interface is down")?;
    Ok(())
}

fn del(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = smallest("loopback", USUAL);
    room.attach("loopback", "ADD", &container).config(&config).run()?.result()?;
    for _ in 0..2 {
        room.attach("loopback", "DEL", &container).config(&config).run()?.silent()?;
        ensure!(!is_up("c1")?, "lo is up");
    }
    room.remove(&container)?;
    room.attach("loopback", "DEL", &container).config(&config).run()?.silent()?;
    room.attach("loopback", "DEL", &container).unset("CNI_NETNS").config(&config).run()?.silent()
}

fn foreign_address(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    ip::run_in("c1", &["addr", "add", "10.9.9.9/32", "dev", "lo"])?;
    room.attach("loopback", "ADD", &container).config(&smallest("loopback", USUAL)).run()?.error_code(999)?;
    Ok(())
}

fn prev_result(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let prev = json!({"cniVersion": USUAL, "interfaces": [{"name": "x", "mac": "0a:00:00:00:00:01"}],
        "ips": [{"address": "10.1.2.3/24", "interface": 0}], "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": ["10.1.2.1"]}});
    let config = with(&smallest("loopback", USUAL), json!({"prevResult": prev}));
    let result = room.attach("loopback", "ADD", &container).config(&config).run()?.result()?;
    let found = differences(&prev, &result);
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}
