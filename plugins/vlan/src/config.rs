//! The configuration of a VLAN network: the keys as written ([`Conf`]), and checked ([`Config`]).

use std::collections::BTreeMap;

use attach::child::Child;
use attach::conflict::Detection;
use attach::mtu::MtuConf;
use attach::{Master, Parent};
use cni::keys::{self, Keys, Kind, key};
use cni::{Error, Request, shortened};
use host::piece::{ChildKind, Place};
use netlink::{PriorityMap, Vlan, VlanFlags, VlanProtocol};
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    master: Option<String>,
    vlan_id: Option<i64>,
    mtu: Option<MtuConf>,
    link_in_container: Option<bool>,
    protocol: Option<String>,
    reorder_header: Option<bool>,
    gvrp: Option<bool>,
    mvrp: Option<bool>,
    loose_binding: Option<bool>,
    ingress_qos_map: Option<BTreeMap<String, i64>>,
    egress_qos_map: Option<BTreeMap<String, i64>>,
    enabledad: Option<bool>,
    dns: Option<cni::DnsConf>,
}

/// The keys, and their values.
pub const KEYS: Keys = &[
    &[
        key("master", Kind::Text),
        key("vlanId", Kind::Number(0, *IDS.end() as u64)),
        key("mtu", Kind::Mtu(i32::MAX as u64)),
        key("linkInContainer", Kind::Bool),
        key("protocol", Kind::OneOf(&["802.1q", "802.1Q", "802.1ad", "802.1AD"])),
        key("reorderHeader", Kind::Bool),
        key("gvrp", Kind::Bool),
        key("mvrp", Kind::Bool),
        key("looseBinding", Kind::Bool),
        key("ingressQosMap", Kind::Map(&keys::INTEGER)),
        key("egressQosMap", Kind::Map(&keys::INTEGER)),
        key("enabledad", Kind::Bool),
        key("ipam", Kind::Ipam),
        key("dns", keys::DNS),
    ],
    attach::conflict::KEYS,
];

/// The checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The parent.
    pub master: Master,
    /// The VLAN.
    pub vlan: Vlan,
    /// The MTU in bytes; `None` is the parent's.
    pub mtu: Option<i64>,
    /// Whether the kernel detects duplicates of IPv6 addresses.
    pub dad: bool,
    /// How duplicates of all addresses are detected, if they are.
    pub detection: Option<Detection>,
    /// The IPAM plugin.
    pub ipam: Option<String>,
    /// Replaces the IPAM plugin's.
    pub dns: Option<cni::DnsConf>,
}

/// IEEE 802.1Q, 9.6: 4095 is reserved. 0 is a priority without a VLAN, and the default, as it is
/// the reference's.
const IDS: std::ops::RangeInclusive<u16> = 0..=4094;

/// IEEE 802.1Q, 6.9.3: a tag has three bits of priority.
const TAG_PRIORITIES: std::ops::RangeInclusive<u32> = 0..=7;

/// Priorities of packets (`skb->priority`) may be any number; the kernel walks a list for each.
const EGRESS_MAX: usize = 64;

impl Config {
    /// Reads and checks the configuration; changes nothing.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let in_container = conf.link_in_container.unwrap_or(false);
        let name = conf.master.filter(|name| !name.is_empty()).ok_or_else(|| {
            Error::invalid_config(
                "\"master\" field is required. It specifies the host interface name to create the VLAN for.",
            )
        })?;
        let id = conf.vlan_id.unwrap_or(0);
        let id = u16::try_from(id).ok().filter(|id| IDS.contains(id)).ok_or_else(|| {
            Error::invalid_config(format!("invalid VLAN ID {id} (must be between 0 and 4094 inclusive)"))
        })?;
        let flags = VlanFlags {
            reorder_header: conf.reorder_header.unwrap_or(true),
            gvrp: conf.gvrp.unwrap_or(false),
            mvrp: conf.mvrp.unwrap_or(false),
            loose_binding: conf.loose_binding.unwrap_or(false),
        };
        Ok(Self {
            master: Master {
                network: request.network.clone(),
                name: Some(name),
                vlan: None,
                internal: false,
                plain: true,
                place: if in_container { Place::Sandbox } else { Place::Host },
                host_access: None,
            },
            vlan: Vlan {
                id,
                protocol: protocol(conf.protocol.as_deref().unwrap_or_default())?,
                flags,
                ingress: ingress(conf.ingress_qos_map.unwrap_or_default())?,
                egress: egress(conf.egress_qos_map.unwrap_or_default())?,
            },
            mtu: match conf.mtu {
                None | Some(MtuConf::Auto | MtuConf::Bytes(0)) => None,
                Some(MtuConf::Bytes(bytes)) => Some(bytes),
            },
            dad: conf.enabledad.unwrap_or(true),
            detection: Detection::of(request)?,
            ipam: attach::ipam_type(request)?,
            dns: conf.dns,
        })
    }

    /// The IPAM plugin, which ADD, CHECK and STATUS need.
    pub fn required_ipam(&self) -> Result<&str, Error> {
        self.ipam.as_deref().ok_or_else(|| {
            Error::internal("failed to execute IPAM delegate: no plugin name provided")
                .details("vlan needs addresses from an IPAM plugin: ipam.type")
        })
    }

    /// The attachment. Its link has the parent's MAC address.
    pub fn child(&self, parent: &Parent) -> Result<Child, Error> {
        Ok(Child {
            kind: ChildKind::Vlan(self.vlan.clone()),
            mac: None,
            mtu: parent.mtu_for(self.mtu)?,
            dad: self.dad,
            default_route: false,
            host_access: None,
            detection: self.detection,
        })
    }
}

fn protocol(name: &str) -> Result<VlanProtocol, Error> {
    if name.is_empty() {
        return Ok(VlanProtocol::Dot1q);
    }
    let known = VlanProtocol::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    known.map(|(_, protocol)| protocol).ok_or_else(|| {
        Error::invalid_config(format!("unknown VLAN protocol: {:?}", shortened(name)))
            .details("one of 802.1q, 802.1ad")
    })
}

/// From the priority in a tag to a packet's.
fn ingress(map: BTreeMap<String, i64>) -> Result<PriorityMap, Error> {
    priorities("ingressQosMap", map, |from, _| TAG_PRIORITIES.contains(&from))
}

/// From a packet's priority to the one in a tag.
fn egress(map: BTreeMap<String, i64>) -> Result<PriorityMap, Error> {
    if map.len() > EGRESS_MAX {
        return Err(Error::invalid_config(format!(
            "egressQosMap has {} entries, and {EGRESS_MAX} are the most",
            map.len()
        )));
    }
    priorities("egressQosMap", map, |_, to| TAG_PRIORITIES.contains(&to))
}

fn priorities(
    key: &str,
    map: BTreeMap<String, i64>,
    fits: impl Fn(u32, u32) -> bool,
) -> Result<PriorityMap, Error> {
    map.into_iter()
        .map(|(from, to)| {
            let pair = from.parse().ok().zip(u32::try_from(to).ok());
            pair.filter(|(from, to)| fits(*from, *to)).ok_or_else(|| {
                Error::invalid_config(format!("invalid entry \"{}\": {to} in {key}", shortened(&from)))
                    .details("a tag's priority is 0 to 7, a packet's any number of 32 bits")
            })
        })
        .collect()
}
