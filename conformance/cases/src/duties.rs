//! The duties of a runtime towards plugins (C-130 to C-136): Moor's runtime library calls fakes
//! that record their input.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{PLUGINS, USUAL, smallest, with};
use harness::fake::Fake;
use harness::ip;
use harness::room::Room;
use harness::stage::conflists;
use runtime::{Attachment, Conflist, Runtime};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("runtime/a_list_without_plugins_does_not_load", &["C-130", "LR-1"], no_plugins),
    Case::new("runtime/highest_version_and_name_of_the_list_are_sent", &["C-131", "LR-2"], version_and_name),
    Case::new("runtime/plugins_run_in_order", &["C-132", "LR-5"], order),
    Case::new("runtime/del_after_a_failed_add_leaves_nothing", &["C-133", "R-2"], failed_add),
    Case::new("runtime/result_is_kept_until_del_has_succeeded", &["C-134", "LR-4"], cache),
    Case::new("runtime/plugin_names_that_are_paths_are_not_run", &["C-135"], names),
    Case::new("runtime/args_and_unknown_keys_pass_as_written", &["C-026", "C-136"], untouched),
    Case::new("runtime/version_needs_no_privilege_and_status_no_lock", &["R-7"], cheap),
    Case::new("runtime/concurrent_loopback_and_eth0_in_one_namespace", &["R-8"], both_at_once),
];

/// The answer of a well-behaved fake: one address on ADD, otherwise nothing.
const RESULT: &str = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"cniVersion":"1.1.0","ips":[{"address":"10.1.2.7/24"}]}'"#;

/// Returns a runtime over fakes of these names, and the fake with the log of all calls.
fn fakes(room: &Room, answers: &[(&str, &str)]) -> Result<(Runtime, Fake)> {
    let mut last = None;
    for (name, answer) in answers {
        last = Some(Fake::new(room, name, answer)?);
    }
    let fake = last.context("no fake was configured")?;
    let mut runtime = conflists::runtime(room);
    runtime.cni_path = vec![fake.dir.clone()];
    Ok((runtime, fake))
}

fn list(document: &Value) -> Result<Conflist> {
    Ok(Conflist::from_bytes(document.to_string().as_bytes())?)
}

fn attachment() -> Attachment {
    Attachment::new("c1", "/run/netns/c1".to_owned(), "eth0")
}

/// The recorded calls, as `ADD first`, and their input.
fn asked(fake: &Fake) -> Result<Vec<(String, Value)>> {
    let calls = fake.seen()?.into_iter().map(|seen| {
        let stdin: Value = serde_json::from_slice(&seen.stdin).context("a request is JSON")?;
        Ok((format!("{} {}", seen.command, stdin["type"].as_str().unwrap_or_default()), stdin))
    });
    calls.collect()
}

fn no_plugins(room: &Room) -> Result<()> {
    for document in [
        json!({"cniVersion": "1.1.0", "name": "net"}),
        json!({"cniVersion": "1.1.0", "name": "net", "plugins": []}),
        json!({"cniVersion": "1.1.0", "name": "net", "loadOnlyInlinedPlugins": true}),
    ] {
        ensure!(list(&document).is_err(), "{document} loaded");
        let path = room.write("lists/net.conflist", document.to_string())?;
        ensure!(Conflist::from_file(&path).is_err(), "a file of {document} loaded");
    }
    // The directory beside the list may hold the plugins instead.
    let path = room.write("lists/net.conflist", r#"{"cniVersion": "1.1.0", "name": "net"}"#)?;
    room.write("lists/net/10.conf", r#"{"type": "first"}"#)?;
    let loaded = Conflist::from_file(&path)?;
    ensure!(loaded.plugins.len() == 1 && loaded.plugins[0].plugin_type == "first", "{loaded:?}");
    Ok(())
}

fn version_and_name(room: &Room) -> Result<()> {
    for (own, more, wanted) in [
        ("1.0.0", json!(["0.4.0", "1.1.0", "9.9.9"]), "1.1.0"),
        ("0.4.0", json!(["0.3.1", "1.0.0"]), "1.0.0"),
        ("1.0.0", json!(["0.3.1"]), "1.0.0"),
    ] {
        let (runtime, fake) = fakes(room, &[("first", "")])?;
        fs::remove_dir_all(fake.dir.join("log")).ok();
        let document = json!({"cniVersion": own, "cniVersions": more, "name": "net",
                              "plugins": [{"type": "first", "name": "other", "cniVersion": "0.1.0"}]});
        runtime.del(&list(&document)?, &attachment())?;
        let calls = asked(&fake)?;
        let (_, stdin) = calls.first().context("the plugin was not called")?;
        ensure!(stdin["cniVersion"] == wanted && stdin["name"] == "net", "{document}: {stdin}");
    }
    Ok(())
}

fn order(room: &Room) -> Result<()> {
    let (runtime, fake) = fakes(room, &[("first", RESULT), ("second", RESULT)])?;
    let document =
        json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "first"}, {"type": "second"}]});
    let list = list(&document)?;
    runtime.add(&list, &attachment())?;
    runtime.check(&list, &attachment())?;
    runtime.status(&list)?;
    runtime.del(&list, &attachment())?;
    runtime.gc(&list, Some(&[].into()))?;
    let verbs: Vec<String> = asked(&fake)?.into_iter().map(|(call, _)| call).collect();
    let wanted = ["ADD first", "ADD second", "CHECK first", "CHECK second", "STATUS first", "STATUS second"];
    let wanted: Vec<_> =
        wanted.into_iter().chain(["DEL second", "DEL first", "GC first", "GC second"]).collect();
    ensure!(verbs == wanted, "called in this order: {verbs:?}");

    // All verbs except GC stop at the first error.
    let failing = r#"printf '{"code":142,"msg":"no"}'; exit 1"#;
    let (runtime, fake) = fakes(room, &[("second", failing), ("first", failing)])?;
    fs::remove_dir_all(fake.dir.join("log"))?;
    let stopped = runtime.add(&list, &attachment()).is_err() && runtime.check(&list, &attachment()).is_err();
    let stopped = stopped && runtime.status(&list).is_err() && runtime.del(&list, &attachment()).is_err();
    ensure!(stopped && runtime.gc(&list, Some(&[].into())).is_err(), "a failing plugin went unnoticed");
    let verbs: Vec<String> = asked(&fake)?.into_iter().map(|(call, _)| call).collect();
    let wanted = ["ADD first", "CHECK first", "STATUS first", "DEL second", "GC first", "GC second"];
    ensure!(verbs == wanted, "called in this order: {verbs:?}");
    Ok(())
}

fn failed_add(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    room.container("c1")?;
    let fake = Fake::new(
        room,
        "second",
        r#"[ "$CNI_COMMAND" = ADD ] && { printf '{"code":142,"msg":"no"}'; exit 1; }; true"#,
    )?;
    let mut runtime = conflists::runtime(room);
    runtime.cni_path.push(fake.dir.clone());
    let document = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
        {"type": "bridge", "bridge": "br0", "isGateway": true,
         "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.2.0/24"}]]}},
        {"type": "second"}]});
    let list = list(&document)?;
    ensure!(runtime.add(&list, &attachment()).is_err(), "the chain's ADD succeeded");
    ensure!(!Path::new("/var/lib/cni/results/net-c1-eth0").exists(), "a failed ADD was remembered");
    runtime.del(&list, &attachment()).context("DEL after a failed ADD")?;
    ensure!(fake.commands()? == ["ADD", "DEL"], "calls: {:?}", fake.commands()?);
    room.ensure_nothing_left(&before, &["c1"])
}

fn cache(room: &Room) -> Result<()> {
    let (runtime, _fake) = fakes(room, &[("first", RESULT)])?;
    let document = json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "first"}]});
    let list = list(&document)?;
    let result = runtime.add(&list, &attachment())?;
    let path = Path::new("/var/lib/cni/results/net-c1-eth0");
    let mode = |path: &Path| -> Result<u32> { Ok(fs::metadata(path)?.permissions().mode() & 0o7777) };
    ensure!(mode(path)? == 0o600, "the file has mode {:o}", mode(path)?);
    let dir = Path::new("/var/lib/cni/results");
    ensure!(mode(dir)? == 0o700, "its directory has mode {:o}", mode(dir)?);
    let text = fs::read_to_string(path)?;
    ensure!(text.trim_end().lines().count() == 1, "one line: {text}");
    let kept: Value = serde_json::from_str(&text)?;
    for (key, wanted) in [
        ("kind", json!("cniCacheV1")),
        ("containerId", json!("c1")),
        ("ifName", json!("eth0")),
        ("networkName", json!("net")),
        ("netns", json!("/run/netns/c1")),
        ("result", result),
    ] {
        ensure!(kept[key] == wanted, "{key} is {}, not {wanted}", kept[key]);
    }
    let encoded = room.write("config", kept["config"].as_str().context("config is a text")?)?;
    let config = ip::output("base64", &["-d", &encoded.display().to_string()])?;
    ensure!(config.as_bytes() == list.bytes, "the list that is kept: {config}");

    Fake::new(room, "first", "exit 1")?;
    ensure!(runtime.del(&list, &attachment()).is_err() && path.exists(), "forgotten by a DEL that failed");
    Fake::new(room, "first", "")?;
    runtime.del(&list, &attachment())?;
    ensure!(!path.exists(), "kept after DEL");
    Ok(())
}

fn names(room: &Room) -> Result<()> {
    let (runtime, fake) = fakes(room, &[("first", "")])?;
    fs::create_dir_all(fake.dir.join("below"))?;
    fs::copy(fake.dir.join("first"), fake.dir.join("below/first"))?;
    for name in ["below/first", "../fake/first", "/run/room/fake/first"] {
        let document = json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": name}]});
        // The runtime may refuse the list or refuse to start the plugin.
        let ran = list(&document).and_then(|list| Ok(runtime.del(&list, &attachment())?));
        ensure!(ran.is_err(), "{name} was run");
    }
    ensure!(fake.commands()?.is_empty(), "calls: {:?}", fake.commands()?);
    Ok(())
}

fn untouched(room: &Room) -> Result<()> {
    let (runtime, fake) = fakes(room, &[("first", "")])?;
    let plugin = json!({"type": "first", "args": {"cni": {"labels": [{"key": "a", "value": "<&>"}]}, "own": [1, null]},
                        "nobody": {"knows": "this"}});
    let document = json!({"cniVersion": "1.1.0", "name": "net", "plugins": [plugin]});
    runtime.del(&list(&document)?, &attachment())?;
    let calls = asked(&fake)?;
    let (_, stdin) = calls.first().context("the plugin was not called")?;
    ensure!(stdin["args"] == plugin["args"] && stdin["nobody"] == plugin["nobody"], "it got {stdin}");
    let own: Vec<_> = stdin.as_object().into_iter().flat_map(|map| map.keys()).collect();
    ensure!(!own.iter().any(|key| key.starts_with("cni.dev/")), "DEL got {own:?}");
    Ok(())
}

/// Runtimes call these before every pod and concurrently: they need no capability and no lock of
/// the store.
fn cheap(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let nothing = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"];
    for plugin in PLUGINS.into_iter().chain([
        "firewall",
        "bandwidth",
        "host-device",
        "macvlan",
        "ipvlan",
        "portmap",
        "ptp",
        "sbr",
        "static",
        "tap",
        "tuning",
        "vrf",
    ]) {
        let answer = room.call(plugin, "VERSION").stdin(r#"{"cniVersion":"1.0.0"}"#).under(&nothing).run()?;
        let versions = answer.result().with_context(|| format!("{plugin} without capabilities"))?;
        ensure!(versions["supportedVersions"].is_array(), "{plugin}: {versions}");
    }
    room.ensure_unchanged(&before, "after VERSION")?;
    let container = room.container("c1")?;
    room.attach("bridge", "ADD", &container).config(&smallest("bridge", "1.1.0")).run()?.result()?;
    let held = File::options().write(true).open("/var/lib/cni/networks/net/lock")?;
    held.lock().context("lock the store")?;
    let before = room.snapshot()?;
    let macvlan = with(&smallest("macvlan", "1.1.0"), json!({"master": "wan0"}));
    let ptp = smallest("ptp", "1.1.0");
    for config in PLUGINS.map(|plugin| smallest(plugin, "1.1.0")).iter().chain([&macvlan, &ptp]) {
        let plugin = config["type"].as_str().unwrap_or_default();
        let answer = room.call(plugin, "STATUS").config(config).run().with_context(|| plugin.to_owned())?;
        answer.silent().with_context(|| format!("{plugin} while the store is locked"))?;
    }
    room.ensure_unchanged(&before, "after STATUS")
}

/// containerd adds both concurrently.
fn both_at_once(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let (lo, eth0) = (smallest("loopback", USUAL), smallest("bridge", USUAL));
    for round in 0..10 {
        let container = room.container(&format!("c{round}"))?;
        let loopback = |verb: &str, config: &Value| {
            room.attach("loopback", verb, &container).env("CNI_IFNAME", "lo").config(config).run()
        };
        let bridge =
            |verb: &str, config: &Value| room.attach("bridge", verb, &container).config(config).run();
        let both = |verb: &str, lo: &Value, eth0: &Value| -> Result<_> {
            std::thread::scope(|scope| {
                let other = scope.spawn(|| loopback(verb, lo));
                let one = bridge(verb, eth0)?;
                Ok((other.join().unwrap_or_else(|_| anyhow::bail!("a call panicked"))?, one))
            })
        };
        let (one, other) = both("ADD", &lo, &eth0)?;
        let prev = |config: &Value, result: Value| with(config, json!({"prevResult": result}));
        let (kept_lo, kept_eth0) = (prev(&lo, one.result()?), prev(&eth0, other.result()?));
        let (one, other) = both("CHECK", &kept_lo, &kept_eth0)?;
        one.silent().and(other.silent()).with_context(|| format!("CHECK, round {round}"))?;
        room.reach(&container.id, "127.0.0.1").and(room.reach(&container.id, "10.1.2.1"))?;
        let (one, other) = both("DEL", &kept_lo, &kept_eth0)?;
        one.silent().and(other.silent()).with_context(|| format!("DEL, round {round}"))?;
        ensure!(ip::links(Some(&container.id))? == ["lo"], "eth0 is still there in round {round}");
        room.ensure_nothing_left(&before, &[&container.id])?;
    }
    Ok(())
}
