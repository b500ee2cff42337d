//! The order of the plugins of a list, and what each needs of the others and of the runtime (L03x).

use cni::keys::Kind;

use crate::json::Value;
use crate::suggest::nearest;

use super::read::shortened;
use super::report::{File, Form, Plugin, Report};
use super::tables;

/// Plugins that give the container an interface.
const INTERFACE: [&str; 8] = ["bridge", "dummy", "host-device", "ipvlan", "macvlan", "ptp", "tap", "vlan"];

/// Plugins that work on the interface of one before them.
const CHAINED: [&str; 7] = ["bandwidth", "dns", "firewall", "portmap", "sbr", "tuning", "vrf"];

/// Checks a file.
pub(super) fn check(file: &File, report: &mut Report) {
    let plugins = file.plugins();
    // The plugins of the directory of its name follow, and those before are in another file.
    if file.form != Form::Part {
        sequence(file, &plugins, report);
    }
    for plugin in &plugins {
        needs(file, plugin, report);
        capabilities(file, plugin, report);
    }
}

fn sequence(file: &File, plugins: &[Plugin<'_>], report: &mut Report) {
    let source = &file.source;
    let is_chained = |plugin: &Plugin<'_>| CHAINED.contains(&plugin.name);
    let Some(first) = plugins.first() else { return };
    let interface = plugins.iter().find(|plugin| INTERFACE.contains(&plugin.name));
    match interface {
        Some(plugin) if is_chained(first) => {
            let text = format!(
                "{} stands after {}, which needs the interface that it makes",
                plugin.name, first.name
            );
            report.error("L032", source, plugin.span, text).fix(format!("put it before {}", first.name));
        }
        None if is_chained(first) => {
            let text = format!("{} is first, and needs the interface of a plugin before it", first.name);
            report.error("L030", source, first.span, text).fix("put bridge, macvlan or another before it");
        }
        _ => {}
    }
    let Some(one) = interface else { return };
    for plugin in plugins.iter().filter(|plugin| INTERFACE.contains(&plugin.name)).skip(1) {
        // ipvlan can be put on the link of the plugin before it.
        if plugin.name != "ipvlan" || plugin.ipam.is_some() || plugin.has("master") {
            let text = format!("{} and {} both make the container's interface", one.name, plugin.name);
            report.error("L031", source, plugin.span, text).fix("two interfaces are two networks");
        }
    }
}

fn needs(file: &File, plugin: &Plugin<'_>, report: &mut Report) {
    let source = &file.source;
    let declares = |name: &str| {
        let all = plugin.node.any_case("capabilities");
        let member = all.and_then(|all| all.value.member(name));
        plugin.has("runtimeConfig") || member.is_some_and(|member| member.value.value == Value::Bool(true))
    };
    match plugin.name {
        "portmap" if !declares("portMappings") => report
            .warning(
                "L033",
                source,
                plugin.span,
                "no port is ever published: the runtime gives none to portmap",
            )
            .fix("add \"capabilities\": {\"portMappings\": true}"),
        "dns" if !declares("aliases") => report
            .warning(
                "L033",
                source,
                plugin.span,
                "no alias is ever registered: the runtime gives none to dns",
            )
            .fix("add \"capabilities\": {\"aliases\": true}"),
        "bandwidth" if !declares("bandwidth") && !has_rates(plugin) => report
            .warning(
                "L033",
                source,
                plugin.span,
                "no rate is ever limited: there is none here, nor from the runtime",
            )
            .fix("add \"capabilities\": {\"bandwidth\": true}"),
        "bridge" => bridge(file, plugin, report),
        _ => {}
    }
}

fn has_rates(plugin: &Plugin<'_>) -> bool {
    plugin.has("ingressRate") || plugin.has("egressRate")
}

fn bridge(file: &File, plugin: &Plugin<'_>, report: &mut Report) {
    let source = &file.source;
    let (gateway, default) = (plugin.is("isGateway"), plugin.is("isDefaultGateway"));
    if default && !gateway {
        let text = "without \"isGateway\" podman shows this network as internal";
        report
            .warning("L034", source, plugin.place("isDefaultGateway"), text)
            .fix("add \"isGateway\": true, which this key implies");
    }
    if plugin.is("ipMasq") && !gateway && !default {
        let text = "packets to the outside are masqueraded, but the bridge is no gateway that they go to";
        report.warning("L035", source, plugin.place("ipMasq"), text).fix("add \"isGateway\": true");
    }
}

/// L036: what the plugin, and its IPAM plugin, do not take of `runtimeConfig`.
fn capabilities(file: &File, plugin: &Plugin<'_>, report: &mut Report) {
    let Some(keys) = tables::keys_of_plugin(plugin.name) else { return };
    let ipam = match plugin.ipam {
        None => &[],
        Some((name, _)) => match tables::keys_of_plugin(name) {
            Some(keys) => keys,
            // A plugin of others may take anything.
            None => return,
        },
    };
    let known = [tables::section(keys, "runtimeConfig"), tables::section(ipam, "runtimeConfig")].concat();
    let Some(declared) = plugin.node.any_case("capabilities") else { return };
    for member in declared.value.members().iter().filter(|member| member.value.value == Value::Bool(true)) {
        // A runtime passes a capability under its very name.
        if known.iter().any(|key| key.name == member.key) {
            continue;
        }
        let near = nearest(&member.key, known.iter().map(|key| key.name));
        let text = format!("{} does not read the capability {:?}", plugin.name, shortened(&member.key));
        let fix = near.map(|near| format!("did you mean \"{near}\"?"));
        report.warning("L036", &file.source, &member.span, text).fix_if(fix);
    }
}

/// The name of the bridge of a plugin, and the VLANs on it.
pub(super) fn bridge_of<'f>(plugin: &Plugin<'f>) -> Option<(&'f str, bool)> {
    let has_vlans = plugin.has("vlan") || plugin.has("vlanTrunk");
    (plugin.name == "bridge").then(|| (plugin.text("bridge").unwrap_or("cni0"), has_vlans))
}

/// L056: names of links that are too long for the kernel (IFNAMSIZ, linux/if.h).
pub(super) fn names(file: &File, report: &mut Report) {
    for plugin in file.plugins() {
        let Some(keys) = tables::keys_of_plugin(plugin.name) else { continue };
        for key in ["bridge", "master", "vrfname"] {
            let name = plugin.text(key).filter(|_| matches!(tables::kind_of(keys, key), Some(Kind::Text)));
            let Some(name) = name.filter(|name| name.len() > 15) else { continue };
            let text =
                format!("{:?} is longer than 15 bytes, the most for the name of a link", shortened(name));
            let span = plugin.node.any_case(key).map_or(plugin.span, |member| &member.value.span);
            report.error("L056", &file.source, span, text);
        }
    }
}
