//! The two links of a network.

use std::net::IpAddr;

use netlink::{Link, LinkChange, Mac, Netlink, NewBridge};
use sys::{Error, Result};

use super::{alias, device, is_ours, overlay_bridge, overlay_device, taken};
use crate::Drift;
use crate::piece::shared::GROUP;
use crate::piece::{Kernel, Part, Undo, sysctl};

/// The links of an overlay network: a bridge, and a VXLAN device as its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayLinks {
    /// The network's name.
    pub network: String,
    /// The VXLAN id.
    pub vni: u32,
    /// The source of VXLAN packets.
    pub local: IpAddr,
    /// Their UDP port.
    pub port: u16,
    /// The MTU of the network, in bytes.
    pub mtu: u32,
    /// The bridge's Ethernet address.
    pub bridge_mac: Mac,
    /// The network has IPv6 addresses.
    pub ipv6: bool,
}

/// Attempts at links that other processes create or delete at the same time.
const ATTEMPTS: usize = 5;

impl OverlayLinks {
    /// Makes the network's VXLAN device as it must be, if the network has a bridge here: for the
    /// agent, when somebody deleted or changed the device, or when the host's address is another.
    /// Returns whether anything was different: then the device's entries may be gone.
    ///
    /// # Errors
    /// The kernel could not be asked, or refused.
    pub fn restore(&self, host: &Netlink) -> Result<bool> {
        let _lock = super::use_links()?;
        match host.link_by_name(&overlay_bridge(&self.network))? {
            Some(bridge) if is_ours(&bridge, "bridge", &self.network) && bridge.alias.is_some() => {
                device::ensure(self, host, &bridge)
            }
            _ => Ok(false),
        }
    }

    fn ensure(&self, host: &Netlink) -> Result<()> {
        let bridge = self.ensure_bridge(host)?;
        device::ensure(self, host, &bridge).map(drop)
    }

    fn ensure_bridge(&self, host: &Netlink) -> Result<Link> {
        let name = overlay_bridge(&self.network);
        for _ in 0..ATTEMPTS {
            let Some(link) = host.link_by_name(&name)? else {
                let new = NewBridge {
                    name: &name,
                    mac: Some(self.bridge_mac),
                    mtu: Some(self.mtu),
                    vlan_filtering: false,
                    up: false,
                };
                match host.create_bridge_in_group(&new, GROUP) {
                    Err(error) if !error.is_exists() => return Err(error),
                    _ => continue,
                }
            };
            if !is_ours(&link, "bridge", &self.network) {
                return Err(taken(&link, "bridge"));
            }
            let mac = Some(self.bridge_mac).filter(|mac| link.mac != Some(*mac));
            let mtu = Some(self.mtu).filter(|mtu| link.mtu != *mtu);
            let fresh = !link.up() || link.alias.is_none();
            if fresh {
                prepare(&name, self.ipv6)?;
            }
            if fresh || mac.is_some() || mtu.is_some() {
                let alias = alias(&self.network);
                let alias = fresh.then_some(alias.as_str());
                let change = LinkChange { mac, mtu, alias, up: Some(true), ..LinkChange::default() };
                host.set_link(link.index, &change)?;
            }
            return Ok(link);
        }
        Err(Error::new("create bridge", name, std::io::ErrorKind::AlreadyExists))
    }
}

/// Parameters of a bridge before it is up: its link-local address is made from a MAC address of
/// this host alone, so that it can be used at once, and containers do not change the host's routes.
fn prepare(name: &str, ipv6: bool) -> Result<()> {
    if ipv6 {
        sysctl::best_effort(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0");
    }
    sysctl::best_effort(&format!("net/ipv6/conf/{name}/accept_dad"), "0");
    sysctl::refuse_routers(name)
}

impl Part for OverlayLinks {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.use_overlay_links()?;
        undo.push(Undo::OverlayLinks(self.network.clone()));
        let failed = |error: Error| {
            error.within(format!("failed to make the links of overlay network {}", self.network))
        };
        self.ensure(&kernel.host).map_err(failed)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let name = overlay_bridge(&self.network);
        let Some(bridge) = kernel.host.link_by_name(&name)? else {
            return Ok(vec![Drift::new(format!("bridge {name}"), "present", "missing")]);
        };
        if !is_ours(&bridge, "bridge", &self.network) {
            let actual = bridge.alias.or(bridge.kind).unwrap_or_else(|| "a device".into());
            return Ok(vec![Drift::new(format!("owner of {name}"), alias(&self.network), actual)]);
        }
        let mut drifts = Vec::new();
        let state = if bridge.up() { "up" } else { "down" };
        drifts.extend(Drift::unless_equal(format!("state of bridge {name}"), "up", state));
        let mac = bridge.mac.map_or_else(|| "none".into(), |mac| mac.to_string());
        drifts.extend(Drift::unless_equal(
            format!("MAC address of {name}"),
            self.bridge_mac.to_string(),
            mac,
        ));
        drifts.extend(Drift::unless_equal(format!("MTU of {name}"), self.mtu, bridge.mtu));
        match kernel.host.link_by_name(&overlay_device(&self.network))? {
            Some(link) => drifts.append(&mut device::drifts(self, &link, &bridge)),
            None => {
                let what = format!("VXLAN device {}", overlay_device(&self.network));
                drifts.push(Drift::new(what, "present", "missing"));
            }
        }
        Ok(drifts)
    }
}
