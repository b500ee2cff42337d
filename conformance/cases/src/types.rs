//! A value of the wrong JSON type gets the same error for every key of every plugin: one code, and
//! the path of the key (C-028).

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, host_local, with};
use harness::room::Room;
use serde_json::{Value, json};

use crate::types_keys::Kind::{self, Bool, Integer, List, Object, Text};
use crate::types_keys::{PREVIOUS, keys};

pub const CASES: &[Case] = &[
    Case::new("stdin/wrong_types_name_the_key_in_every_plugin", &["C-028"], every_key),
    Case::new("stdin/wrong_types_in_a_previous_result_name_the_key", &["C-028", "C-120"], previous_result),
    Case::new("stdin/wrong_types_of_protocol_keys_name_the_key", &["C-021", "C-024"], own_keys),
];

/// A value of each type, and a number that is not an integer.
fn values() -> [(Option<Kind>, Value); 6] {
    [
        (Some(Text), json!("5")),
        (Some(Integer), json!(5)),
        (None, json!(1.5)),
        (Some(Bool), json!(true)),
        (Some(Object), json!({"k": 5})),
        (Some(List), json!([5])),
    ]
}

const PLUGINS: [&str; 18] = [
    "bandwidth",
    "bridge",
    "macvlan",
    "ipvlan",
    "host-device",
    "host-local",
    "portmap",
    "dhcp",
    "dns",
    "static",
    "tap",
    "tuning",
    "vlan",
    "dummy",
    "ptp",
    "firewall",
    "sbr",
    "vrf",
];

/// A valid configuration.
fn sound(plugin: &str) -> Value {
    let previous = json!({
        "cniVersion": USUAL, "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/c1"}],
        "ips": [{"interface": 0, "address": "10.1.2.3/24", "gateway": "10.1.2.1"}],
        "routes": [{"dst": "0.0.0.0/0"}], "dns": {"nameservers": []},
    });
    let sound = with(&host_local(USUAL, "10.1.2.0/24"), json!({"type": plugin}));
    match plugin {
        "macvlan" | "ipvlan" | "vlan" => with(&sound, json!({"master": "lan0"})),
        "firewall" => with(&sound, json!({"prevResult": previous, "ipam": null})),
        "portmap" => {
            let ports = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}]});
            with(&sound, json!({"runtimeConfig": ports, "prevResult": previous, "ipam": null}))
        }
        "bandwidth" | "dns" | "sbr" | "tuning" => with(&sound, json!({"prevResult": previous, "ipam": null})),
        "vrf" => with(&sound, json!({"vrfname": "red", "prevResult": previous, "ipam": null})),
        _ => sound,
    }
}

/// Sets the value at a path like `ipam.ranges[0][0].subnet`, and creates its parents.
fn set(document: &mut Value, path: &str, value: Value) {
    let pieces = path.replace('[', ".[");
    let place = pieces.split('.').fold(document, |place, piece| match piece.strip_prefix('[') {
        Some(index) => {
            let index: usize = index.trim_end_matches(']').parse().unwrap_or(0);
            if !place.is_array() {
                *place = json!([]);
            }
            if let Some(items) = place.as_array_mut() {
                items.resize(items.len().max(index + 1), Value::Null);
            }
            &mut place[index]
        }
        None => {
            if !place.is_object() {
                *place = json!({});
            }
            &mut place[piece]
        }
    });
    *place = value;
}

/// Every key with every value of another type is refused with that code and its path.
fn ensure_refused(room: &Room, plugin: &str, keys: &[(&str, Kind)], code: u64) -> Result<()> {
    let container = room.container(plugin)?;
    let before = room.snapshot()?;
    for (path, kind) in keys {
        for (_, value) in values().into_iter().filter(|(of, _)| *of != Some(*kind)) {
            let mut config = sound(plugin);
            set(&mut config, path, value.clone());
            let answer = room.attach(plugin, "ADD", &container).config(&config).run()?;
            let error = answer.error_code(code).with_context(|| format!("{plugin}: {path} is {value}"))?;
            ensure!(error.msg.contains(&format!("{path}: ")), "{plugin}: {path} is {value}: {error}");
        }
    }
    room.ensure_unchanged(&before, &format!("{plugin} changed something though it refused the call"))
}

fn every_key(room: &Room) -> Result<()> {
    PLUGINS.iter().try_for_each(|plugin| ensure_refused(room, plugin, &keys(plugin), 999))
}

fn previous_result(room: &Room) -> Result<()> {
    let chained = ["bandwidth", "firewall", "portmap", "dns", "tuning"];
    chained.iter().try_for_each(|plugin| ensure_refused(room, plugin, PREVIOUS, 999))
}

/// The protocol itself defines a code for these: they are read before the version is checked.
fn own_keys(room: &Room) -> Result<()> {
    let keys = [("name", Text), ("cniVersion", Text)];
    PLUGINS.iter().chain(&["loopback"]).try_for_each(|plugin| ensure_refused(room, plugin, &keys, 6))
}
