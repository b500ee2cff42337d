//! A link's settings as a bridge port.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use netlink::{BridgePort, Netlink, OperState, PortChange, PortState, PortVlans};
use sys::{Error, Result};

use super::{Feature, Kernel, Part, Place, Undo};
use crate::{Drift, notice};

/// Settings of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Name of the link.
    pub link: String,
    /// Frames may leave by the port they arrived on.
    pub hairpin: bool,
    /// It exchanges no frames with other isolated ports.
    pub isolated: bool,
    /// Its VLANs, if the bridge filters by VLAN.
    pub vlans: Option<VlanSet>,
}

/// The VLANs of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanSet {
    /// The VLAN of untagged frames.
    pub untagged: u16,
    /// VLANs with tagged frames.
    pub tagged: BTreeSet<u16>,
    /// Whether the VLANs that the kernel assigned to the port (the bridge's default, 1) stay.
    pub keep_default: bool,
}

impl VlanSet {
    /// Assigns these VLANs to the port.
    pub(super) fn apply(&self, host: &Netlink, index: u32) -> Result<()> {
        let wanted = self.wanted();
        if !self.keep_default {
            for vlans in host.port_vlans(index)? {
                if !wanted.contains(&vlans) {
                    host.delete_port_vlans(index, vlans)?;
                }
            }
        }
        wanted.into_iter().try_for_each(|vlans| host.add_port_vlans(index, vlans))
    }

    /// The untagged VLAN, and the tagged ones in as few ranges as possible.
    fn wanted(&self) -> Vec<PortVlans> {
        let id = self.untagged;
        let mut all = vec![PortVlans { first: id, last: id, pvid: true, untagged: true }];
        for &id in self.tagged.iter().filter(|id| **id != self.untagged) {
            match all.last_mut() {
                Some(range) if !range.untagged && range.last + 1 == id => range.last = id,
                _ => all.push(PortVlans { first: id, last: id, pvid: false, untagged: false }),
            }
        }
        all
    }

    fn verify(&self, host: &Netlink, index: u32, link: &str) -> Result<Vec<Drift>> {
        let actual = host.port_vlans(index)?;
        let missing = self.wanted().into_iter().filter(|wanted| {
            !actual.iter().any(|have| {
                (have.pvid, have.untagged) == (wanted.pvid, wanted.untagged)
                    && have.first <= wanted.first
                    && wanted.last <= have.last
            })
        });
        let have = actual.iter().map(text).collect::<Vec<_>>().join(", ");
        Ok(missing.map(|wanted| Drift::new(format!("VLANs of port {link}"), text(&wanted), &have)).collect())
    }
}

fn unfiltered(error: Error) -> Error {
    if error.is_not_supported() { error.within(Feature::BridgeVlanFiltering.missing()) } else { error }
}

/// Formats as `bridge vlan` does: `5-7`, `100 PVID untagged`.
fn text(vlans: &PortVlans) -> String {
    let mut text = vlans.first.to_string();
    if vlans.last != vlans.first {
        text.push_str(&format!("-{}", vlans.last));
    }
    for (flag, name) in [(vlans.pvid, " PVID"), (vlans.untagged, " untagged")] {
        if flag {
            text.push_str(name);
        }
    }
    text
}

impl Part for Port {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        // A new port has neither setting.
        if !self.hairpin && !self.isolated && self.vlans.is_none() {
            return Ok(());
        }
        let index = kernel.index(Place::Host, &self.link)?;
        if self.hairpin || self.isolated {
            let change = PortChange {
                hairpin: Some(self.hairpin),
                isolated: Some(self.isolated),
                ..PortChange::default()
            };
            kernel.host.set_bridge_port(index, &change)?;
        }
        match &self.vlans {
            Some(vlans) => vlans.apply(&kernel.host, index).map_err(unfiltered),
            None => Ok(()),
        }
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        // A missing link, or one that is not a port, is the veth's drift.
        let Some(link) = kernel.host.link_by_name(&self.link)? else { return Ok(Vec::new()) };
        let Some(port) = link.port else { return Ok(Vec::new()) };
        let BridgePort { hairpin, isolated, .. } = port;
        let on_off = |on: bool| if on { "on" } else { "off" };
        let flag = |what: &str, expected: bool, actual: bool| {
            Drift::unless_equal(format!("{what} of port {}", self.link), on_off(expected), on_off(actual))
        };
        let mut drifts = Vec::new();
        // Others may turn it on, for example for a published port that the container itself
        // connects to.
        drifts.extend(flag("hairpin mode", true, hairpin).filter(|_| self.hairpin));
        drifts.extend(flag("isolation", self.isolated, isolated));
        if let Some(vlans) = &self.vlans {
            drifts.append(&mut vlans.verify(&kernel.host, link.index, &self.link)?);
        }
        Ok(drifts)
    }
}

/// A link of the host that carries packets: up, and its port forwards, or will once spanning tree
/// allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding {
    /// Name of the link.
    pub link: String,
}

/// The kernel needs well under a millisecond.
const PORT_DEADLINE: Duration = Duration::from_secs(15);

impl Part for Forwarding {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(Place::Host, &self.link)?;
        if let Some(state) = kernel.host.wait_for_port(index, Instant::now() + PORT_DEADLINE)? {
            self.report(state);
        }
        Ok(())
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.host.link_by_name(&self.link)? else { return Ok(Vec::new()) };
        let mut drifts = Vec::new();
        if link.oper_state != OperState::Up {
            drifts.push(Drift::new(
                format!("operational state of {}", self.link),
                OperState::Up,
                link.oper_state,
            ));
        } else if let Some(port) = link.port
            && port.state != PortState::Forwarding
        {
            if matches!(port.state, PortState::Listening | PortState::Learning) {
                self.report(port.state);
                return Ok(drifts);
            }
            drifts.push(Drift::new(
                format!("state of port {}", self.link),
                PortState::Forwarding,
                port.state,
            ));
        }
        Ok(drifts)
    }
}

impl Forwarding {
    fn report(&self, state: PortState) {
        notice(format_args!(
            "bridge port {} is {state}: the bridge's spanning tree passes no packets until its forward delay is over, \
             nor finds duplicate addresses (ip link set BRIDGE type bridge stp_state 0)",
            self.link
        ));
    }
}
