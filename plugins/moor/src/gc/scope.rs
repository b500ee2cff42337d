//! Whose leftovers are ours to remove.

use runtime::Conflist;

use super::leftover::Key;
use crate::dispatch::PLUGINS;
use crate::model::Model;
use crate::networks::{Network, Networks};

/// Whether all plugins of a list are Moor's or the reference's. The garbage of others is their
/// runtime's business.
pub fn is_known(list: &Conflist) -> bool {
    let ipam = |plugin: &runtime::PluginConf| {
        let name = plugin.object.get("ipam").and_then(|ipam| ipam.get("type")?.as_str());
        name.is_none_or(|name| name.is_empty() || PLUGINS.contains(&name))
    };
    list.plugins.iter().all(|plugin| PLUGINS.contains(&plugin.plugin_type.as_str()) && ipam(plugin))
}

/// The list of an attachment: that of its ADD, else the present one.
pub fn list_of(key: &Key, model: &Model, networks: &Networks) -> Option<Conflist> {
    let record = model.attachments.iter().filter(|one| {
        one.network == key.network && one.container_id == key.container_id && one.ifname == key.ifname
    });
    let cached = record.filter_map(|one| Conflist::from_bytes(&one.record.as_ref()?.config).ok()).next();
    cached.or_else(|| networks.named(&key.network).map(|network| network.list.clone()))
}

/// The bridge of a network, if it has ports: with an empty valid set, those would lose everything.
pub fn bridge_with_ports<'m>(network: &Network, model: &'m Model) -> Option<&'m str> {
    let first = network.list.plugins.first().filter(|plugin| plugin.plugin_type == "bridge")?;
    let name = first.object.get("bridge").and_then(|name| name.as_str()).unwrap_or("cni0");
    let links = &model.kernel.host.links;
    let bridge = links.iter().find(|link| link.name == name)?;
    links.iter().any(|link| link.master == Some(bridge.index)).then_some(bridge.name.as_str())
}
