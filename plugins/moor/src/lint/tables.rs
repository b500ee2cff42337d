//! Which keys which plugin knows.

use cni::keys::{Key, Keys, Kind};

/// Every plugin with a table, which stands beside the structure that it decodes.
const PLUGINS: &[(&str, Keys)] = &[
    ("bandwidth", bandwidth::KEYS),
    ("bridge", bridge::KEYS),
    ("cluster", cluster_ipam::KEYS),
    ("dhcp", dhcp::KEYS),
    ("dns", dns::KEYS),
    ("dummy", dummy::KEYS),
    ("firewall", firewall::KEYS),
    ("host-device", host_device::KEYS),
    ("host-local", host_local::KEYS),
    ("ipvlan", ipvlan::KEYS),
    ("loopback", &[]),
    ("macvlan", macvlan::KEYS),
    ("overlay", overlay::KEYS),
    ("portmap", portmap::KEYS),
    ("ptp", ptp::KEYS),
    ("sbr", sbr::KEYS),
    ("static", static_ipam::KEYS),
    ("tap", tap::KEYS),
    ("tuning", tuning::KEYS),
    ("vlan", vlan::KEYS),
    ("vrf", vrf::KEYS),
];

/// Keys that a runtime or the specification has for every plugin.
const COMMON: [&str; 8] =
    ["args", "capabilities", "cniVersion", "dns", "name", "prevResult", "runtimeConfig", "type"];

/// The keys that the reference's plugins read. `ipam.` is the section of an IPAM plugin. It has no
/// `dns`.
const REFERENCE: &[(&str, &str)] = &[
    ("bandwidth", "ingressRate ingressBurst egressRate egressBurst"),
    (
        "bridge",
        "bridge isGateway isDefaultGateway forceAddress ipMasq ipMasqBackend mtu hairpinMode promiscMode vlan \
         vlanTrunk preserveDefaultVlan macspoofchk enabledad disableContainerInterface portIsolation ipam",
    ),
    ("dhcp", "ipam.daemonSocketPath ipam.provide ipam.request ipam.priority"),
    ("dummy", "ipam"),
    ("firewall", "backend iptablesAdminChainName firewalldZone ingressPolicy"),
    ("host-device", "device hwaddr kernelpath pciBusID DPDKMode ipam"),
    (
        "host-local",
        "ipam.ranges ipam.subnet ipam.rangeStart ipam.rangeEnd ipam.gateway ipam.routes ipam.dataDir \
         ipam.resolvConf",
    ),
    ("ipvlan", "master mode mtu linkInContainer ipam"),
    ("loopback", ""),
    ("macvlan", "master mode mtu mac bcqueuelen linkInContainer ipam"),
    ("portmap", "backend snat masqAll markMasqBit externalSetMarkChain conditionsV4 conditionsV6"),
    ("ptp", "ipMasq ipMasqBackend mtu ipam"),
    ("sbr", "table gateways addSourceHints"),
    ("static", "ipam.addresses ipam.routes ipam.dns"),
    ("tap", "multiQueue mtu mac owner group selinuxContext bridge ipam"),
    ("tuning", "sysctl mac mtu promisc allmulti txQLen dataDir"),
    ("vlan", "master vlanId mtu linkInContainer ipam"),
    ("vrf", "vrfname table"),
];

/// The keys of a plugin, as its decoder takes them; `None` for a plugin of others.
pub fn keys_of_plugin(name: &str) -> Option<Keys> {
    PLUGINS.iter().find(|(plugin, _)| *plugin == name).map(|(_, keys)| *keys)
}

/// The names of all plugins with a table.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    PLUGINS.iter().map(|(name, _)| *name)
}

/// Whether the plugin gives addresses to others.
pub(super) fn is_ipam(name: &str) -> bool {
    matches!(name, "cluster" | "dhcp" | "host-local" | "static")
}

/// Whether every plugin may have the key.
pub(super) fn is_common(key: &str) -> bool {
    COMMON.iter().any(|common| common.eq_ignore_ascii_case(key))
}

/// What a plugin's key may be.
pub(super) fn kind_of(keys: Keys, key: &str) -> Option<Kind> {
    all(keys).find(|known| known.name.eq_ignore_ascii_case(key)).map(|known| known.kind)
}

/// All keys of a plugin.
pub(super) fn all(keys: Keys) -> impl Iterator<Item = &'static Key> {
    keys.iter().flat_map(|part| part.iter())
}

/// The keys of an object of a plugin's; nothing when it is none.
pub(super) fn section(keys: Keys, key: &str) -> &'static [Key] {
    match kind_of(keys, key) {
        Some(Kind::Object(keys)) => keys,
        _ => &[],
    }
}

/// The plugin whose key it is: of its configuration, or of its section in `ipam`.
pub(super) fn owner_of(key: &str) -> Option<(&'static str, bool)> {
    let is_it = |known: &&Key| known.name.eq_ignore_ascii_case(key);
    PLUGINS.iter().find_map(|(name, keys)| {
        let plain = !is_ipam(name) && all(keys).any(|known| is_it(&known));
        let inside = is_ipam(name) && section(keys, "ipam").iter().any(|known| is_it(&known));
        (plain || inside).then_some((*name, inside))
    })
}

/// Whether the reference's plugin reads the key; `None` when the reference has no such plugin.
pub(super) fn reference_reads(plugin: &str, key: &str) -> Option<bool> {
    let (_, keys) = REFERENCE.iter().find(|(name, _)| *name == plugin)?;
    Some(keys.split(' ').any(|known| known.eq_ignore_ascii_case(key)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_the_reference_is_known() {
        for (plugin, known) in REFERENCE {
            let keys = keys_of_plugin(plugin).unwrap();
            for key in known.split(' ').filter(|key| !key.is_empty()) {
                let is_known = match key.strip_prefix("ipam.") {
                    Some(inner) => section(keys, "ipam").iter().any(|known| known.name == inner),
                    None => all(keys).any(|known| known.name == key),
                };
                assert!(is_known, "{plugin}: {key}");
            }
        }
    }

    #[test]
    fn what_only_moor_has_is_known_as_such() {
        assert_eq!(reference_reads("bridge", "detectConflict"), Some(false));
        assert_eq!(reference_reads("bridge", "isgateway"), Some(true));
        assert_eq!(reference_reads("host-local", "ipam.cooldown"), Some(false));
        assert_eq!(reference_reads("dns", "domainName"), None);
    }
}
