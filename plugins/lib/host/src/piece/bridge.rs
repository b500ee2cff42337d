//! Bridges, and the host's own links in their VLANs.

use netlink::{Link, LinkChange, Mac, NewBridge, Veth, VethPeer};
use sys::{Error, Result};

use super::port::VlanSet;
use super::{Kernel, Part, Place, Undo, sysctl};
use crate::{Conflict, Drift};

/// A bridge, shared by every network that names it; it outlives the attachments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// The Ethernet address it gets when it is created here; it then no longer follows its ports.
    pub new_mac: Mac,
    /// Its MTU in bytes when it is created here.
    pub new_mtu: Option<u32>,
    /// Whether it filters by VLAN when it is created here.
    pub vlan_filtering: bool,
    /// Whether it is in promiscuous mode.
    pub promiscuous: bool,
}

/// The alias of a bridge that we created: only plugins have put addresses on it.
pub(super) const BRIDGE_LABEL: &str = "moor/bridge";

/// The host resolves a container's IPv6 neighbour entry from the link-local address of its own link
/// there. While that address is tentative, for up to two seconds after the first port has come up,
/// nothing from outside reaches the container. The address is made from a MAC address generated for
/// this link, so duplicate detection is not needed. (A host without IPv6 lacks the parameter.)
fn solicit_at_once(link: &str) {
    let _ = sys::sysctl::set(&format!("net/ipv6/conf/{link}/accept_dad"), "0");
}

/// Attempts at a bridge that other processes create or delete at the same time.
const ATTEMPTS: usize = 5;

impl Bridge {
    fn create(&self, kernel: &Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.host.create_bridge(&NewBridge {
            name: &self.name,
            mac: Some(self.new_mac),
            mtu: self.new_mtu,
            vlan_filtering: self.vlan_filtering,
            up: false,
        })?;
        undo.push(Undo::SharedLink(self.name.clone()));
        solicit_at_once(&self.name);
        sysctl::refuse_routers(&self.name)?;
        let link = kernel.link(Place::Host, &self.name)?;
        let change = LinkChange { alias: Some(BRIDGE_LABEL), up: Some(true), ..LinkChange::default() };
        kernel.host.set_link(link.index, &change)
    }

    /// Returns the bridge, and creates it if it is missing. The loser of a race to create it uses
    /// the winner's.
    fn find_or_create(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<Link> {
        for _ in 0..ATTEMPTS {
            if let Some(link) = kernel.find_bridge(&self.name)? {
                return match link.kind.as_deref() {
                    Some("bridge") => Ok(link),
                    _ => Err(Conflict::NotABridge { name: self.name.clone() }.into()),
                };
            }
            match self.create(kernel, undo) {
                Err(error) if error.is_exists() => {}
                made => made?,
            }
        }
        kernel.link(Place::Host, &self.name)
    }
}

impl Part for Bridge {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        kernel.use_shared_links()?;
        let prefix = |error: Error| error.within(format!("failed to create bridge \"{}\"", self.name));
        let link = self.find_or_create(kernel, undo).map_err(prefix)?;
        kernel.remember_bridge(&link);
        // An administrator's bridge stays as it is: the host may have its own default route through
        // it.
        if link.alias.as_deref() != Some(BRIDGE_LABEL) {
            kernel.found_mac = link.mac;
        }
        let up = (!link.up()).then_some(true);
        let promiscuous = (self.promiscuous && !link.promiscuous()).then_some(true);
        if up.is_some() || promiscuous.is_some() {
            let change = LinkChange { up, promiscuous, ..LinkChange::default() };
            kernel.host.set_link(link.index, &change).map_err(prefix)?;
        }
        Ok(())
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let Some(link) = kernel.host.link_by_name(&self.name)? else {
            return Ok(vec![Drift::new(format!("bridge {}", self.name), "present", "missing")]);
        };
        if link.kind.as_deref() != Some("bridge") {
            let kind = link.kind.unwrap_or_else(|| "no virtual link".into());
            return Ok(vec![Drift::new(format!("kind of {}", self.name), "bridge", kind)]);
        }
        let mut drifts = Vec::new();
        drifts.extend(Drift::unless_equal(
            format!("state of bridge {}", self.name),
            "up",
            if link.up() { "up" } else { "down" },
        ));
        // Additional promiscuity is a packet capture, not drift.
        if self.promiscuous && !link.promiscuous() {
            drifts.push(Drift::new(format!("promiscuous mode of bridge {}", self.name), "on", "off"));
        }
        Ok(drifts)
    }
}

/// A link of the host in one VLAN of a bridge, named `<bridge>.<vlan>`: one end of a veth pair; the
/// other end is a port of the bridge. Shared like the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanLink {
    /// Name of the bridge.
    pub bridge: String,
    /// Name of the host's link.
    pub name: String,
    /// Name of the end that is a port of the bridge.
    pub port: String,
    /// The port's VLANs.
    pub vlans: VlanSet,
}

impl VlanLink {
    fn create(&self, kernel: &Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let bridge = kernel.link(Place::Host, &self.bridge)?;
        let made = kernel.host.create_veth(&Veth {
            name: &self.name,
            mac: Some(Mac::random()?),
            mtu: Some(bridge.mtu),
            master: None,
            up: false,
            peer: VethPeer {
                name: &self.port,
                mac: Some(Mac::random()?.of_port()),
                mtu: Some(bridge.mtu),
                netns: None,
            },
        });
        match made {
            Err(error) if error.is_exists() => Ok(()),
            Err(error) => Err(error.within("failed to create vlan interface".into())),
            Ok(()) => {
                undo.push(Undo::SharedLink(self.name.clone()));
                solicit_at_once(&self.name);
                Ok(())
            }
        }
    }
}

impl Part for VlanLink {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let mut up = false;
        match kernel.host.link_by_name(&self.name)? {
            Some(link) => up = link.up(),
            None => self.create(kernel, undo)?,
        }
        // Also for an existing link: its creator may have been killed before it was a port, or had
        // its VLAN.
        let Some(port) = kernel.host.link_by_name(&self.port)? else {
            return Ok(()); // Made by the reference, whose port has a name we cannot know.
        };
        let bridge = kernel.link(Place::Host, &self.bridge)?;
        if port.master != Some(bridge.index) {
            let change = LinkChange { master: Some(bridge.index), ..LinkChange::default() };
            kernel.host.set_link(port.index, &change)?;
        }
        // Before it carries a frame: a new port is in the bridge's default VLAN.
        self.vlans.apply(&kernel.host, port.index)?;
        for (name, up) in [(&self.name, up), (&self.port, port.up())] {
            if !up {
                sysctl::refuse_routers(name)?;
                let index = kernel.index(Place::Host, name)?;
                kernel.host.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
            }
        }
        Ok(())
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let what = format!("VLAN interface {}", self.name);
        Ok(match kernel.host.link_by_name(&self.name)? {
            None => vec![Drift::new(what, "present", "missing")],
            Some(link) if !link.up() => vec![Drift::new(what, "up", "down")],
            Some(_) => Vec::new(),
        })
    }
}
