//! Delegation to an IPAM plugin, observed with a fake one (C-080 to C-089).

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::fake::Fake;
use harness::golden::differences;
use harness::room::Room;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("delegation/stdin_and_environment_pass_unchanged", &["C-081", "C-086", "C-088"], unchanged),
    Case::new("delegation/plugin_lookup_along_cni_path", &["C-080", "R-10"], lookup),
    Case::new("delegation/bad_plugin_names", &["C-080"], bad_names),
    Case::new("delegation/add_failure_is_relayed_and_del_is_called", &["C-071", "C-084", "C-085"], relayed),
    Case::new("delegation/unusable_failures_are_reported", &["C-006", "C-084"], unusable),
    Case::new("delegation/stderr_passes_on_success", &["C-082"], stderr),
    Case::new("delegation/result_of_an_older_version_is_converted", &["C-061", "C-083"], older_result),
    Case::new("delegation/result_without_version_gets_the_requested_one", &["C-083"], result_without_version),
    Case::new("delegation/unusable_results_release_the_lease", &["C-057", "C-085"], unusable_results),
    Case::new(
        "delegation/gc_and_status_reach_the_ipam_plugin",
        &["C-044", "C-045", "C-086", "C-089"],
        gc_status,
    ),
    Case::new("delegation/del_failure_is_an_error_after_the_rest_is_gone", &["C-042", "C-071"], del_failure),
    Case::new("delegation/busy_executable_is_retried", &["C-087"], busy),
    Case::new("delegation/check_failure_is_relayed", &["C-043", "C-071"], check_failure),
];

/// The answer of a well-behaved fake: one address on ADD, otherwise nothing.
const WELL: &str = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.7/24","gateway":"10.1.2.1"}]}'"#;

fn config(fake: &Fake) -> Value {
    with(&bridge(USUAL), json!({"ipam": {"type": fake.name()}}))
}

fn unchanged(room: &Room) -> Result<()> {
    let fake = Fake::new(room, "fakeipam", WELL)?;
    let container = room.container("c1")?;
    // Odd spacing, order and escapes: a plugin that re-encodes parsed input does not preserve them.
    let text = format!(
        "{{ \"type\":\"bridge\",\t\"name\":\"net\", \"x\":\"\\u0041<&>\", \"n\":1.50, \"n\":12345678901234567890,\n \
         \"bridge\":\"br0\",\"cniVersion\":\"{USUAL}\",\"ipam\":{{\"type\":\"fakeipam\"}} }} \n"
    );
    for verb in ["ADD", "DEL"] {
        let call = room.attach("bridge", verb, &container).path_first(&fake.dir).stdin(text.as_str());
        let call = call.env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=x").env("SOMETHING_ELSE", "kept");
        ensure!(call.run()?.succeeded(), "{verb} failed");
    }
    let seen = fake.seen()?;
    ensure!(fake.commands()? == ["ADD", "DEL"], "calls: {:?}", fake.commands()?);
    for call in seen {
        ensure!(
            call.stdin == text.as_bytes(),
            "{}: stdin was {:?}",
            call.command,
            String::from_utf8_lossy(&call.stdin)
        );
        for wanted in [
            "CNI_CONTAINERID=c1",
            "CNI_IFNAME=eth0",
            "CNI_NETNS=/run/netns/c1",
            "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAME=x",
            "SOMETHING_ELSE=kept",
        ] {
            ensure!(
                call.env.iter().any(|line| line == wanted),
                "{}: {wanted} is missing in {:?}",
                call.command,
                call.env
            );
        }
    }
    Ok(())
}

fn lookup(room: &Room) -> Result<()> {
    let fake = Fake::new(room, "fakeipam", WELL)?;
    let container = room.container("c1")?;
    // A missing entry and one where the name is a directory are skipped.
    std::fs::create_dir_all(room.scratch("dir/fakeipam"))?;
    let path = format!("/nonexistent:{}::{}", room.scratch("dir").display(), fake.dir.display());
    let call = room.attach("bridge", "ADD", &container).env("CNI_PATH", path);
    call.config(&config(&fake)).run()?.result()?;
    let call = room.attach("bridge", "DEL", &container).env("CNI_PATH", &fake.dir);
    call.config(&config(&fake)).run()?.silent()
}

fn bad_names(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    for (name, text) in [
        ("nope", format!("failed to find plugin \"nope\" in path [{}]", room.suite.display())),
        ("../lib/cni/host-local", "invalid plugin name: ../lib/cni/host-local".into()),
        ("a/b", "invalid plugin name: a/b".into()),
    ] {
        let config = with(&bridge(USUAL), json!({"ipam": {"type": name}}));
        room.attach("bridge", "ADD", &container).config(&config).run()?.error_with(999, &text)?;
    }
    room.ensure_nothing_left(&before, &["c1"])
}

fn relayed(room: &Room) -> Result<()> {
    let error = r#"{"code":142,"msg":"out of <sheep>","details":"count again"}"#;
    let fake =
        Fake::new(room, "fakeipam", &format!("[ $CNI_COMMAND = DEL ] && exit 0\nprintf '{error}'; exit 1"))?;
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config(&fake));
    let error = call.run()?.error_with(142, "out of <sheep>")?;
    ensure!(error.details == "count again", "{error}");
    ensure!(
        fake.commands()? == ["ADD", "DEL"],
        "the delegate's DEL follows its failed ADD: {:?}",
        fake.commands()?
    );
    room.ensure_nothing_left(&before, &["c1"])
}

fn unusable(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    for (answer, text) in [
        ("exit 3", "netplugin failed with no error message"),
        ("echo on stderr >&2; exit 1", "netplugin failed: \"on stderr"),
        ("echo not json; exit 1", "netplugin failed but error parsing its diagnostic message"),
        ("kill -9 $$", "netplugin failed"),
    ] {
        let fake = Fake::new(room, "fakeipam", &format!("[ $CNI_COMMAND = DEL ] && exit 0\n{answer}"))?;
        let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config(&fake));
        let error = call.run()?.error().with_context(|| answer.to_owned())?;
        ensure!(error.msg.contains(text), "{answer}: {error}");
    }
    room.ensure_nothing_left(&before, &["c1"])
}

fn stderr(room: &Room) -> Result<()> {
    let fake = Fake::new(room, "fakeipam", &format!("echo a message for the log >&2\n{WELL}"))?;
    let container = room.container("c1")?;
    let answer =
        room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config(&fake)).run()?;
    answer.result()?;
    ensure!(answer.stderr.contains("a message for the log"), "stderr was {:?}", answer.stderr);
    Ok(())
}

fn older_result(room: &Room) -> Result<()> {
    let answer = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.7/24","gateway":"10.1.2.1","routes":[{"dst":"10.0.0.0/8"}]},"dns":{}}'"#;
    let fake = Fake::new(room, "fakeipam", answer)?;
    let container = room.container("c1")?;
    let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir);
    let result = call.config(&with(&config(&fake), json!({"isDefaultGateway": false}))).run()?.result()?;
    let ips = json!([{"address": "10.1.2.7/24", "gateway": "10.1.2.1", "interface": 2}]);
    let found = differences(&ips, &result["ips"]);
    ensure!(found.is_empty() && result["cniVersion"] == USUAL, "{found:#?} {result}");
    ensure!(result["routes"] == json!([{"dst": "10.0.0.0/8"}]), "{result}");
    Ok(())
}

fn result_without_version(room: &Room) -> Result<()> {
    let answer = r#"[ "$CNI_COMMAND" = ADD ] || exit 0
printf '{"ips":[{"address":"10.1.2.7/24","interface":9}]}'"#;
    let fake = Fake::new(room, "fakeipam", answer)?;
    let container = room.container("c1")?;
    let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir);
    let result = call.config(&config(&fake)).run()?.result()?;
    // The index is the bridge plugin's, the gateway is the network's first address.
    let ips = json!([{"address": "10.1.2.7/24", "gateway": "10.1.2.1", "interface": 2}]);
    let found = differences(&ips, &result["ips"]);
    ensure!(found.is_empty(), "{found:#?}");
    Ok(())
}

fn unusable_results(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    for answer in [
        r#"{"cniVersion":"1.0.0"}"#,
        r#"{"cniVersion":"7.0.0","ips":[]}"#,
        r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.7"}]}"#,
        r#"{"cniVersion":"1.0.0","ips":[{"address":"10.1.2.7/33"}]}"#,
        r#"{"cniVersion":"1.0.0","ips":"#,
        "",
    ] {
        std::fs::remove_dir_all(room.scratch("fake")).ok();
        let fake =
            Fake::new(room, "fakeipam", &format!("[ $CNI_COMMAND = ADD ] && printf '{answer}'; exit 0"))?;
        let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config(&fake));
        call.run()?.error_code(999).with_context(|| answer.to_owned())?;
        let commands = fake.commands()?;
        ensure!(commands == ["ADD", "DEL"], "{answer}: the lease is given back: {commands:?}");
        room.ensure_nothing_left(&before, &["c1"])?;
    }
    Ok(())
}

fn gc_status(room: &Room) -> Result<()> {
    let fake = Fake::new(room, "fakeipam", WELL)?;
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let keys =
        json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid, "cni.dev/attachments": valid});
    let text = with(&config(&fake), keys).to_string();
    for verb in ["GC", "STATUS"] {
        room.call("bridge", verb).path_first(&fake.dir).stdin(text.as_str()).run()?.silent()?;
    }
    let seen = fake.seen()?;
    ensure!(fake.commands()? == ["GC", "STATUS"], "calls: {:?}", fake.commands()?);
    ensure!(seen.iter().all(|call| call.stdin == text.as_bytes()), "stdin was changed: {seen:#?}");

    let fake = Fake::new(room, "fakeipam2", r#"printf '{"code":50,"msg":"no address"}'; exit 1"#)?;
    for verb in ["GC", "STATUS"] {
        let config = with(&config(&fake), json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}));
        room.call("bridge", verb)
            .path_first(&fake.dir)
            .config(&config)
            .run()?
            .error_with(50, "no address")?;
    }
    Ok(())
}

fn del_failure(room: &Room) -> Result<()> {
    let fake = Fake::new(
        room,
        "fakeipam",
        &format!(
            "[ $CNI_COMMAND = DEL ] && {{ printf '{{\"code\":11,\"msg\":\"busy\"}}'; exit 1; }}\n{WELL}"
        ),
    )?;
    let container = room.container("c1")?;
    room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config(&fake)).run()?.result()?;
    let call = room.attach("bridge", "DEL", &container).path_first(&fake.dir).config(&config(&fake));
    call.run()?.error_with(11, "busy")?;
    ensure!(harness::ip::link(Some("c1"), "eth0")?.is_none(), "DEL must delete the link despite the error");
    Ok(())
}

fn busy(room: &Room) -> Result<()> {
    let fake = Fake::new(room, "fakeipam", WELL)?;
    let container = room.container("c1")?;
    let path = fake.dir.join(fake.name());
    let writer = std::fs::OpenOptions::new().append(true).open(&path)?;
    let refused = std::process::Command::new(&path).env("CNI_COMMAND", "VERSION").status();
    if refused.is_ok() {
        return Ok(()); // some kernels (6.11, 6.12) execute a file that is open for writing: no retry needed
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| -> Result<()> {
        scope.spawn(|| {
            let call = room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config(&fake));
            drop(sender.send(call.run()));
        });
        let early = receiver.recv_timeout(std::time::Duration::from_millis(300));
        drop(writer);
        ensure!(early.is_err(), "ADD did not wait for the executable");
        receiver.recv_timeout(std::time::Duration::from_secs(10))??.result().map(drop)
    })
}

fn check_failure(room: &Room) -> Result<()> {
    let fake = Fake::new(
        room,
        "fakeipam",
        &format!(
            "[ $CNI_COMMAND = CHECK ] && {{ printf '{{\"code\":123,\"msg\":\"not mine\"}}'; exit 1; }}\n{WELL}"
        ),
    )?;
    let container = room.container("c1")?;
    let config = config(&fake);
    let result =
        room.attach("bridge", "ADD", &container).path_first(&fake.dir).config(&config).run()?.result()?;
    let config = with(&config, json!({"prevResult": result}));
    let call = room.attach("bridge", "CHECK", &container).path_first(&fake.dir).config(&config);
    call.run()?.error_with(123, "not mine")?;
    Ok(())
}
