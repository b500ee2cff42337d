//! Errors, CNI_ARGS, namespaces and prevResult (C-070, C-090 to C-122).

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{PLUGINS, USUAL, bridge, host_local, layer2, smallest, with};
use harness::room::Room;
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("errors/one_object_on_stdout_and_exit_1", &["C-002", "C-003", "C-006", "C-070"], error_object),
    Case::new("args/pairs_are_checked_on_every_verb", &["C-090", "C-092"], args_pairs),
    Case::new("args/unknown_keys_need_ignore_unknown", &["C-091", "C-092"], args_unknown),
    Case::new("args/kubernetes_and_empty_values_pass", &["C-090", "C-094"], args_kubernetes),
    Case::new("netns/own_namespace_is_refused_before_any_change", &["C-110", "C-111"], own_namespace),
    Case::new("netns/override_disables_the_check", &["C-112"], own_namespace_override),
    Case::new("netns/path_without_a_namespace_is_refused", &["C-113"], bad_netns),
    Case::new("netns/namespace_of_another_process_works", &["C-113"], of_another_process),
    Case::new("prev_result/incompatible_version_is_refused", &["C-120"], prev_family),
    Case::new("prev_result/compatible_versions_and_no_version_pass", &["C-120", "C-121"], prev_sisters),
];

fn error_object(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for (verb, config) in [("ADD", "{"), ("DEL", "{"), ("CHECK", "{"), ("ADD", "{}"), ("WHAT", "{}")] {
            let container_free =
                room.call(plugin, verb).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
            let answer = container_free.env("CNI_NETNS", "/run/netns/none").stdin(config).run()?;
            answer.error()?;
            let document = answer.document()?;
            let known = ["code", "msg", "details", "cniVersion"];
            let odd: Vec<_> = document.as_object().into_iter().flat_map(|map| map.keys()).collect();
            ensure!(odd.iter().all(|key| known.contains(&key.as_str())), "keys {odd:?}");
            ensure!(document["details"] != "", "empty details are left out: {document}");
        }
    }
    Ok(())
}

fn args_pairs(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    for plugin in ["bridge", "host-local"] {
        let config = smallest(plugin, USUAL);
        for args in ["A", "A=b=c", "IgnoreUnknown=1;", "IgnoreUnknown=1;;A=b", ";IgnoreUnknown=1"] {
            for verb in ["ADD", "CHECK"] {
                let call = room.attach(plugin, verb, &container).env("CNI_ARGS", args).config(&config);
                call.run()?
                    .error_with(999, "ARGS: invalid pair")
                    .with_context(|| format!("{plugin} {verb} {args:?}"))?;
            }
        }
    }
    Ok(())
}

fn args_unknown(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    for (plugin, args) in [
        ("host-local", "ip=10.1.2.9"),
        ("host-local", "MAC=0a:00:00:00:00:01"),
        ("bridge", "IP=10.1.2.9"),
        ("bridge", "X=1;IgnoreUnknown=0"),
        ("bridge", "X=1;IgnoreUnknown=False"),
    ] {
        let call =
            room.attach(plugin, "ADD", &container).env("CNI_ARGS", args).config(&smallest(plugin, USUAL));
        call.run()?.error_with(999, "ARGS: unknown args [\"").with_context(|| format!("{plugin} {args}"))?;
    }
    let call = room.attach("bridge", "ADD", &container).env("CNI_ARGS", "X=1;IgnoreUnknown=maybe");
    call.config(&bridge(USUAL)).run()?.error_code(999)?;
    Ok(())
}

fn args_kubernetes(room: &Room) -> Result<()> {
    let kubernetes = "K8S_POD_NAMESPACE=default;IgnoreUnknown=TRUE;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_UID=";
    for (id, args) in
        [("c1", kubernetes), ("c2", "IP=;IgnoreUnknown=1"), ("c3", "IgnoreUnknown=true"), ("c4", "")]
    {
        let container = room.container(id)?;
        for verb in ["ADD", "DEL"] {
            let call = room.attach("bridge", verb, &container).env("CNI_ARGS", args);
            let answer = call.config(&bridge(USUAL)).run()?;
            ensure!(answer.succeeded(), "{verb} with {args:?}");
        }
    }
    Ok(())
}

fn own_namespace(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let text = "plugin's netns and netns from CNI_NETNS should not be the same";
    for plugin in PLUGINS {
        for path in ["/proc/self/ns/net", "/proc/1/ns/net"] {
            for verb in ["ADD", "DEL"] {
                let call = room.call(plugin, verb).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
                let answer = call.env("CNI_NETNS", path).config(&smallest(plugin, USUAL)).run()?;
                answer.error_with(8, text).with_context(|| format!("{plugin} {verb}"))?;
                room.ensure_unchanged(&before, &format!("{plugin} {verb} was refused after it had acted"))?;
            }
        }
    }
    Ok(())
}

fn own_namespace_override(room: &Room) -> Result<()> {
    for value in ["1", "true", "TRUE", "True"] {
        let call = room.call("loopback", "ADD").env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "lo");
        let call = call.env("CNI_NETNS", "/proc/self/ns/net").env("CNI_NETNS_OVERRIDE", value);
        call.config(&smallest("loopback", USUAL)).run()?.result()?;
    }
    let call = room.call("loopback", "ADD").env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "lo");
    let call = call.env("CNI_NETNS", "/proc/self/ns/net").env("CNI_NETNS_OVERRIDE", "0");
    call.config(&smallest("loopback", USUAL)).run()?.error_code(8)?;
    Ok(())
}

fn bad_netns(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let file = room.write("file", "")?;
    let socket = room.scratch("socket");
    let _kept = std::os::unix::net::UnixListener::bind(&socket).context("make a socket")?;
    for path in
        [file, socket, room.scratch("gone"), "/run/room".into(), "/dev/null".into(), "relative".into()]
    {
        for plugin in ["bridge", "loopback"] {
            let call = room.call(plugin, "ADD").env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
            let answer = call.env("CNI_NETNS", &path).config(&smallest(plugin, USUAL)).run()?;
            let error = answer.error().with_context(|| format!("{plugin} {}", path.display()))?;
            ensure!([3, 8, 999].contains(&error.code), "{plugin} {}: {error}", path.display());
            ensure!(error.msg.contains(&path.display().to_string()), "the message names the path: {error}");
        }
    }
    room.ensure_nothing_left(&before, &["c1"])
}

fn of_another_process(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    room.container("c1")?;
    let mut other = Command::new("ip").args(["netns", "exec", "c1", "cat"]).stdin(Stdio::piped()).spawn()?;
    let path = format!("/proc/{}/ns/net", other.id());
    let attached = (|| {
        let call = |verb| room.call("bridge", verb).env("CNI_CONTAINERID", "c1").env("CNI_IFNAME", "eth0");
        // `ip` enters the namespace before it becomes `cat`; until then the path is the room's own
        // namespace and refused.
        let deadline = Instant::now() + Duration::from_secs(5);
        let own = std::fs::read_link("/proc/self/ns/net")?;
        while std::fs::read_link(&path)? == own {
            ensure!(Instant::now() < deadline, "{path} never became another namespace");
        }
        let result = call("ADD").env("CNI_NETNS", &path).config(&bridge(USUAL)).run()?.result()?;
        ensure!(result["interfaces"][2]["sandbox"] == path, "{result}");
        room.reach("c1", "10.1.2.1")?;
        call("DEL").env("CNI_NETNS", &path).config(&bridge(USUAL)).run()?.silent()
    })();
    other.kill()?;
    other.wait()?;
    attached?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn prev_family(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    for version in ["0.4.0", "1.0.0"] {
        let other = if version == "0.4.0" { "1.0.0" } else { "0.4.0" };
        let config = with(&layer2(version), json!({"prevResult": {"cniVersion": other, "interfaces": []}}));
        let call = room.attach("bridge", "CHECK", &container).config(&config);
        call.run()?.error_with(999, "could not parse prevResult")?;
    }
    Ok(())
}

fn prev_sisters(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let config = host_local(USUAL, "10.1.2.0/24");
    room.attach("host-local", "ADD", &container).config(&config).run()?.result()?;
    for prev in [json!({"cniVersion": "1.1.0", "ips": []}), json!({"ips": []}), json!({}), json!(null)] {
        let config = with(&config, json!({"prevResult": prev}));
        room.attach("host-local", "CHECK", &container).config(&config).run()?.silent()?;
    }
    Ok(())
}
