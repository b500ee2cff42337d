//! The environment of a call (C-001, C-010 to C-014).

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{PLUGINS, USUAL, smallest};
use harness::room::Room;

pub const CASES: &[Case] = &[
    Case::new("env/about_text_without_a_command", &["C-008", "C-010"], about),
    Case::new("env/arguments_are_ignored", &["C-001"], arguments),
    Case::new("env/missing_variables_are_reported_together", &["C-010", "C-011"], missing),
    Case::new("env/each_verb_asks_for_its_own_variables", &["C-011", "C-012"], mandatory),
    Case::new("env/a_malformed_value_wins_over_missing_ones", &["C-011"], malformed_first),
    Case::new("env/environment_is_checked_before_stdin", &["C-014"], before_stdin),
    Case::new("env/container_id_rule", &["C-011"], container_id),
    Case::new("env/interface_name_rule", &["C-013"], interface_name),
    Case::new("env/ids_are_not_checked_for_gc_and_status", &["C-012"], ids_ignored),
    Case::new("env/unknown_command", &["C-030"], unknown_command),
];

fn about(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for call in [room.call(plugin, ""), room.call(plugin, "").unset("CNI_COMMAND")] {
            let answer = call.stdin("this is not read").run()?;
            ensure!(
                answer.succeeded() && answer.stdout.is_empty(),
                "{plugin}: exit 0 and empty stdout: {answer:?}"
            );
            let lines: Vec<&str> = answer.stderr.lines().collect();
            ensure!(lines.len() == 2, "{plugin}: two lines on stderr, got {:?}", answer.stderr);
            ensure!(
                lines[0].starts_with(&format!("CNI {plugin} plugin ")),
                "{plugin}: first line {:?}",
                lines[0]
            );
            ensure!(
                lines[1]
                    .starts_with("CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0"),
                "{plugin}: second line {:?}",
                lines[1]
            );
        }
    }
    Ok(())
}

fn arguments(room: &Room) -> Result<()> {
    let config = smallest("host-local", USUAL);
    let container = room.container("c1")?;
    room.attach("host-local", "ADD", &container).argv(&["add", "-x"]).config(&config).run()?.result()?;
    Ok(())
}

fn missing(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        let all = "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing";
        room.call(plugin, "ADD").unset("CNI_PATH").run()?.error_with(4, all)?;
        let empty =
            room.call(plugin, "ADD").env("CNI_CONTAINERID", "").env("CNI_NETNS", "").env("CNI_PATH", "");
        empty
            .env("CNI_IFNAME", "eth0")
            .run()?
            .error_with(4, "[CNI_CONTAINERID,CNI_NETNS,CNI_PATH] missing")?;
    }
    Ok(())
}

fn mandatory(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for (verb, variables) in [
            ("ADD", "[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH]"),
            ("CHECK", "[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH]"),
            ("DEL", "[CNI_CONTAINERID,CNI_IFNAME,CNI_PATH]"),
        ] {
            let answer = room.call(plugin, verb).unset("CNI_PATH").run()?;
            answer.error_with(4, &format!("required env variables {variables} missing"))?;
        }
        let answer = room.call(plugin, "VERSION").unset("CNI_PATH").run()?;
        answer.result()?;
    }
    Ok(())
}

fn malformed_first(room: &Room) -> Result<()> {
    let answer = room.call("host-local", "ADD").env("CNI_CONTAINERID", "../x").unset("CNI_PATH").run()?;
    let error = answer.error_with(4, "invalid characters in containerID")?;
    ensure!(error.details == "../x", "the details are the value: {error}");
    let answer = room.call("host-local", "ADD").env("CNI_IFNAME", "a/b").run()?;
    answer.error_with(4, "interface name contains / or : or whitespace characters")?;
    Ok(())
}

fn before_stdin(room: &Room) -> Result<()> {
    room.call("bridge", "ADD").stdin("{").run()?.error_code(4)?;
    Ok(())
}

fn container_id(room: &Room) -> Result<()> {
    let config = smallest("host-local", USUAL);
    let container = room.container("c1")?;
    let long = "c".repeat(300);
    for id in ["../x", "-x", "_x", ".", "a b", "a\nb", "a/b", "ä", "a\u{0}b".trim_end_matches('\u{0}')] {
        if id.contains('\u{0}') {
            continue; // an environment variable cannot hold it
        }
        for verb in ["ADD", "CHECK", "DEL"] {
            let call = room.attach("host-local", verb, &container).env("CNI_CONTAINERID", id);
            let error = call.config(&config).run()?.error_with(4, "invalid characters in containerID")?;
            ensure!(error.details == id, "{verb} {id:?}: the details are the value: {error}");
        }
    }
    for id in ["a", "0", "a_b.c-d", long.as_str()] {
        let call = room.attach("host-local", "ADD", &container).env("CNI_CONTAINERID", id);
        call.config(&config).run()?.result()?;
        let call = room.attach("host-local", "DEL", &container).env("CNI_CONTAINERID", id);
        call.config(&config).run()?.silent()?;
    }
    Ok(())
}

fn interface_name(room: &Room) -> Result<()> {
    let config = smallest("host-local", USUAL);
    let container = room.container("c1")?;
    let shape = "interface name contains / or : or whitespace characters";
    for (name, text) in [
        ("sixteen-bytes-xx", "interface name is too long"),
        ("ääääääää", "interface name is too long"),
        (".", "interface name is . or .."),
        ("..", "interface name is . or .."),
        ("a/b", shape),
        ("a:b", shape),
        ("a b", shape),
        ("a\tb", shape),
        ("a\nb", shape),
        ("a\u{a0}b", shape),
        ("a\u{2003}b", shape),
    ] {
        for verb in ["ADD", "CHECK", "DEL"] {
            let call = room.attach("host-local", verb, &container).env("CNI_IFNAME", name);
            let error = call.config(&config).run()?.error_with(4, text)?;
            if text.ends_with("long") {
                let details = "interface name should be less than 16 characters";
                ensure!(error.details == details, "{verb} {name:?}: {error}");
            }
        }
    }
    for name in ["e", "fifteen-bytes-x", "äöü", "a.b", "..."] {
        let call = room.attach("host-local", "ADD", &container).env("CNI_IFNAME", name);
        call.config(&config).run()?.result()?;
    }
    Ok(())
}

fn ids_ignored(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for verb in ["GC", "STATUS"] {
            let call = room.call(plugin, verb).env("CNI_CONTAINERID", "../x").env("CNI_IFNAME", "a/b");
            call.config(&smallest(plugin, "1.1.0")).run()?.silent()?;
        }
        room.call(plugin, "VERSION")
            .env("CNI_CONTAINERID", "../x")
            .env("CNI_IFNAME", "a/b")
            .run()?
            .result()?;
    }
    Ok(())
}

fn unknown_command(room: &Room) -> Result<()> {
    for plugin in PLUGINS {
        for verb in ["add", "Add", "UPDATE", "ADD "] {
            let call = room.call(plugin, verb).config(&smallest(plugin, USUAL));
            call.run()?.error_with(4, &format!("unknown CNI_COMMAND: {verb}"))?;
        }
        // Standard input is read and checked first (C-020, C-030).
        room.call(plugin, "UPDATE").stdin("{").run()?.error_code(6)?;
    }
    Ok(())
}
