//! Standard input: what is refused, with which error, and what is accepted (C-020 to C-028).

use std::fs::File;
use std::io::Write;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{PLUGINS, USUAL, bridge, host_local, smallest, with};
use harness::room::Room;
use harness::room::call::Answer;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("stdin/anything_but_one_json_object_is_code_6", &["C-003", "C-006", "C-021"], not_an_object),
    Case::new("stdin/unreadable_input_is_code_5", &["C-023"], unreadable),
    Case::new("stdin/64_mib_are_refused_in_bounded_memory", &["C-002", "C-021"], huge),
    Case::new("stdin/deep_nesting_is_refused_without_a_crash", &["C-002", "C-021"], deep),
    Case::new("stdin/network_name_rule", &["C-022"], network_name),
    Case::new("stdin/version_must_be_a_string", &["C-024"], version_type),
    Case::new("stdin/no_version_means_0_1_0", &["C-024"], version_absent),
    Case::new("stdin/unknown_keys_and_capabilities_are_tolerated", &["C-025", "C-026"], unknown_keys),
    Case::new("stdin/keys_match_without_regard_to_case", &["C-027", "R-6"], key_case),
    Case::new("stdin/last_duplicate_wins", &["C-027"], duplicates),
    Case::new("stdin/null_and_empty_address_mean_absent", &["C-028"], null),
    Case::new("stdin/wrong_types_are_code_999", &["C-028"], wrong_types),
    Case::new("stdin/long_names_work_or_leave_nothing", &["C-022"], long_names),
    Case::new("stdin/hostile_strings_create_nothing", &["C-022"], hostile),
];

fn add(room: &Room, plugin: &str, stdin: impl Into<Vec<u8>>) -> Result<Answer> {
    let call = room.call(plugin, "ADD").env("CNI_CONTAINERID", "c1").env("CNI_NETNS", "/run/netns/none");
    call.env("CNI_IFNAME", "eth0").stdin(stdin).run()
}

fn not_an_object(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let good = smallest("host-local", USUAL).to_string();
    let non_utf8 = b"{\"cniVersion\":\"1.0.0\",\"name\":\"\xff\xfe\",\"type\":\"bridge\"}";
    for plugin in PLUGINS {
        for bad in [
            "",
            " ",
            "{",
            "[]",
            "\"x\"",
            "7",
            "{\"name\":\"net\"",
            "{} {}",
            "{'name': 1}",
            &good[..good.len() / 2],
        ] {
            let error = add(room, plugin, bad)?.error_code(6)?;
            ensure!(error.msg.starts_with("error unmarshall network config: "), "{plugin} {bad:?}: {error}");
        }
        // Go replaces bytes that are not UTF-8 and then refuses the name; refusing the document is
        // equivalent.
        let error = add(room, plugin, *non_utf8)?.error()?;
        ensure!([6, 7].contains(&error.code), "{plugin}, not UTF-8: {error}");
        add(room, plugin, format!("{good} x"))?.error_code(6)?;
    }
    let changes = room.changes_since(&before)?;
    ensure!(changes.is_empty(), "refused input changed something: {changes:#?}");
    Ok(())
}

fn unreadable(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        let call = room.call(plugin, "ADD").env("CNI_CONTAINERID", "c1").env("CNI_NETNS", "/run/netns/none");
        let call = call.env("CNI_IFNAME", "eth0").stdin_file(std::path::Path::new("/run"));
        call.run()?.error_with(5, "error reading from stdin: ")?;
    }
    Ok(())
}

fn huge(room: &Room) -> Result<()> {
    const MIB: usize = 1 << 20;
    let path = room.scratch("huge");
    for head in [&b"{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"x\":\""[..], b"[[[[", b""] {
        let mut file = File::create(&path)?;
        file.write_all(head)?;
        (0..64).try_for_each(|_| file.write_all(&[b'a'; MIB]))?;
        drop(file);
        for plugin in PLUGINS {
            let call =
                room.call(plugin, "ADD").env("CNI_CONTAINERID", "c1").env("CNI_NETNS", "/run/netns/none");
            call.env("CNI_IFNAME", "eth0").stdin_file(&path).run()?.error_code(6)?;
        }
    }
    // The largest child so far: the input once or a few times, not a tree of it.
    let most_kib = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    ensure!(most_kib < 600 * 1024, "a plugin used {} MiB of memory", most_kib / 1024);
    Ok(())
}

fn deep(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
            for depth in [10_000_usize, 1_000_000] {
                let value = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let config = format!("{{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"x\":{value}}}");
                // Go parses up to 10,000 levels; the case requires an error object instead of a
                // crash.
                let error = add(room, plugin, config)?.error()?;
                ensure!(depth < 1_000_000 || error.code == 6, "{plugin}: {error}");
            }
        }
    }
    Ok(())
}

fn network_name(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for missing in [json!({}), json!({"name": ""}), json!({"name": null}), Value::Null] {
            add(room, plugin, missing.to_string())?.error_with(7, "missing network name")?;
        }
        for name in ["../x", "a/b", "-a", "a b", "a\nb", "a\u{0}b", ".", "ä"] {
            let config = with(&smallest(plugin, USUAL), json!({"name": name}));
            let error = add(room, plugin, config.to_string())?
                .error_with(7, "invalid characters found in network name")?;
            ensure!(error.details == name, "{plugin} {name:?}: the details are the name: {error}");
        }
    }
    Ok(())
}

fn version_type(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        let config = with(&smallest(plugin, USUAL), json!({"cniVersion": 1}));
        add(room, plugin, config.to_string())?.error_code(6)?;
    }
    Ok(())
}

fn version_absent(room: &Room) -> Result<()> {
    for (id, version) in [("c1", Value::Null), ("c2", json!(""))] {
        let container = room.container(id)?;
        let config = with(&host_local(USUAL, "10.1.2.0/24"), json!({"cniVersion": version}));
        let result = room.attach("host-local", "ADD", &container).config(&config).run()?.result()?;
        ensure!(result["cniVersion"] == "0.1.0" && result["ip4"]["ip"].is_string(), "{result}");
    }
    Ok(())
}

fn unknown_keys(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let extra = json!({
        "capabilities": {"portMappings": true, "mac": true}, "args": {"labels": [{"key": "a", "value": "b"}]},
        "cni.dev/attachments": [], "something": {"else": [1, 2.5, "x", null]}, "isDefaultGateway": true,
    });
    let config = with(&bridge(USUAL), extra);
    room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    room.attach("bridge", "DEL", &container).config(&config).run()?.silent()
}

fn key_case(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = json!({
        "CNIVERSION": USUAL, "Name": "net", "TYPE": "bridge", "BRIDGE": "br7", "MTU": 1400, "isGATEWAY": true,
        "IPAM": {"Type": "host-local", "RANGES": [[{"Subnet": "10.1.2.0/24", "RangeStart": "10.1.2.9", "RangeEnd": "", "Gateway": ""}]]},
        "runtimeconfig": {"MAC": "0a:00:00:00:00:07"},
    });
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    ensure!(result["cniVersion"] == USUAL, "CNIVERSION: {result}");
    ensure!(result["interfaces"][0]["name"] == "br7", "BRIDGE: {result}");
    ensure!(result["interfaces"][2]["mac"] == "0a:00:00:00:00:07", "runtimeconfig: {result}");
    ensure!(result["ips"][0]["address"] == "10.1.2.9/24", "RangeStart: {result}");
    let link = harness::ip::link(Some("c1"), "eth0")?.unwrap_or_default();
    ensure!(link["mtu"] == 1400, "MTU: {link}");
    Ok(())
}

fn duplicates(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = r#"{"cniVersion":"0.4.0","cniVersion":"1.0.0","name":"a","name":"net","type":"host-local",
        "ipam":{"subnet":"10.9.9.0/24"},"ipam":{"subnet":"10.8.8.0/24","subnet":"10.1.2.0/24"}}"#;
    let result = room.attach("host-local", "ADD", &container).stdin(config).run()?.result()?;
    ensure!(result["cniVersion"] == "1.0.0" && result["ips"][0]["address"] == "10.1.2.2/24", "{result}");
    ensure!(
        std::path::Path::new("/var/lib/cni/networks/net/10.1.2.2").exists(),
        "the lease is in network net"
    );
    Ok(())
}

fn null(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let ipam = json!({
        "type": "host-local", "routes": null, "dataDir": null, "resolvConf": null,
        "ranges": [[{"subnet": "10.1.2.0/24", "rangeStart": null, "rangeEnd": "", "gateway": ""}]],
    });
    let config = with(
        &bridge(USUAL),
        json!({"mtu": null, "vlan": null, "args": null, "runtimeConfig": null, "prevResult": null, "dns": null, "ipam": ipam}),
    );
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    ensure!(result["ips"][0]["gateway"] == "10.1.2.1", "{result}");
    Ok(())
}

fn wrong_types(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    for wrong in [
        json!({"mtu": "1400"}),
        json!({"mtu": 1400.5}),
        json!({"bridge": 7}),
        json!({"isGateway": "yes"}),
        json!({"hairpinMode": 1}),
        json!({"vlan": "5"}),
        json!({"vlanTrunk": {"id": 5}}),
        json!({"ipam": []}),
        json!({"ipam": {"type": 7}}),
        json!({"dns": {"nameservers": "10.0.0.1"}}),
        json!({"runtimeConfig": {"mac": 7}}),
        json!({"ipam": {"type": "host-local", "ranges": [{"subnet": "10.1.2.0/24"}]}}),
        json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": 10}]]}}),
        json!({"ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}]], "routes": {"dst": "0.0.0.0/0"}}}),
    ] {
        let config = with(&bridge(USUAL), wrong.clone());
        let answer = room.attach("bridge", "ADD", &container).config(&config).run()?;
        answer.error_code(999).map_err(|error| error.context(format!("{wrong}")))?;
    }
    room.ensure_nothing_left(&before, &["c1"])
}

fn hostile(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let long = "x".repeat(300);
    for text in ["../x", "a/b", long.as_str(), "a\u{0}b", "a\nb", " ", ".", "..", "%d", "a:b"] {
        let config = with(&bridge(USUAL), json!({"bridge": text}));
        room.attach("bridge", "ADD", &container).config(&config).run()?.refused("")?;
        let config = with(&bridge(USUAL), json!({"ipam": {"type": text}}));
        room.attach("bridge", "ADD", &container).config(&config).run()?.refused("")?;
        let config = with(&bridge(USUAL), json!({"runtimeConfig": {"mac": text}}));
        room.attach("bridge", "ADD", &container).config(&config).run()?.refused("")?;
        let config = host_local(USUAL, text);
        room.attach("host-local", "ADD", &container).config(&config).run()?.refused("")?;
    }
    room.ensure_nothing_left(&before, &["c1"])
}

fn long_names(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let (short, long) = ("n".repeat(200), "n".repeat(300));
    for (network, id) in
        [("net", long.as_str()), (&short, long.as_str()), (&long, "c1"), (&long, long.as_str())]
    {
        let config = with(&bridge(USUAL), json!({"name": network}));
        let attach =
            |verb| room.attach("bridge", verb, &container).env("CNI_CONTAINERID", id).config(&config);
        let answer = attach("ADD").run()?;
        if answer.succeeded() {
            attach("DEL").run()?.silent()?;
        } else {
            // host-local uses a network's name as a file name: 255 bytes at most.
            ensure!(network.len() > 255, "{} and {} bytes: {}", network.len(), id.len(), answer.error()?);
            answer.error()?;
        }
        room.ensure_nothing_left(&before, &[id])?;
    }
    Ok(())
}
