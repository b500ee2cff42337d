//! The configuration of the parent link of a macvlan, ipvlan or vlan network.

use std::net::IpAddr;

use cni::keys::{Key, Kind, TEXTS, key};
use cni::{Error, Request, shortened};
use host::piece::Place;
use serde::Deserialize;

/// The keys as they are written; `null` means absent.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conf {
    master: Option<String>,
    vlan: Option<i64>,
    internal: Option<bool>,
    link_in_container: Option<bool>,
    host_access: Option<bool>,
    host_addresses: Option<Vec<String>>,
}

/// The keys, and their values.
pub const KEYS: &[Key] = &[
    key("master", Kind::Text),
    key("vlan", Kind::Number(1, 4094)),
    key("internal", Kind::Bool),
    key("linkInContainer", Kind::Bool),
    key("hostAccess", Kind::Bool),
    key("hostAddresses", TEXTS),
];

/// The configured parent, and whether the host gets a link on it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Master {
    /// The network's name.
    pub network: String,
    /// The name of the parent, or of the link below it when `vlan` is set; `None` when not given.
    pub name: Option<String>,
    /// The VLAN of that link; the VLAN's link is the parent.
    pub vlan: Option<u16>,
    /// The parent is a link of the network's own, without a connection to the outside.
    pub internal: bool,
    /// The parent must exist, and may be a port: the kernel hands tagged frames to a VLAN's link
    /// first. It is no link that we create and delete by need, since that need does not count
    /// VLANs.
    pub plain: bool,
    /// The namespace of the parent.
    pub place: Place,
    /// `Some`: host and containers can reach each other; the host uses these addresses for it, or
    /// its own.
    pub host_access: Option<Vec<IpAddr>>,
}

impl Master {
    /// Reads and checks the keys.
    ///
    /// # Errors
    /// Code 7 for an invalid value, or keys that contradict each other; 999 for a value of another
    /// type.
    pub fn of(request: &Request) -> Result<Self, Error> {
        let conf: Conf = request.config()?;
        let invalid = |msg: String| Err(Error::invalid_config(msg));
        let internal = conf.internal.unwrap_or(false);
        let in_container = conf.link_in_container.unwrap_or(false);
        let host_access = conf.host_access.unwrap_or(false);
        let addresses = conf.host_addresses.unwrap_or_default();
        let name = conf.master.filter(|name| !name.is_empty());
        for (contradiction, text) in [
            (
                internal && name.is_some(),
                "an internal network has no master: leave \"master\" or \"internal\" out",
            ),
            (
                internal && conf.vlan.is_some(),
                "an internal network has no VLAN: leave \"vlan\" or \"internal\" out",
            ),
            (internal && in_container, "linkInContainer is for a master: an internal network has none"),
            (
                in_container && conf.vlan.is_some(),
                "a VLAN is made on links of the host: make it in the container first, and name it as \"master\"",
            ),
            (in_container && host_access, "hostAccess is for a master of the host, not of the container"),
            (!host_access && !addresses.is_empty(), "hostAddresses needs hostAccess"),
        ] {
            if contradiction {
                return invalid(text.into());
            }
        }
        let vlan = match conf.vlan {
            None => None,
            Some(id) => match u16::try_from(id).ok().filter(|id| VLAN_IDS.contains(id)) {
                None => return invalid(invalid_vlan(id)),
                id => id,
            },
        };
        let addresses = addresses.iter().map(|text| address(text)).collect::<Result<_, _>>()?;
        Ok(Self {
            network: request.network.clone(),
            name,
            vlan,
            internal,
            plain: false,
            place: if in_container { Place::Sandbox } else { Place::Host },
            host_access: host_access.then_some(addresses),
        })
    }

    /// Whether the configuration names no link. The parent is then the link of the default route,
    /// or of a previous plugin.
    pub fn is_unnamed(&self) -> bool {
        self.name.is_none() && !self.internal
    }
}

/// IEEE 802.1Q, 9.6: 0 means no VLAN, 4095 is reserved.
pub(crate) const VLAN_IDS: std::ops::RangeInclusive<u16> = 1..=4094;

pub(crate) fn invalid_vlan(id: impl std::fmt::Display) -> String {
    format!("invalid VLAN ID {id} (must be between 1 and 4094)")
}

fn address(text: &str) -> Result<IpAddr, Error> {
    let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast() && !ip.is_loopback();
    text.parse().ok().filter(usable).ok_or_else(|| {
        let text = shortened(text);
        let msg = format!(
            "invalid address {text:?} in hostAddresses: expected a host's address without a prefix length"
        );
        Error::invalid_config(msg)
    })
}
