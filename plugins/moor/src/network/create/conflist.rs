//! The conflist of a plan: a pure function, and what nerdctl and podman read in it.

use cni::Json;

use crate::context::Context;
use crate::subnets::Subnet;

use super::overlay;
use super::plan::{Driver, Ipam, Plan};

/// Labels that nerdctl keeps itself: the addresses that others have, by name.
pub const AUX_LABEL: &str = "nerdctl/network-aux-addresses";

/// Which optional plugins a list can have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suite {
    /// `firewall`
    pub firewall: bool,
    /// `dns`
    pub dns: bool,
}

impl Suite {
    /// What the path has.
    pub fn found(context: &Context) -> Self {
        let has = |name: &str| runtime::find_plugin(name, &context.cni_path).is_ok();
        Self { firewall: has("firewall"), dns: has("dns") }
    }
}

/// The text of the list, with a line break at its end.
pub fn text(plan: &Plan, suite: Suite) -> Vec<u8> {
    let mut text = list(plan, suite).print(cni::Style::Indented);
    text.push(b'\n');
    text
}

/// The list. Its subnets are complete.
pub fn list(plan: &Plan, suite: Suite) -> Json {
    let mut list = vec![
        // Podman runs no list of a newer version; `cniVersions` is for those who know it.
        member("cniVersion", "1.0.0"),
        member("cniVersions", strings(["1.0.0", "1.1.0"])),
        member("name", plan.name.as_str()),
    ];
    if plan.for_nerdctl {
        list.push(member("nerdctlID", plan.id.as_str()));
    }
    let labels = labels(plan);
    let mut args = Vec::new();
    if !labels.is_empty() {
        list.push(member("nerdctlLabels", Json::Object(labels.clone())));
        args.push(member("podman_labels", Json::Object(labels)));
    }
    if !plan.options.is_empty() {
        let options = plan.options.iter().map(|(key, value)| member(key, value.as_str())).collect();
        args.push(member("podman_options", Json::Object(options)));
    }
    if !args.is_empty() {
        list.push(member("args", Json::Object(args)));
    }
    list.push(member("plugins", Json::Array(plugins(plan, suite))));
    Json::Object(list)
}

fn labels(plan: &Plan) -> Vec<(String, Json)> {
    let mut labels = plan.labels.clone();
    if !plan.aux.is_empty() {
        let aux = plan.aux.iter().map(|(name, ip)| member(name, ip.as_str())).collect();
        let text = Json::Object(aux).print(cni::Style::Compact);
        labels.insert(AUX_LABEL.into(), String::from_utf8_lossy(&text).into_owned());
    }
    labels.into_iter().map(|(key, value)| (key, value.into())).collect()
}

fn plugins(plan: &Plan, suite: Suite) -> Vec<Json> {
    let bridge = plan.driver == Driver::Bridge;
    let own_addresses = plan.ipam.has_subnets() || plan.ipam == Ipam::Static;
    let mut plugins = vec![interface(plan)];
    if (bridge || plan.driver == Driver::Overlay) && own_addresses && !plan.internal {
        let capabilities = capabilities(&["portMappings"]);
        plugins.push(Json::Object(vec![member("type", "portmap"), capabilities]));
    }
    if bridge && own_addresses && suite.firewall && plan.isolate != Some(false) {
        let policy = member("ingressPolicy", "same-bridge");
        plugins.push(Json::Object(vec![member("type", "firewall"), policy]));
    }
    if plan.ipam != Ipam::Nobody && suite.dns && plan.dns != Some(false) {
        let mut dns = vec![member("type", "dns")];
        dns.extend(plan.dns_keys.iter().map(|(key, value)| member(key, value.clone())));
        dns.push(capabilities(&["aliases"]));
        plugins.push(Json::Object(dns));
    }
    plugins
}

/// The first plugin. On a bridge the default route is one of the IPAM plugin: a list with
/// `isDefaultGateway` alone is internal in podman's eyes.
fn interface(plan: &Plan) -> Json {
    let own_addresses = plan.ipam.has_subnets() || plan.ipam == Ipam::Static;
    let mut plugin = vec![member("type", plan.driver.plugin())];
    match plan.driver {
        Driver::Bridge => {
            let outside = own_addresses && !plan.internal;
            plugin.push(member("bridge", plan.bridge_name()));
            plugin.push(member("isGateway", Json::Bool(outside)));
            plugin.push(member("ipMasq", Json::Bool(outside && plan.ip_masq)));
            plugin.push(member("hairpinMode", Json::Bool(true)));
        }
        Driver::Macvlan | Driver::Ipvlan => {
            plugin.extend(plan.parent.as_ref().map(|parent| member("master", parent.as_str())));
            plugin.extend(plan.internal.then(|| member("internal", Json::Bool(true))));
        }
        // Way out and default route are as the plugin has them by itself.
        Driver::Overlay => {
            plugin.extend(plan.internal.then(|| member("internal", Json::Bool(true))));
            plugin.extend((!plan.ip_masq).then(|| member("ipMasq", Json::Bool(false))));
        }
    }
    plugin.extend(plan.keys.iter().map(|(key, value)| member(key, value.clone())));
    let mut can = Vec::new();
    // The plugin publishes names to the other hosts.
    can.extend((plan.driver == Driver::Overlay).then_some("aliases"));
    can.extend(own_addresses.then_some("ips"));
    can.extend((plan.driver != Driver::Ipvlan).then_some("mac"));
    if !can.is_empty() {
        plugin.push(capabilities(&can));
    }
    plugin.extend(plan.ipam.plugin().map(|name| member("ipam", ipam(plan, name))));
    Json::Object(plugin)
}

fn ipam(plan: &Plan, name: &str) -> Json {
    let mut ipam = vec![member("type", name)];
    if plan.ipam == Ipam::Cluster {
        ipam.extend(overlay::ipam(plan));
        return Json::Object(ipam);
    }
    let routes = routes(plan);
    if !routes.is_empty() {
        ipam.push(member("routes", Json::Array(routes)));
    }
    if !plan.subnets.is_empty() {
        let sets = plan.subnets.iter().map(|subnet| Json::Array(ranges(subnet))).collect();
        ipam.push(member("ranges", Json::Array(sets)));
    }
    ipam.extend(plan.ipam_keys.iter().map(|(key, value)| member(key, value.clone())));
    Json::Object(ipam)
}

/// A default route for each family that has a subnet, then those that were asked for.
fn routes(plan: &Plan) -> Vec<Json> {
    let mut routes = Vec::new();
    for (default, v4) in [("0.0.0.0/0", true), ("::/0", false)] {
        let has = plan.subnets.iter().any(|subnet| subnet.subnet.is_ipv4() == v4);
        let replaced =
            plan.routes.iter().any(|route| route.get("dst").and_then(Json::as_str) == Some(default));
        if has && !plan.internal && !replaced {
            routes.push(Json::Object(vec![member("dst", default)]));
        }
    }
    routes.extend(plan.routes.iter().cloned());
    routes
}

/// The set of ranges of a subnet; an attachment gets one address of each set.
fn ranges(subnet: &Subnet) -> Vec<Json> {
    let base = || {
        let mut range = vec![member("subnet", subnet.subnet.to_string())];
        range.extend(subnet.gateway.map(|gateway| member("gateway", gateway.to_string())));
        range
    };
    if subnet.ranges.is_empty() {
        return vec![Json::Object(base())];
    }
    let part = |part: &crate::subnets::Range| {
        let mut range = base();
        range.push(member("rangeStart", part.first.to_string()));
        range.push(member("rangeEnd", part.last.to_string()));
        Json::Object(range)
    };
    subnet.ranges.iter().map(part).collect()
}

fn capabilities(names: &[&str]) -> (String, Json) {
    member("capabilities", Json::Object(names.iter().map(|name| member(name, Json::Bool(true))).collect()))
}

fn strings<const N: usize>(texts: [&str; N]) -> Json {
    Json::Array(texts.into_iter().map(Json::from).collect())
}

pub fn member(key: &str, value: impl Into<Json>) -> (String, Json) {
    (key.to_owned(), value.into())
}
