//! Versions: which are advertised, which each verb accepts, the shape of results per version (C-030
//! to C-066).

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{PLUGINS, VERSIONS, bridge, host_local, layer2, smallest, with};
use harness::golden::differences;
use harness::room::Room;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new(
        "versions/version_prints_one_line_and_reads_nothing",
        &["C-004", "C-020", "C-036", "C-037"],
        version,
    ),
    Case::new("versions/add_and_del_need_an_advertised_version", &["C-031"], unknown_version),
    Case::new("versions/check_needs_version_0_4_0", &["C-032", "C-034"], check_gate),
    Case::new("versions/gc_and_status_need_version_1_1_0", &["C-033", "C-034"], gc_status_gate),
    Case::new("versions/gc_and_status_succeed_from_1_1_0", &["C-005", "C-035"], gc_status),
    Case::new(
        "versions/host_local_results",
        &["C-050", "C-051", "C-053", "C-054", "C-066", "HL-8"],
        host_local_results,
    ),
    Case::new(
        "versions/bridge_results",
        &["C-050", "C-051", "C-056", "C-058", "C-059", "C-062", "C-063", "BR-1"],
        bridge_results,
    ),
    Case::new("versions/layer_2_results", &["C-053", "C-062", "BR-K17"], layer2_results),
    Case::new("versions/results_are_indented_by_four_without_final_newline", &["C-004"], layout),
    Case::new("versions/route_attributes_pass_from_0_3_0", &["C-050", "C-053", "C-055", "HL-K5"], routes),
];

fn version(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        let answer = room.call(plugin, "VERSION").stdin("{ nonsense").run()?;
        let document = answer.result()?;
        let text = String::from_utf8_lossy(&answer.stdout);
        ensure!(
            text.ends_with("}\n") && text.lines().count() == 1,
            "{plugin}: one line with newline: {text:?}"
        );
        let expected = json!({"cniVersion": "1.1.0", "supportedVersions": VERSIONS});
        let found = differences(&expected, &document);
        ensure!(found.is_empty(), "{plugin}: {found:#?}");
    }
    Ok(())
}

fn unknown_version(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    for plugin in PLUGINS {
        for version in ["0.9.0", "1.0", "1.0.0 ", "v1.0.0", "2.0.0", "x"] {
            for verb in ["ADD", "DEL"] {
                let answer =
                    room.attach(plugin, verb, &container).config(&smallest(plugin, version)).run()?;
                let error = answer.error_with(1, "incompatible CNI versions")?;
                let expected = format!("config is \"{version}\", plugin supports [\"0.1.0\" \"0.2.0\"");
                ensure!(error.details.starts_with(&expected), "{plugin} {verb} {version}: {error}");
            }
        }
    }
    let changes = room.changes_since(&before)?;
    ensure!(changes.is_empty(), "a call with a refused version changed something: {changes:#?}");
    Ok(())
}

fn check_gate(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    for plugin in PLUGINS {
        for (version, code, text) in [
            ("0.1.0", 1, "config version does not allow CHECK"),
            ("0.3.1", 1, "config version does not allow CHECK"),
            ("9.0.0", 1, "plugin version does not allow CHECK"),
            ("0.4.1", 1, "incompatible CNI versions"),
            ("1.0.0.0", 6, ""),
            ("one", 6, ""),
        ] {
            let answer = room.attach(plugin, "CHECK", &container).config(&smallest(plugin, version)).run()?;
            answer.error_with(code, text).map_err(|e| e.context(format!("{plugin} {version}")))?;
        }
    }
    Ok(())
}

fn gc_status_gate(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for verb in ["GC", "STATUS"] {
            for (version, code, text) in [
                ("1.0.0", 1, format!("config version does not allow {verb}")),
                ("0.4.0", 1, format!("config version does not allow {verb}")),
                ("9.0.0", 1, format!("plugin version does not allow {verb}")),
                ("1.1.1", 1, "".into()),
                ("1.1.0.0", 6, "".into()),
            ] {
                let answer = room.call(plugin, verb).config(&smallest(plugin, version)).run()?;
                answer
                    .error_with(code, &text)
                    .map_err(|e| e.context(format!("{plugin} {verb} {version}")))?;
            }
        }
    }
    Ok(())
}

fn gc_status(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for verb in ["GC", "STATUS"] {
            let config = with(
                &smallest(plugin, "1.1.0"),
                json!({"cni.dev/valid-attachments": null, "cni.dev/attachments": null}),
            );
            room.call(plugin, verb).config(&config).run()?.silent()?;
        }
    }
    Ok(())
}

/// Converts a result of the newest shape to that of a version, by C-060 to C-064.
fn in_version(version: &str, interfaces: Value, ips: &[(&str, &str)], routes: &[&str]) -> Value {
    let family = |text: &str| if text.contains(':') { "6" } else { "4" };
    let mut result = json!({"cniVersion": version});
    if matches!(version, "0.1.0" | "0.2.0") {
        for (address, gateway) in ips {
            let of_family: Vec<Value> = routes
                .iter()
                .filter(|dst| family(dst) == family(address))
                .map(|dst| route(dst, ips, !interfaces.is_null()))
                .collect();
            let mut entry = json!({"ip": address, "gateway": gateway});
            if !of_family.is_empty() {
                entry["routes"] = of_family.into();
            }
            result[format!("ip{}", family(address))] = entry;
        }
        result["dns"] = json!({});
        return result;
    }
    let old = matches!(version, "0.3.0" | "0.3.1" | "0.4.0");
    let entries = ips.iter().map(|(address, gateway)| {
        let mut entry = json!({"address": address, "gateway": gateway});
        if old {
            entry["version"] = family(address).into();
        }
        if !interfaces.is_null() {
            entry["interface"] = 2.into();
        }
        entry
    });
    if !ips.is_empty() {
        result["ips"] = entries.collect();
    }
    if !routes.is_empty() {
        result["routes"] = routes.iter().map(|dst| route(dst, ips, !interfaces.is_null())).collect();
    }
    if !interfaces.is_null() {
        result["interfaces"] = interfaces;
    }
    if old {
        result["dns"] = json!({});
    }
    result
}

/// A default route; bridge (unlike host-local) writes the gateway into those that it appends.
fn route(dst: &str, ips: &[(&str, &str)], with_gateway: bool) -> Value {
    let gateway = ips
        .iter()
        .find(|(address, _)| address.contains(':') == dst.contains(':'))
        .map(|(_, gateway)| *gateway);
    if with_gateway { json!({"dst": dst, "gw": gateway}) } else { json!({"dst": dst}) }
}

fn host_local_results(room: &Room) -> Result<()> {
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let container = room.container(&format!("c{index}"))?;
        let mut config = host_local(version, "10.1.2.0/24");
        config["ipam"]["ranges"] = json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "2001:db8:1::/64"}]]);
        config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}]);
        let result = room.attach("host-local", "ADD", &container).config(&config).run()?.result()?;
        let last = index + 2;
        let ips =
            [(format!("10.1.2.{last}/24"), "10.1.2.1"), (format!("2001:db8:1::{last}/64"), "2001:db8:1::1")];
        let ips: Vec<_> = ips.iter().map(|(address, gateway)| (address.as_str(), *gateway)).collect();
        let found = differences(&in_version(version, Value::Null, &ips, &["0.0.0.0/0"]), &result);
        ensure!(found.is_empty(), "{version}: {found:#?}");
    }
    Ok(())
}

fn interfaces(netns: &std::path::Path) -> Value {
    json!([
        {"name": "br0", "mac": "<mac>"},
        {"name": "<veth>", "mac": "<mac>"},
        {"name": "eth0", "mac": "<mac>", "sandbox": netns},
    ])
}

fn bridge_results(room: &Room) -> Result<()> {
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let container = room.container(&format!("c{index}"))?;
        let result = room.attach("bridge", "ADD", &container).config(&bridge(version)).run()?.result()?;
        let last = index + 2;
        let ips =
            [(format!("10.1.2.{last}/24"), "10.1.2.1"), (format!("2001:db8:1::{last}/64"), "2001:db8:1::1")];
        let ips: Vec<_> = ips.iter().map(|(address, gateway)| (address.as_str(), *gateway)).collect();
        let expected = in_version(version, interfaces(&container.path), &ips, &["0.0.0.0/0", "::/0"]);
        let found = differences(&expected, &result);
        ensure!(found.is_empty(), "{version}: {found:#?}");
    }
    Ok(())
}

fn layer2_results(room: &Room) -> Result<()> {
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let container = room.container(&format!("c{index}"))?;
        let before = room.snapshot()?;
        let answer = room.attach("bridge", "ADD", &container).config(&layer2(version)).run()?;
        if matches!(version, "0.1.0" | "0.2.0") {
            // C-065: refused before any change.
            answer.error_with(999, "no valid IP addresses")?;
            let changes = room.changes_since(&before)?;
            ensure!(changes.is_empty(), "{version} was refused after something was created: {changes:#?}");
            continue;
        }
        let expected = in_version(version, interfaces(&container.path), &[], &[]);
        let found = differences(&expected, &answer.result()?);
        ensure!(found.is_empty(), "{version}: {found:#?}");
    }
    Ok(())
}

fn layout(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let answer = room.attach("bridge", "ADD", &container).config(&bridge("1.0.0")).run()?;
    answer.result()?;
    let refused = room.attach("bridge", "ADD", &container).config(&bridge("0.9.0")).run()?;
    for (what, answer) in [("result", answer), ("error", refused)] {
        let text = String::from_utf8_lossy(&answer.stdout);
        ensure!(text.starts_with("{\n    \"") && text.ends_with("\n}"), "{what}: {text:?}");
        let indents = text.lines().map(|line| line.len() - line.trim_start().len());
        ensure!(indents.clone().all(|indent| indent % 4 == 0), "{what}: {text}");
    }
    Ok(())
}

fn routes(room: &Room) -> Result<()> {
    let route = json!({"dst": "10.0.0.1/8", "gw": "10.1.2.9", "mtu": 1400, "advmss": 1300, "priority": 7, "table": 100, "scope": 0});
    for (index, version) in VERSIONS.into_iter().enumerate() {
        let container = room.container(&format!("c{index}"))?;
        let mut config = host_local(version, "10.1.2.0/24");
        config["ipam"]["routes"] = json!([route]);
        let result = room.attach("host-local", "ADD", &container).config(&config).run()?.result()?;
        let (expected, actual) = match version {
            "0.1.0" | "0.2.0" => (json!([{"dst": "10.0.0.1/8", "gw": "10.1.2.9"}]), &result["ip4"]["routes"]),
            _ => (json!([route]), &result["routes"]),
        };
        let found = differences(&expected, actual);
        ensure!(found.is_empty(), "{version}: {found:#?}");
    }
    Ok(())
}
