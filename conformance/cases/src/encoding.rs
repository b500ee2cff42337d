//! How results are encoded, and how results of other versions are converted (C-007, C-052, C-064,
//! C-093).

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, bridge, host_local, layer2, smallest, with};
use harness::fake::Fake;
use harness::room::Room;
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("encoding/escaped_and_plain_characters_are_equal", &["C-007"], signs),
    Case::new("encoding/keys_are_in_order", &["C-052"], key_order),
    Case::new("encoding/results_of_other_versions_are_converted", &["C-060", "C-064"], conversion),
    Case::new("args/each_plugin_reads_its_own_keys", &["C-093"], readers),
];

fn signs(room: &Room) -> Result<()> {
    let domain = "a<b>&c\u{e9}";
    let config = with(&bridge(USUAL), json!({"dns": {"domain": domain}}));
    let escaped = config.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    for (id, text) in [("c1", config.to_string()), ("c2", escaped)] {
        let container = room.container(id)?;
        let result = room.attach("bridge", "ADD", &container).stdin(text.as_str()).run()?.result()?;
        ensure!(result["dns"]["domain"] == domain, "{text}: {}", result["dns"]);
    }
    Ok(())
}

fn key_order(room: &Room) -> Result<()> {
    let spoken = room.versions_of("bridge")?;
    for (index, version) in VERSIONS.iter().filter(|v| spoken.iter().any(|s| s == *v)).enumerate() {
        let container = room.container(&format!("c{index}"))?;
        let config = with(&bridge(version), json!({"dns": {"nameservers": ["10.1.2.1"], "domain": "d"}}));
        let answer = room.attach("bridge", "ADD", &container).config(&config).run()?;
        answer.result()?;
        let text = String::from_utf8(answer.stdout)?;
        for (before, after) in neighbours(&text) {
            let place = |key: &str| DECLARED.iter().position(|known| *known == key);
            let right = if *version < "1.0.0" { place(&before) < place(&after) } else { before < after };
            ensure!(right, "{version}: {before} precedes {after} in\n{text}");
        }
    }
    Ok(())
}

/// The keys of results up to 0.4.0, each after those that it must follow.
const DECLARED: [&str; 21] = [
    "cniVersion",
    "interfaces",
    "name",
    "mac",
    "sandbox",
    "ips",
    "ip4",
    "ip6",
    "version",
    "interface",
    "ip",
    "address",
    "gateway",
    "routes",
    "dst",
    "gw",
    "dns",
    "nameservers",
    "domain",
    "search",
    "options",
];

/// Consecutive keys of one object. The layout is that of C-004: one key per line, four spaces per
/// level.
fn neighbours(text: &str) -> Vec<(String, String)> {
    let mut last: Vec<Option<String>> = vec![];
    let mut pairs = vec![];
    for line in text.lines() {
        let level = (line.len() - line.trim_start().len()) / 4;
        last.resize(level + 1, None);
        let Some((key, _)) = line.trim_start().strip_prefix('"').and_then(|rest| rest.split_once("\":"))
        else {
            // A new object in a list begins here too.
            last[level] = None;
            continue;
        };
        if let Some(before) = last[level].replace(key.to_owned()) {
            pairs.push((before, key.to_owned()));
        }
    }
    pairs
}

fn conversion(room: &Room) -> Result<()> {
    let old = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.2.7/24","gateway":"10.1.2.1"}],"dns":{}}"#;
    let fake = Fake::new(room, "fakeipam", &format!("[ $CNI_COMMAND = ADD ] || exit 0\nprintf '{old}'"))?;
    let container = room.container("c1")?;
    let config = with(&bridge(USUAL), json!({"ipam": {"type": "fakeipam"}}));
    let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config);
    let result = call.run()?.result()?;
    ensure!(result["cniVersion"] == USUAL && result["dns"].is_null(), "{result}");
    ensure!(result["ips"][0].get("version").is_none(), "version is not of {USUAL}: {result}");
    ensure!(result["ips"][0]["address"] == "10.1.2.7/24", "{result}");

    let spoken = room.versions_of("loopback")?;
    for (asked, given) in [("1.0.0", "1.1.0"), ("1.1.0", "1.0.0")] {
        if !spoken.iter().any(|version| version == asked) || !spoken.iter().any(|version| version == given) {
            continue; // A suite with one of the two versions has nothing to convert.
        }
        let previous = json!({"cniVersion": given, "interfaces": [{"name": "lo", "sandbox": "/run/netns/c1"}],
                              "ips": [{"address": "10.1.2.3/24", "interface": 0}]});
        let config = with(&smallest("loopback", asked), json!({"prevResult": previous}));
        let result = room.attach("loopback", "ADD", &container).env("CNI_IFNAME", "lo").config(&config);
        let result = result.run()?.result()?;
        ensure!(result == with(&previous, json!({"cniVersion": asked})), "from {given} to {asked}: {result}");
    }
    Ok(())
}

fn readers(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let call = |plugin, verb: &str, args: &str| room.attach(plugin, verb, &container).env("CNI_ARGS", args);
    let result = call("bridge", "ADD", "MAC=0a:00:00:00:00:07").config(&layer2(USUAL)).run()?.result()?;
    ensure!(result["interfaces"][2]["mac"] == "0a:00:00:00:00:07", "{result}");
    let config = host_local(USUAL, "10.1.2.0/24");
    let result = call("host-local", "ADD", "IP=10.1.2.9").config(&config).run()?.result()?;
    ensure!(result["ips"][0]["address"] == "10.1.2.9/24", "{result}");
    // The other plugins ignore it, whatever its value.
    for args in ["MAC=0a:00:00:00:00:07", "IP=10.1.2.9", "no pair at all", "a=b=c;;"] {
        let config = smallest("loopback", USUAL);
        let answer = call("loopback", "ADD", args).env("CNI_IFNAME", "lo").config(&config).run()?;
        answer.result().with_context(|| format!("loopback with {args:?}"))?;
    }
    Ok(())
}
