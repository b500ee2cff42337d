//! One suite's answers to one request, in a room of its own: ADD, DEL and an invalid ADD, and the
//! complete state after each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::patience::on_this_machine;
use harness::room::Room;
use harness::stage::conflists;
use harness::stage::dhcp::{Offer, ReferenceDaemon, Server, Software};
use runtime::{Attachment, Conflist, Error};
use serde_json::{Map, Value, json};

use super::Request;
use super::mask::Mask;

/// How long an idle machine's kernel may take to notice carrier, and to finish duplicate address
/// detection.
const SETTLING: Duration = Duration::from_secs(5);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A file of the runtime: the runtime library wrote it, not the suite.
const OF_THE_RUNTIME: &str = " /var/lib/cni/results";

/// The job of one room. Prints the state after each moment (see [`super::MOMENTS`]) as lists of
/// lines, or `null` when a plugin of the list does not support the version.
pub fn job(room: &Room, request: &str) -> Result<()> {
    let request = Request::read(request)?;
    let mut list = Conflist::from_file(room.net_d.join(&request.file)).context("load the conflist")?;
    list.version = request.version;
    for plugin in &list.plugins {
        if !room.versions_of(&plugin.plugin_type)?.contains(&list.version) {
            println!("null");
            return Ok(());
        }
    }
    println!("{}", json!(moments(room, &list)?));
    Ok(())
}

fn moments(room: &Room, list: &Conflist) -> Result<Vec<Vec<String>>> {
    conflists::stage(room, list)?;
    let _served = served(room, list)?;
    let container = room.container("c1")?;
    let runtime = conflists::runtime(room);
    let attachment = Attachment {
        capabilities: capabilities(),
        ..Attachment::new(&container.id, container.path.display().to_string(), conflists::ifname(list))
    };
    let mut mask = Mask::default();
    let mut seen = |answer: Vec<String>| -> Result<Vec<String>> {
        settle(&container)?;
        let mut lines = answer;
        lines.extend(room.snapshot()?.into_iter().map(|line| format!("host {line}")));
        lines.extend(room.snapshot_in(&container)?.into_iter().map(|line| format!("container {line}")));
        lines.retain(|line| !line.contains(OF_THE_RUNTIME));
        Ok(mask.masked(&lines))
    };
    let mut moments = vec![seen(answer_lines(runtime.add(list, &attachment)))?];
    moments.push(seen(answer_lines(runtime.del(list, &attachment).map(|()| json!({}))))?);
    if let Some(wrong) = wrong(list) {
        moments.push(seen(answer_lines(runtime.add(&wrong, &attachment)))?);
    }
    Ok(moments)
}

/// A DHCP server that leases one address alone, so that both suites get the same; and the
/// reference's daemon, which its plugin does not start.
fn served(room: &Room, list: &Conflist) -> Result<Option<(Server, Option<ReferenceDaemon>)>> {
    if !conflists::needs(list).contains(&Need::DhcpServers) {
        return Ok(None);
    }
    let server = room.dhcp_server(Software::Kea, &Offer { range: (100, 100), ..Offer::default() })?;
    let daemon = (room.suite == room.reference).then(|| ReferenceDaemon::start(room)).transpose()?;
    Ok(Some((server, daemon)))
}

/// The runtime's values for capabilities that plugins declare.
fn capabilities() -> Map<String, Value> {
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    Map::from_iter([("portMappings".to_owned(), ports), ("aliases".to_owned(), json!({"moor": ["one"]}))])
}

/// The list with an invalid value, if it has a key for one: an address without prefix length, a
/// range that does not begin at its network, otherwise an MTU that is not a number.
fn wrong(list: &Conflist) -> Option<Conflist> {
    let mut list = list.clone();
    let keys = &mut list.plugins.first_mut()?.object;
    let (key, value) = match (keys.get("ipam"), keys.get("mtu")) {
        (Some(ipam), _) if ipam["type"] == "static" => {
            ("ipam", json!({"type": "static", "addresses": [{"address": "10.1.2.3"}]}))
        }
        (Some(_), _) => ("ipam", json!({"type": "host-local", "ranges": [[{"subnet": "10.1.2.3/24"}]]})),
        (None, Some(_)) => ("mtu", json!("wide")),
        (None, None) => return None,
    };
    keys.insert(key.to_owned(), value);
    Some(list)
}

/// The answer, one line per value. Of an error only the code and the presence of a message: texts
/// may differ.
fn answer_lines(answer: std::result::Result<Value, Error>) -> Vec<String> {
    let mut lines = vec![];
    match answer {
        Ok(result) => values("result ", &result, &mut lines),
        Err(error) => {
            let (code, has_message) =
                error.failure().map_or((0, false), |failure| (failure.code, !failure.msg.is_empty()));
            lines.push(format!("error code = {code}"));
            lines.push(format!("error message = {}", if has_message { "present" } else { "missing" }));
        }
    }
    lines
}

fn values(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| values(&format!("{path}.{key}"), value, lines));
        }
        Value::Array(list) if !list.is_empty() => {
            for (index, value) in list.iter().enumerate() {
                values(&format!("{path}[{index}]"), value, lines);
            }
        }
        leaf => lines.push(format!("{path} = {leaf}")),
    }
}

/// Waits for asynchronous work of the kernel that a plugin need not wait for: a bridge notices the
/// carrier of its ports (also of one that a failed ADD took away again), and IPv6 addresses become
/// usable and get their routes. After the timeout the state is recorded as it is.
fn settle(container: &Container) -> Result<()> {
    let deadline = Instant::now() + on_this_machine(SETTLING);
    while !(settled(None)? && settled(Some(&container.id))?) && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn settled(ns: Option<&str>) -> Result<bool> {
    let looks = ["link show", "addr show", "route show table local"];
    let [links, addresses, routes] = ip::several(ns, &["-6", "-d"], looks)?;
    let carrier =
        |row: &Value| row["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == "LOWER_UP"));
    let master_waits = |port: &Value| {
        carrier(port) && links.iter().any(|link| link["ifname"] == port["master"] && !carrier(link))
    };
    let loses_its_carrier = |bridge: &Value| {
        let has_port = links.iter().any(|link| link["master"] == bridge["ifname"] && carrier(link));
        bridge["linkinfo"]["info_kind"] == "bridge" && carrier(bridge) && !has_port
    };
    // Without carrier there is no duplicate address detection.
    let usable = |link: &Value| {
        let mut list = link["addr_info"].as_array().into_iter().flatten();
        let routed = |info: &Value| routes.iter().any(|route| route["dst"] == info["local"]);
        let done = |info: &Value| info["scope"] == "link" || info["tentative"] != true && routed(info);
        !carrier(link) || list.all(done)
    };
    Ok(!links.iter().any(|link| master_waits(link) || loses_its_carrier(link))
        && addresses.iter().all(usable))
}

#[cfg(test)]
mod tests {
    use runtime::Conflist;
    use serde_json::json;

    use super::{answer_lines, wrong};

    #[test]
    fn a_result_is_told_value_by_value() {
        let result = json!({"ips": [{"address": "10.0.0.2/24", "interface": 0}], "dns": {}});
        assert_eq!(
            answer_lines(Ok(result)),
            ["result .dns = {}", "result .ips[0].address = \"10.0.0.2/24\"", "result .ips[0].interface = 0",]
        );
    }

    #[test]
    fn a_wrong_list_is_wrong_in_a_value_that_it_has() {
        let list = |plugin| {
            let text = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [plugin]}).to_string();
            Conflist::from_bytes(text.as_bytes()).unwrap()
        };
        let layer2 = wrong(&list(json!({"type": "bridge", "mtu": 1400}))).unwrap();
        assert_eq!(layer2.plugins[0].object["mtu"], "wide");
        assert!(wrong(&list(json!({"type": "bridge", "ipam": {}}))).is_some());
        assert!(wrong(&list(json!({"type": "loopback"}))).is_none());
    }
}
