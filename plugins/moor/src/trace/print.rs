//! Calls as a tree: the container, its calls, and the calls of delegates below.

use std::fmt::Write;

use serde_json::Value;

use super::line::Line;
use super::show::fault;

/// The calls by container, in the order of their first calls.
pub fn tree(calls: &[Line]) -> String {
    let mut containers: Vec<&str> = Vec::new();
    for call in calls {
        if !containers.contains(&id(call)) {
            containers.push(id(call));
        }
    }
    let mut text = String::new();
    for container in containers {
        let own: Vec<&Line> = calls.iter().filter(|call| id(call) == container).collect();
        text += if container.is_empty() { "(no container)" } else { container };
        text.push('\n');
        for call in &own {
            let depth = depth(call, &own);
            print_call(&mut text, call, depth);
        }
    }
    text
}

fn id(call: &Line) -> &str {
    call.container_id.as_deref().unwrap_or_default()
}

/// How many calls of the container it was made by: each is the caller of the next.
fn depth(call: &Line, own: &[&Line]) -> usize {
    let (mut at, mut depth) = (call, 0);
    // A pid that is used again must not lead in a circle.
    while let Some(above) = own
        .iter()
        .find(|above| i32::try_from(above.pid).is_ok_and(|pid| pid == at.caller.pid) && above.at <= at.at)
    {
        if std::ptr::eq(*above, at) || depth == own.len() {
            break;
        }
        (at, depth) = (above, depth + 1);
    }
    depth
}

fn print_call(text: &mut String, call: &Line, depth: usize) {
    let indent = "  ".repeat(depth + 1);
    let time = call.at.get(11..23).unwrap_or(&call.at);
    let (command, ifname) = (call.command.as_deref().unwrap_or("-"), call.ifname.as_deref().unwrap_or(""));
    let by =
        if depth == 0 { format!("  by {} ({})", call.caller.comm, call.caller.pid) } else { String::new() };
    let network = call.stdin.get("name").and_then(Value::as_str).unwrap_or("-");
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "{indent}{time}  {command} {} {network} {ifname}  {:.1} ms{by}",
        call.plugin, call.took_ms
    );
    let result = fault(call).or_else(|| addresses(&call.stdout));
    if let Some(result) = result {
        let _ = writeln!(text, "{indent}    {}", result.replace('\n', " "));
    }
}

fn addresses(result: &Value) -> Option<String> {
    let ips = result.get("ips")?.as_array()?.iter();
    let all: Vec<&str> = ips.filter_map(|ip| ip.get("address")?.as_str()).collect();
    if all.is_empty() { None } else { Some(all.join(" ")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::line::Caller;
    use super::*;

    #[test]
    fn delegates_stand_below_their_callers_and_errors_below_their_calls() {
        let call = |plugin: &str, pid, caller, at: &str, exit, stdout| Line {
            at: format!("2026-11-30T01:02:{at}Z"),
            plugin: plugin.into(),
            command: Some("ADD".into()),
            container_id: Some("c1".into()),
            ifname: Some("eth0".into()),
            caller: Caller { pid: caller, comm: "podman".into() },
            pid,
            stdin: json!({"name": "front"}),
            stdout,
            exit: Some(exit),
            took_ms: 1.25,
            ..Line::default()
        };
        let calls = [
            call("bridge", 10, 1, "03.000", 1, json!({"msg": "no range", "details": "x"})),
            call("host-local", 12, 10, "03.002", 0, json!({"ips": [{"address": "10.90.1.2/24"}]})),
        ];
        assert_eq!(
            tree(&calls),
            "c1\n  01:02:03.000  ADD bridge front eth0  1.2 ms  by podman (1)\n      exit 1: no range: x\n    \
             01:02:03.002  ADD host-local front eth0  1.2 ms\n        10.90.1.2/24\n"
        );
    }
}
