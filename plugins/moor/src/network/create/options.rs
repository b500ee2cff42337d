//! The keys of `-o` and `--ipam-opt`: the names that docker and podman have, and what they mean.

use std::ops::RangeInclusive;

use cni::Json;

use crate::failure::Failure;
use crate::suggest::nearest;

/// An option of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Bridge,
    Mtu,
    IpMasq,
    Icc,
    HostBinding,
    InterfacePrefix,
    Parent,
    Mode,
    Flag,
    Vlan,
    Isolate,
    BroadcastLimit,
    HostAccess,
    DetectConflict,
    Cooldown,
    Domain,
    VlanTrunk,
    Encrypted,
    Multicast,
    VxlanIds,
}

/// The names of the options.
const NAMES: [(&str, Key); 30] = [
    ("com.docker.network.bridge.name", Key::Bridge),
    ("interface-name", Key::Bridge),
    ("com.docker.network.driver.mtu", Key::Mtu),
    ("mtu", Key::Mtu),
    ("com.docker.network.bridge.enable_ip_masquerade", Key::IpMasq),
    ("ip-masq", Key::IpMasq),
    ("com.docker.network.bridge.enable_icc", Key::Icc),
    ("icc", Key::Icc),
    ("com.docker.network.bridge.host_binding_ipv4", Key::HostBinding),
    ("com.docker.network.container_iface_prefix", Key::InterfacePrefix),
    ("com.docker.network.container_interface_prefix", Key::InterfacePrefix),
    ("parent", Key::Parent),
    ("macvlan_mode", Key::Mode),
    ("ipvlan_mode", Key::Mode),
    ("mode", Key::Mode),
    ("ipvlan_flag", Key::Flag),
    ("flag", Key::Flag),
    ("vlan", Key::Vlan),
    ("isolate", Key::Isolate),
    ("bclim", Key::BroadcastLimit),
    ("hostAccess", Key::HostAccess),
    ("detectConflict", Key::DetectConflict),
    ("cooldown", Key::Cooldown),
    ("domain", Key::Domain),
    ("domainName", Key::Domain),
    ("vlanTrunk", Key::VlanTrunk),
    ("bridge", Key::Bridge),
    ("encrypted", Key::Encrypted),
    ("multicast", Key::Multicast),
    ("com.docker.network.driver.overlay.vxlanid_list", Key::VxlanIds),
];

/// The option of that name.
pub fn key(name: &str) -> Result<Key, Failure> {
    if let Some((_, key)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*key);
    }
    let failure = Failure::refused(format!("unknown option {name:?}"));
    Err(match nearest(name, NAMES.iter().map(|(known, _)| *known)) {
        Some(meant) => failure.hint(format!("did you mean {meant:?}?")),
        None => failure,
    })
}

/// A flag; without a value it is set, as with podman.
pub fn flag(name: &str, value: &str) -> Result<bool, Failure> {
    match value.to_ascii_lowercase().as_str() {
        "" | "true" | "1" | "t" => Ok(true),
        "false" | "0" | "f" => Ok(false),
        _ => Err(Failure::refused(format!("option {name}: {value:?} is neither true nor false"))),
    }
}

/// A number within bounds.
pub fn number(name: &str, value: &str, bounds: RangeInclusive<u64>) -> Result<u64, Failure> {
    value.parse().ok().filter(|number| bounds.contains(number)).ok_or_else(|| {
        let (least, most) = (bounds.start(), bounds.end());
        Failure::refused(format!("option {name}: {value:?} is not a number of {least} to {most}"))
    })
}

/// One of a few words.
pub fn word<'w>(name: &str, value: &str, words: &[&'w str]) -> Result<&'w str, Failure> {
    words
        .iter()
        .copied()
        .find(|word| *word == value)
        .ok_or_else(|| Failure::refused(format!("option {name}: {value:?} is none of {}", words.join(", "))))
}

/// `1-5,7`: the items of `vlanTrunk`.
pub fn trunk(name: &str, value: &str) -> Result<Json, Failure> {
    let id = |text: &str| number(name, text, 1..=4094);
    let member = |key: &str, id: u64| (key.to_owned(), Json::from(id));
    let item = |text: &str| match text.split_once('-') {
        None => Ok(Json::Object(vec![member("id", id(text)?)])),
        Some((min, max)) => match (id(min)?, id(max)?) {
            (min, max) if min <= max => Ok(Json::Object(vec![member("minID", min), member("maxID", max)])),
            _ => Err(Failure::refused(format!("option {name}: {text} runs backwards"))),
        },
    };
    value.split(',').map(item).collect::<Result<Vec<_>, _>>().map(Json::Array)
}

/// The type of a key's value.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Number,
    Flag,
}

const HOST_LOCAL: &[(&str, Kind)] = &[
    ("cooldown", Kind::Number),
    ("dataDir", Kind::Text),
    ("reclaim", Kind::Text),
    ("resolvConf", Kind::Text),
];
const CLUSTER: &[(&str, Kind)] =
    &[("blockSize", Kind::Number), ("cooldown", Kind::Number), ("resolvConf", Kind::Text)];
const DHCP: &[(&str, Kind)] = &[
    ("broadcast", Kind::Flag),
    ("daemonSocketPath", Kind::Text),
    ("ipv6", Kind::Text),
    ("ipv6Optional", Kind::Flag),
    ("prefixDelegation", Kind::Flag),
    ("priority", Kind::Number),
    ("probeTimeoutMs", Kind::Number),
    ("timeout", Kind::Number),
];

/// The value of a key of an IPAM plugin.
pub fn ipam(plugin: &str, key: &str, value: &str) -> Result<Json, Failure> {
    let known = match plugin {
        "host-local" => HOST_LOCAL,
        "dhcp" => DHCP,
        "cluster" => CLUSTER,
        _ => &[],
    };
    let Some((_, kind)) = known.iter().find(|(known, _)| *known == key) else {
        let failure = Failure::refused(format!("unknown option {key:?} of the IPAM driver {plugin}"));
        return Err(match nearest(key, known.iter().map(|(known, _)| *known)) {
            Some(meant) => failure.hint(format!("did you mean {meant:?}?")),
            None => failure,
        });
    };
    Ok(match kind {
        Kind::Text => value.into(),
        Kind::Flag => Json::Bool(flag(key, value)?),
        Kind::Number => number(key, value, 0..=u32::MAX.into())?.into(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_what_was_meant() {
        assert_eq!(key("macvlan_mode").unwrap(), Key::Mode);
        assert_eq!(key("paernt").unwrap_err().hint.as_deref(), Some("did you mean \"parent\"?"));
        assert!(key("com.docker.network.bridge.gateway_mode_ipv4").unwrap_err().hint.is_none());
        let failure = ipam("host-local", "datadir", "/x").unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("did you mean \"dataDir\"?"));
        assert_eq!(ipam("dhcp", "timeout", "30").unwrap(), Json::from(30));
    }

    #[test]
    fn a_trunk_is_a_list_of_vlans_and_ranges() {
        let items = trunk("vlanTrunk", "1-5,7").unwrap();
        assert_eq!(items, Json::parse(br#"[{"minID":1,"maxID":5},{"id":7}]"#).unwrap());
        for odd in ["", "0", "5-1", "4095", "1,", "x"] {
            assert!(trunk("vlanTrunk", odd).is_err(), "{odd}");
        }
    }
}
