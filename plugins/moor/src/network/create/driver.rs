//! The drivers, and which options each takes.

use cni::Json;

use crate::failure::Failure;

use super::options::{self, Key};

/// The plugin that makes the container's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// A bridge of the host.
    Bridge,
    /// Links with addresses of their own on a link of the host.
    Macvlan,
    /// Links that share the address of a link of the host.
    Ipvlan,
    /// A bridge of each host of the cluster, and VXLAN between them.
    Overlay,
}

/// What `-o flag` takes.
pub const FLAGS: &[&str] = &["bridge", "private", "vepa"];

impl Driver {
    /// The plugin's name.
    pub fn plugin(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
            Self::Overlay => "overlay",
        }
    }

    /// What `-o mode` takes. Macvlan's `source` needs a list of MAC addresses, which no option can
    /// give.
    pub fn modes(self) -> &'static [&'static str] {
        match self {
            Self::Bridge | Self::Overlay => &[],
            Self::Macvlan => &["bridge", "private", "vepa", "passthru"],
            Self::Ipvlan => &["l2", "l3", "l3s"],
        }
    }
}

/// Refuses an option that the driver does not have, or that CNI has no key for.
pub fn ensure_takes(driver: Driver, key: Key, name: &str) -> Result<(), Failure> {
    let instead = match key {
        Key::HostBinding => {
            "a conflist has no such key: give the address where the port is published (-p IP:..)"
        }
        Key::InterfacePrefix => "a conflist has no such key: the runtime names interfaces",
        Key::VxlanIds => "the cluster gives the ids of VXLAN",
        Key::BroadcastLimit => "no plugin has it; bcqueuelen is the length of a queue, and not the same",
        _ => "",
    };
    if !instead.is_empty() {
        return Err(Failure::refused(format!("option {name}: {instead}")));
    }
    let takes = match key {
        Key::Bridge | Key::Icc | Key::Isolate | Key::VlanTrunk => driver == Driver::Bridge,
        Key::IpMasq => matches!(driver, Driver::Bridge | Driver::Overlay),
        Key::Parent | Key::Mode | Key::HostAccess => matches!(driver, Driver::Macvlan | Driver::Ipvlan),
        Key::Vlan | Key::DetectConflict => driver != Driver::Overlay,
        Key::Encrypted | Key::Multicast => driver == Driver::Overlay,
        Key::Flag => driver == Driver::Ipvlan,
        _ => true,
    };
    if takes { Ok(()) } else { Err(Failure::refused(format!("option {name}: {} has none", driver.plugin()))) }
}

/// The value of `mtu`. With `auto` a bridge follows the link of the default route, and an overlay
/// the link to the other hosts.
pub fn mtu(driver: Driver, name: &str, value: &str) -> Result<Json, Failure> {
    match (driver, value) {
        (Driver::Bridge | Driver::Overlay, "auto") => Ok("auto".into()),
        // 576 is what every host of IPv4 takes (RFC 791); VXLAN takes 50 bytes of the most.
        (Driver::Overlay, _) => options::number(name, value, 576..=65_485).map(Json::from),
        // 68 is the least of IPv4 (RFC 791); 65535 the most of a veth pair.
        _ => options::number(name, value, 68..=65_535).map(Json::from),
    }
}
