//! Keys of one plugin that exclude or need each other (L023), as the plugins check them.

use crate::json::Value;

use super::report::{File, Plugin, Report};

/// A contradiction: whether it is there, the key to show, and a sentence.
type Rule = (bool, &'static str, &'static str);

/// Checks one plugin.
pub(super) fn check(file: &File, plugin: &Plugin<'_>, report: &mut Report) {
    let rules = match plugin.name {
        "bandwidth" => bandwidth(plugin),
        "bridge" => bridge(plugin),
        "dummy" => {
            vec![(plugin.ipam.is_none(), "type", "dummy needs \"ipam\": it has nothing but addresses")]
        }
        "host-device" => host_device(plugin),
        "ipvlan" => ipvlan(plugin),
        "macvlan" => macvlan(plugin),
        "portmap" => vec![(
            plugin.has("externalSetMarkChain") && plugin.has("markMasqBit"),
            "markMasqBit",
            "\"externalSetMarkChain\" and \"markMasqBit\" exclude each other",
        )],
        "ptp" => ptp(plugin),
        "vlan" => vec![
            (!plugin.has("master"), "type", "vlan needs \"master\": the link that it is on"),
            (plugin.ipam.is_none(), "type", "vlan needs \"ipam\""),
        ],
        "vrf" => vec![(!plugin.has("vrfname"), "type", "vrf needs \"vrfname\"")],
        _ => return,
    };
    for (_, key, text) in rules.into_iter().filter(|(is_broken, _, _)| *is_broken) {
        let span = if key == "type" { plugin.span } else { plugin.place(key) };
        report.error("L023", &file.source, span, text);
    }
    if plugin.name == "bridge" {
        trunk(file, plugin, report);
    }
}

fn bandwidth(plugin: &Plugin<'_>) -> Vec<Rule> {
    let set = |key: &str| match plugin.node.any_case(key).map(|member| &member.value.value) {
        Some(Value::Number(number)) => number.as_u64() != Some(0),
        _ => false,
    };
    let missing = "a burst needs a rate of its direction";
    vec![
        (set("ingressBurst") && !set("ingressRate"), "ingressBurst", missing),
        (set("egressBurst") && !set("egressRate"), "egressBurst", missing),
        (
            plugin.has("shapedSubnets") && plugin.has("unshapedSubnets"),
            "unshapedSubnets",
            "\"shapedSubnets\" and \"unshapedSubnets\" exclude each other",
        ),
    ]
}

fn bridge(plugin: &Plugin<'_>) -> Vec<Rule> {
    vec![
        (
            plugin.is("hairpinMode") && plugin.is("promiscMode"),
            "promiscMode",
            "\"hairpinMode\" and \"promiscMode\" exclude each other",
        ),
        (
            plugin.is("disableContainerInterface") && plugin.ipam.is_some(),
            "disableContainerInterface",
            "\"disableContainerInterface\" leaves the link down, so it has no \"ipam\"",
        ),
        detection(plugin),
        fast_path(plugin),
    ]
}

fn ptp(plugin: &Plugin<'_>) -> Vec<Rule> {
    vec![
        (plugin.ipam.is_none(), "type", "ptp needs \"ipam\": the host has a route to each address"),
        fast_path(plugin),
    ]
}

fn fast_path(plugin: &Plugin<'_>) -> Rule {
    let text = "\"fastPath\" needs \"ipMasq\": it bypasses the rules of that";
    (plugin.is("fastPath") && !plugin.is("ipMasq"), "fastPath", text)
}

fn detection(plugin: &Plugin<'_>) -> Rule {
    let text = "\"detectConflict\" needs \"ipam\": there is no address to look for";
    (plugin.has("detectConflict") && plugin.ipam.is_none(), "detectConflict", text)
}

fn macvlan(plugin: &Plugin<'_>) -> Vec<Rule> {
    let mode = plugin.text("mode").unwrap_or("bridge");
    let mut rules = vec![
        (
            plugin.has("sourceMacs") && mode != "source",
            "sourceMacs",
            "\"sourceMacs\" is for the mode \"source\"",
        ),
        (
            mode == "source" && !plugin.has("sourceMacs"),
            "mode",
            "the mode \"source\" needs \"sourceMacs\": the senders of accepted frames",
        ),
        (
            plugin.is("hostAccess") && mode != "bridge",
            "hostAccess",
            "\"hostAccess\" needs the mode \"bridge\"",
        ),
        (
            plugin.is("hostAccess") && plugin.ipam.is_none(),
            "hostAccess",
            "\"hostAccess\" needs \"ipam\": the host has routes to the containers' addresses",
        ),
        detection(plugin),
    ];
    rules.extend(master(plugin));
    rules
}

fn ipvlan(plugin: &Plugin<'_>) -> Vec<Rule> {
    let mut rules = vec![
        (
            plugin.is("hostAccess") && plugin.text("flag").is_some_and(|flag| flag != "bridge"),
            "hostAccess",
            "\"hostAccess\" needs the flag \"bridge\"",
        ),
        (
            plugin.has("detectConflict") && plugin.text("mode").is_some_and(|mode| mode != "l2"),
            "detectConflict",
            "\"detectConflict\" is for the mode \"l2\": the others do not resolve neighbours",
        ),
    ];
    rules.extend(master(plugin));
    rules
}

/// The keys that macvlan and ipvlan share.
fn master(plugin: &Plugin<'_>) -> Vec<Rule> {
    let (internal, inside) = (plugin.is("internal"), plugin.is("linkInContainer"));
    vec![
        (internal && plugin.has("master"), "internal", "an internal network has no \"master\""),
        (internal && plugin.has("vlan"), "internal", "an internal network has no \"vlan\""),
        (internal && inside, "linkInContainer", "an internal network has no master in the container"),
        (
            inside && plugin.has("vlan"),
            "vlan",
            "a VLAN is made on links of the host, and \"linkInContainer\" is for one of the container",
        ),
        (
            inside && plugin.is("hostAccess"),
            "hostAccess",
            "\"hostAccess\" is for a master of the host, not of the container",
        ),
        (
            plugin.has("hostAddresses") && !plugin.is("hostAccess"),
            "hostAddresses",
            "\"hostAddresses\" needs \"hostAccess\"",
        ),
    ]
}

fn host_device(plugin: &Plugin<'_>) -> Vec<Rule> {
    let capabilities = plugin.node.any_case("capabilities").and_then(|all| all.value.member("deviceID"));
    let by_runtime = capabilities.is_some() || plugin.has("runtimeConfig");
    let named = ["device", "hwaddr", "kernelpath", "pciBusID"].iter().any(|key| plugin.has(key));
    let text = "host-device needs one of \"device\", \"hwaddr\", \"kernelpath\" and \"pciBusID\"";
    vec![(!named && !by_runtime, "type", text)]
}

/// An item of `vlanTrunk` is an id, a range, or both.
fn trunk(file: &File, plugin: &Plugin<'_>, report: &mut Report) {
    let items = plugin.node.any_case("vlanTrunk").map(|member| member.value.items());
    for item in items.into_iter().flatten() {
        let number = |key: &str| match item.any_case(key).map(|member| &member.value.value) {
            Some(Value::Number(number)) => number.as_i64(),
            _ => None,
        };
        let text = match (number("minID"), number("maxID")) {
            (Some(_), None) => "\"minID\" needs \"maxID\"",
            (None, Some(_)) => "\"maxID\" needs \"minID\"",
            (Some(least), Some(most)) if least > most => "\"minID\" is above \"maxID\"",
            _ => continue,
        };
        report.error("L023", &file.source, &item.span, text);
    }
}
