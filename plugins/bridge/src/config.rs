//! The configuration of a bridge network: the keys as written ([`Conf`]), and checked ([`Config`]).

mod vlans;

use std::collections::BTreeSet;

use attach::conflict::Detection;
use attach::{Outside, VethMtu};
use cni::keys::{self, Keys, Kind, key};
use cni::{Error, Request, shortened};
use host::piece::Feature;
use ipnetwork::IpNetwork;
use netlink::Mac;
use serde::Deserialize;

use vlans::{TrunkConf, trunk, vlan};

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    bridge: Option<String>,
    is_gateway: Option<bool>,
    is_default_gateway: Option<bool>,
    force_address: Option<bool>,
    hairpin_mode: Option<bool>,
    promisc_mode: Option<bool>,
    vlan: Option<i64>,
    vlan_trunk: Option<Vec<TrunkConf>>,
    preserve_default_vlan: Option<bool>,
    macspoofchk: Option<bool>,
    enabledad: Option<bool>,
    disable_container_interface: Option<bool>,
    port_isolation: Option<bool>,
    dns: Option<cni::DnsConf>,
    runtime_config: Option<MacConf>,
    args: Option<ArgsConf>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct MacConf {
    mac: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ArgsConf {
    cni: Option<MacConf>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[
    &[
        key("bridge", Kind::Text),
        key("isGateway", Kind::Bool),
        key("isDefaultGateway", Kind::Bool),
        key("forceAddress", Kind::Bool),
        key("hairpinMode", Kind::Bool),
        key("promiscMode", Kind::Bool),
        key("vlan", Kind::Number(0, 4094)),
        key("vlanTrunk", Kind::List(&Kind::Object(vlans::TRUNK_KEYS))),
        key("preserveDefaultVlan", Kind::Bool),
        key("macspoofchk", Kind::Bool),
        key("enabledad", Kind::Bool),
        key("disableContainerInterface", Kind::Bool),
        key("portIsolation", Kind::Bool),
        key("ipam", Kind::Ipam),
        key("dns", keys::DNS),
        key("runtimeConfig", keys::MAC),
        key("args", Kind::Object(&[key("cni", keys::MAC)])),
    ],
    attach::OUTSIDE_KEYS,
    attach::VETH_MTU_KEYS,
    attach::conflict::KEYS,
];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the bridge.
    pub bridge: String,
    /// The bridge gets the gateway addresses, and the host forwards.
    pub is_gateway: bool,
    /// The container gets a default route by the gateway, in each family.
    pub is_default_gateway: bool,
    /// How packets reach the outside.
    pub outside: Outside,
    /// The container's port only accepts frames from the container's MAC address.
    pub mac_filter: bool,
    /// A conflicting address of the bridge is replaced.
    pub force_address: bool,
    /// The MTU; `None` is the kernel's default.
    pub mtu: Option<VethMtu>,
    /// A frame may leave by the port on which it arrived.
    pub hairpin: bool,
    /// The bridge is put into promiscuous mode.
    pub promiscuous: bool,
    /// The port's untagged VLAN.
    pub vlan: Option<u16>,
    /// The port's tagged VLANs; `Some` and empty only switches VLAN filtering on.
    pub trunk: Option<BTreeSet<u16>>,
    /// The bridge's default VLAN stays on the port.
    pub preserve_default_vlan: bool,
    /// IPv6 duplicate address detection in the container.
    pub dad: bool,
    /// How duplicates of all addresses are detected, if they are.
    pub detection: Option<Detection>,
    /// The container's link stays down.
    pub leave_down: bool,
    /// The port is isolated from other isolated ports.
    pub isolated: bool,
    /// The IPAM plugin; `None` is layer 2.
    pub ipam: Option<String>,
    /// Gateways that the ipam section names or implies. On the bridge these are never stale
    /// addresses: a range set may have several subnets, and this container has an address of only
    /// one.
    pub ipam_gateways: Vec<IpNetwork>,
    /// Overrides the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
    /// The container's MAC address, if it is configured.
    pub mac: Option<Mac>,
}

const DEFAULT_BRIDGE: &str = "cni0";

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let ipam = attach::ipam_type(request)?;
        let layer3 = ipam.is_some();
        let is_default_gateway = conf.is_default_gateway.unwrap_or(false) && layer3;
        let config = Self {
            bridge: bridge_name(conf.bridge)?,
            is_gateway: (conf.is_gateway.unwrap_or(false) && layer3) || is_default_gateway,
            is_default_gateway,
            outside: Outside::of(request)?,
            mac_filter: conf.macspoofchk.unwrap_or(false),
            force_address: conf.force_address.unwrap_or(false),
            mtu: attach::veth_mtu(request)?,
            hairpin: conf.hairpin_mode.unwrap_or(false),
            promiscuous: conf.promisc_mode.unwrap_or(false),
            vlan: vlan(conf.vlan.unwrap_or(0))?,
            trunk: conf.vlan_trunk.as_deref().map(trunk).transpose()?,
            preserve_default_vlan: conf.preserve_default_vlan.unwrap_or(false),
            dad: conf.enabledad.unwrap_or(false),
            detection: Detection::of(request)?,
            leave_down: conf.disable_container_interface.unwrap_or(false),
            isolated: conf.port_isolation.unwrap_or(false),
            ipam_gateways: attach::ipam_gateways(request)?,
            ipam,
            dns: conf.dns,
            mac: mac(request, conf.runtime_config, conf.args)?,
        };
        if config.hairpin && config.promiscuous {
            return Err(Error::invalid_config(
                "cannot set hairpin mode and promiscuous mode at the same time",
            ));
        }
        if config.leave_down && layer3 {
            return Err(Error::invalid_config("cannot use IPAM when DisableContainerInterface flag is set"));
        }
        if config.detection.is_some() && !layer3 {
            return Err(Error::invalid_config("detectConflict needs ipam: there is no address to look for"));
        }
        if let Some(name) = config.vlan_link()
            && name.len() > 15
        {
            return Err(Error::invalid_config(format!(
                "the VLAN interface's name {name:?} is longer than 15 bytes: shorten the bridge's name"
            )));
        }
        Ok(config)
    }

    /// The features of the kernel that it needs.
    pub fn features(&self) -> &'static [Feature] {
        const ALL: [Feature; 3] =
            [Feature::Links("bridge"), Feature::Links("veth"), Feature::BridgeVlanFiltering];
        let [plain @ .., _] = &ALL;
        if self.vlan_filtering() { &ALL } else { plain }
    }

    /// Whether the bridge needs VLAN filtering.
    pub fn vlan_filtering(&self) -> bool {
        self.vlan.is_some() || self.trunk.is_some()
    }

    /// The host's link in the container's VLAN, which has the gateway addresses instead of the
    /// bridge.
    pub fn vlan_link(&self) -> Option<String> {
        self.vlan.filter(|_| self.is_gateway).map(|vlan| format!("{}.{vlan}", self.bridge))
    }
}

/// The name of the bridge for DEL, which must not fail if the rest of the configuration is invalid.
pub(crate) fn bridge_to_leave(request: &Request) -> String {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Only {
        bridge: Option<String>,
    }
    let name = request.config::<Only>().ok().and_then(|only| only.bridge);
    name.unwrap_or_else(|| DEFAULT_BRIDGE.into())
}

fn bridge_name(name: Option<String>) -> Result<String, Error> {
    let name = name.unwrap_or_else(|| DEFAULT_BRIDGE.into());
    if name.is_empty() {
        return Err(Error::invalid_config("could not add \"\": LinkAttrs.Name cannot be empty"));
    }
    // The name becomes part of a path below /proc/sys. The kernel has the same rule for link names;
    // with a '%' it would choose a name of its own (dev_alloc_name, net/core/dev.c).
    let fits = name.len() <= 15 && name != "." && name != "..";
    if !fits || name.chars().any(|c| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control()) {
        return Err(Error::invalid_config(format!("invalid bridge name {:?}", shortened(&name)))
            .details("at most 15 bytes, not \".\" or \"..\", no '/', ':', '%' or white space"));
    }
    Ok(name)
}

/// `runtimeConfig.mac`, otherwise `args.cni.mac`, otherwise `MAC` of CNI_ARGS; empty means not
/// given.
fn mac(
    request: &Request,
    runtime_config: Option<MacConf>,
    args: Option<ArgsConf>,
) -> Result<Option<Mac>, Error> {
    let from_env = request.args(&["MAC"])?.pop().map(|(_, mac)| mac);
    let given = [runtime_config.and_then(|c| c.mac), args.and_then(|a| a.cni).and_then(|c| c.mac), from_env];
    let Some(text) = given.into_iter().flatten().find(|mac| !mac.is_empty()) else {
        return Ok(None);
    };
    let invalid = |why: &str| {
        Error::invalid_config(format!("failed to make veth pair: address {}: {why}", shortened(&text)))
    };
    attach::link_mac(&text).map(Some).map_err(invalid)
}
