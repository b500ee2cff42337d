//! A value of the wrong JSON type gets the same error for every key of every plugin: one code, and
//! the path of the key (C-028).

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, host_local, with};
use harness::room::Room;
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("stdin/wrong_types_name_the_key_in_every_plugin", &["C-028"], every_key),
    Case::new("stdin/wrong_types_in_a_previous_result_name_the_key", &["C-028", "C-120"], previous_result),
    Case::new("stdin/wrong_types_of_protocol_keys_name_the_key", &["C-021", "C-024"], own_keys),
];

/// The type of a key.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Integer,
    Bool,
    Object,
    List,
}

use Kind::{Bool, Integer, List, Object, Text};

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

/// Keys of every plugin with a link in a container.
const LINK: &[(&str, Kind)] = &[
    ("ipam", Object),
    ("ipam.type", Text),
    ("dns", Object),
    ("dns.domain", Text),
    ("dns.nameservers", List),
    ("dns.nameservers[0]", Text),
    ("dns.search", List),
    ("dns.options", List),
    ("mtu", Integer),
    ("enabledad", Bool),
    ("detectConflict", Object),
    ("detectConflict.timeoutMs", Integer),
    ("detectConflict.attempts", Integer),
];
/// Keys of every plugin that puts its link on another link.
const CHILD: &[(&str, Kind)] = &[
    ("master", Text),
    ("mode", Text),
    ("vlan", Integer),
    ("internal", Bool),
    ("linkInContainer", Bool),
    ("hostAccess", Bool),
    ("hostAddresses", List),
    ("hostAddresses[0]", Text),
];
const BRIDGE: &[(&str, Kind)] = &[
    ("bridge", Text),
    ("isGateway", Bool),
    ("isDefaultGateway", Bool),
    ("forceAddress", Bool),
    ("ipMasq", Bool),
    ("ipMasqBackend", Text),
    ("hairpinMode", Bool),
    ("promiscMode", Bool),
    ("vlan", Integer),
    ("vlanTrunk", List),
    ("vlanTrunk[0]", Object),
    ("vlanTrunk[0].id", Integer),
    ("vlanTrunk[0].minID", Integer),
    ("vlanTrunk[0].maxID", Integer),
    ("preserveDefaultVlan", Bool),
    ("macspoofchk", Bool),
    ("disableContainerInterface", Bool),
    ("portIsolation", Bool),
    ("runtimeConfig", Object),
    ("runtimeConfig.mac", Text),
    ("args", Object),
    ("args.cni", Object),
    ("args.cni.mac", Text),
];
const PTP: &[(&str, Kind)] = &[
    ("ipam", Object),
    ("ipam.type", Text),
    ("dns", Object),
    ("dns.domain", Text),
    ("dns.nameservers", List),
    ("dns.search", List),
    ("dns.options", List),
    ("mtu", Integer),
    ("ipMasq", Bool),
    ("ipMasqBackend", Text),
    ("fastPath", Bool),
    ("mac", Text),
    ("runtimeConfig", Object),
    ("runtimeConfig.mac", Text),
    ("args", Object),
    ("args.cni", Object),
    ("args.cni.mac", Text),
];
const MACVLAN: &[(&str, Kind)] = &[
    ("mac", Text),
    ("bcqueuelen", Integer),
    ("sourceMacs", List),
    ("sourceMacs[0]", Text),
    ("runtimeConfig", Object),
    ("runtimeConfig.mac", Text),
];
const HOST_DEVICE: &[(&str, Kind)] = &[
    ("device", Text),
    ("hwaddr", Text),
    ("kernelpath", Text),
    ("pciBusID", Text),
    ("DPDKMode", Bool),
    ("restoreAddresses", Bool),
    ("takeDefaultRoute", Bool),
    ("enabledad", Bool),
    ("dns", Object),
    ("ipam", Object),
    ("ipam.type", Text),
    ("runtimeConfig", Object),
    ("runtimeConfig.deviceID", Text),
];
const IPVLAN: &[(&str, Kind)] = &[("flag", Text), ("defaultRoute", Bool)];
const TAP: &[(&str, Kind)] = &[
    ("ipam", Object),
    ("ipam.type", Text),
    ("dns", Object),
    ("dns.domain", Text),
    ("mtu", Integer),
    ("mac", Text),
    ("multiQueue", Bool),
    ("owner", Integer),
    ("group", Integer),
    ("selinuxContext", Text),
    ("bridge", Text),
    ("runtimeConfig", Object),
    ("runtimeConfig.mac", Text),
];
const VLAN: &[(&str, Kind)] = &[
    ("master", Text),
    ("vlanId", Integer),
    ("linkInContainer", Bool),
    ("protocol", Text),
    ("reorderHeader", Bool),
    ("gvrp", Bool),
    ("mvrp", Bool),
    ("looseBinding", Bool),
    ("ingressQosMap", Object),
    ("ingressQosMap.1", Integer),
    ("egressQosMap", Object),
    ("egressQosMap.1", Integer),
];
const DUMMY: &[(&str, Kind)] = &[
    ("ipam", Object),
    ("ipam.type", Text),
    ("dns", Object),
    ("dns.domain", Text),
    ("dns.nameservers", List),
    ("dns.nameservers[0]", Text),
    ("dns.search", List),
    ("dns.options", List),
    ("mtu", Integer),
    ("mac", Text),
    ("runtimeConfig", Object),
    ("runtimeConfig.mac", Text),
];
const HOST_LOCAL: &[(&str, Kind)] = &[
    ("ipam", Object),
    ("ipam.subnet", Text),
    ("ipam.rangeStart", Text),
    ("ipam.rangeEnd", Text),
    ("ipam.gateway", Text),
    ("ipam.ranges", List),
    ("ipam.ranges[0]", List),
    ("ipam.ranges[0][0]", Object),
    ("ipam.ranges[0][0].subnet", Text),
    ("ipam.ranges[0][0].rangeStart", Text),
    ("ipam.ranges[0][0].rangeEnd", Text),
    ("ipam.ranges[0][0].gateway", Text),
    ("ipam.routes", List),
    ("ipam.routes[0]", Object),
    ("ipam.routes[0].dst", Text),
    ("ipam.routes[0].gw", Text),
    ("ipam.routes[0].mtu", Integer),
    ("ipam.routes[0].advmss", Integer),
    ("ipam.routes[0].priority", Integer),
    ("ipam.routes[0].table", Integer),
    ("ipam.routes[0].scope", Integer),
    ("ipam.dataDir", Text),
    ("ipam.resolvConf", Text),
    ("ipam.reclaim", Text),
    ("ipam.exclude", List),
    ("ipam.exclude[0]", Text),
    ("ipam.cooldown", Integer),
    ("runtimeConfig", Object),
    ("runtimeConfig.ips", List),
    ("runtimeConfig.ips[0]", Text),
    ("runtimeConfig.ipRanges", List),
    ("runtimeConfig.ipRanges[0]", List),
    ("runtimeConfig.ipRanges[0][0]", Object),
    ("runtimeConfig.ipRanges[0][0].subnet", Text),
    ("args", Object),
    ("args.cni", Object),
    ("args.cni.ips", List),
    ("args.cni.ips[0]", Text),
];
const DHCP: &[(&str, Kind)] = &[
    ("ipam", Object),
    ("ipam.daemonSocketPath", Text),
    ("ipam.provide", List),
    ("ipam.provide[0]", Object),
    ("ipam.provide[0].option", Text),
    ("ipam.provide[0].value", Text),
    ("ipam.provide[0].fromArg", Text),
    ("ipam.request", List),
    ("ipam.request[0]", Object),
    ("ipam.request[0].option", Text),
    ("ipam.request[0].skipDefault", Bool),
    ("ipam.priority", Integer),
    ("ipam.timeout", Integer),
    ("ipam.broadcast", Bool),
];
const STATIC: &[(&str, Kind)] = &[
    ("ipam", Object),
    ("ipam.addresses", List),
    ("ipam.addresses[0]", Object),
    ("ipam.addresses[0].address", Text),
    ("ipam.addresses[0].gateway", Text),
    ("ipam.routes", List),
    ("ipam.routes[0]", Object),
    ("ipam.routes[0].dst", Text),
    ("ipam.routes[0].gw", Text),
    ("ipam.routes[0].mtu", Integer),
    ("ipam.routes[0].advmss", Integer),
    ("ipam.routes[0].priority", Integer),
    ("ipam.routes[0].table", Integer),
    ("ipam.routes[0].scope", Integer),
    ("ipam.dns", Object),
    ("ipam.dns.nameservers", List),
    ("ipam.dns.nameservers[0]", Text),
    ("ipam.dns.domain", Text),
    ("ipam.dns.search", List),
    ("ipam.dns.options", List),
    ("runtimeConfig", Object),
    ("runtimeConfig.ips", List),
    ("runtimeConfig.ips[0]", Text),
    ("args", Object),
    ("args.cni", Object),
    ("args.cni.ips", List),
    ("args.cni.ips[0]", Text),
];
const PORTMAP: &[(&str, Kind)] = &[
    ("backend", Text),
    ("snat", Bool),
    ("masqAll", Bool),
    ("markMasqBit", Integer),
    ("externalSetMarkChain", Text),
    ("conditionsV4", List),
    ("conditionsV4[0]", Text),
    ("conditionsV6", List),
    ("conditionsV6[0]", Text),
    ("runtimeConfig", Object),
    ("runtimeConfig.portMappings", List),
    ("runtimeConfig.portMappings[0]", Object),
    ("runtimeConfig.portMappings[0].hostPort", Integer),
    ("runtimeConfig.portMappings[0].hostPortEnd", Integer),
    ("runtimeConfig.portMappings[0].containerPort", Integer),
    ("runtimeConfig.portMappings[0].containerPortEnd", Integer),
    ("runtimeConfig.portMappings[0].protocol", Text),
    ("runtimeConfig.portMappings[0].hostIP", Text),
];
const DNS: &[(&str, Kind)] = &[
    ("domainName", Text),
    ("mode", Text),
    ("port", Integer),
    ("ttl", Integer),
    ("cache", Integer),
    ("internal", Bool),
    ("upstreams", List),
    ("upstreams[0]", Text),
    ("forwardSingleLabel", Bool),
    ("crossNetwork", Text),
    ("shortId", Bool),
    ("invalidNames", Text),
    ("keepNameservers", Bool),
    ("optional", Bool),
    ("stateDir", Text),
    ("runtimeConfig", Object),
    ("runtimeConfig.aliases.net", List),
    ("runtimeConfig.aliases.net[0]", Text),
    ("runtimeConfig.dns", Object),
    ("runtimeConfig.dns.servers", List),
    ("runtimeConfig.dns.servers[0]", Text),
    ("args", Object),
    ("args.cni", Object),
    ("args.cni.names", List),
    ("args.cni.names[0]", Text),
];
const PREVIOUS: &[(&str, Kind)] = &[
    ("prevResult", Object),
    ("prevResult.cniVersion", Text),
    ("prevResult.interfaces", List),
    ("prevResult.interfaces[0]", Object),
    ("prevResult.interfaces[0].name", Text),
    ("prevResult.interfaces[0].mac", Text),
    ("prevResult.interfaces[0].mtu", Integer),
    ("prevResult.interfaces[0].sandbox", Text),
    ("prevResult.ips", List),
    ("prevResult.ips[0]", Object),
    ("prevResult.ips[0].interface", Integer),
    ("prevResult.ips[0].address", Text),
    ("prevResult.ips[0].gateway", Text),
    ("prevResult.routes", List),
    ("prevResult.routes[0]", Object),
    ("prevResult.routes[0].dst", Text),
    ("prevResult.routes[0].gw", Text),
    ("prevResult.dns", Object),
    ("prevResult.dns.nameservers", List),
    ("prevResult.dns.nameservers[0]", Text),
];

fn keys(plugin: &str) -> Vec<(&'static str, Kind)> {
    match plugin {
        "bridge" => [LINK, BRIDGE].concat(),
        "macvlan" => [LINK, CHILD, MACVLAN].concat(),
        "host-device" => HOST_DEVICE.to_vec(),
        "ipvlan" => [LINK, CHILD, IPVLAN].concat(),
        "vlan" => [LINK, VLAN].concat(),
        "dummy" => DUMMY.to_vec(),
        "host-local" => HOST_LOCAL.to_vec(),
        "portmap" => PORTMAP.to_vec(),
        "ptp" => PTP.to_vec(),
        "dhcp" => DHCP.to_vec(),
        "static" => STATIC.to_vec(),
        "tap" => TAP.to_vec(),
        _ => DNS.to_vec(),
    }
}

const PLUGINS: [&str; 13] = [
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
    "vlan",
    "dummy",
    "ptp",
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
        "portmap" => {
            let ports = json!({"portMappings": [{"hostPort": 8080, "containerPort": 80}]});
            with(&sound, json!({"runtimeConfig": ports, "prevResult": previous, "ipam": null}))
        }
        "dns" => with(&sound, json!({"prevResult": previous, "ipam": null})),
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
    ["portmap", "dns"].iter().try_for_each(|plugin| ensure_refused(room, plugin, PREVIOUS, 999))
}

/// The protocol itself defines a code for these: they are read before the version is checked.
fn own_keys(room: &Room) -> Result<()> {
    let keys = [("name", Text), ("cniVersion", Text)];
    PLUGINS.iter().chain(&["loopback"]).try_for_each(|plugin| ensure_refused(room, plugin, &keys, 6))
}
