//! A veth pair between the host, or a bridge of it, and a container.

use netlink::{Link, LinkChange, Mac, Netlink, Veth, VethPeer};
use sys::{Error, Result};

use super::{Kernel, Part, Place, Undo, sysctl};
use crate::{Conflict, Drift, Owner};

/// A veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPair {
    /// Name of the host's end; see [`choose_host_veth`].
    pub host_name: String,
    /// Its Ethernet address.
    pub host_mac: Mac,
    /// The bridge that it is a port of; `None`: the host routes.
    pub bridge: Option<String>,
    /// Name of the end in the container.
    pub container_name: String,
    /// Its Ethernet address.
    pub container_mac: Mac,
    /// MTU of both ends in bytes; `None` is the kernel's default.
    pub mtu: Option<u32>,
    /// Its owner's label: [`Owner::label`], kept as the host end's alias.
    pub label: String,
}

impl Part for VethPair {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let master = match &self.bridge {
            Some(bridge) => Some(kernel.index(Place::Host, bridge)?),
            None => None,
        };
        let made = kernel.host.create_veth(&Veth {
            name: &self.host_name,
            mac: Some(self.host_mac),
            mtu: self.mtu,
            master,
            up: false,
            peer: VethPeer {
                name: &self.container_name,
                mac: Some(self.container_mac),
                mtu: self.mtu,
                netns: Some(kernel.netns()?),
            },
        });
        if let Err(error) = made {
            let taken = error.is_exists()
                && kernel.netlink(Place::Sandbox)?.link_by_name(&self.container_name)?.is_some();
            return Err(if taken { interface_exists(&self.container_name, &self.host_name) } else { error });
        }
        undo.push(Undo::Link(self.host_name.clone()));
        kernel.leave_overlay_links();
        let index = kernel.index(Place::Host, &self.host_name)?;
        // Also a port: it accepts some frames past its bridge, those to addresses of the link only.
        sysctl::refuse_routers(&self.host_name)?;
        let change = LinkChange { alias: Some(&self.label), up: Some(true), ..LinkChange::default() };
        kernel.host.set_link(index, &change)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let mut drifts = Vec::new();
        let container = kernel.netlink(Place::Sandbox)?.link_by_name(&self.container_name)?;
        match &container {
            None => {
                drifts.push(Drift::new(format!("interface {}", self.container_name), "present", "missing"))
            }
            Some(link) => drifts.extend(end_drifts(link, self.container_mac)),
        }
        let Some(host) = kernel.host.link_by_name(&self.host_name)? else {
            drifts.push(Drift::new(format!("host veth {}", self.host_name), "present", "missing"));
            return Ok(drifts);
        };
        drifts.extend(end_drifts(&host, self.host_mac));
        if let Some(container) = &container {
            let peer = container.peer_index.unwrap_or(0);
            let what = format!("index of the veth peer of {}", self.container_name);
            drifts.extend(Drift::unless_equal(what, host.index, peer));
        }
        if let Some(mtu) = self.mtu {
            drifts.extend(Drift::unless_equal(format!("MTU of {}", self.host_name), mtu, host.mtu));
        }
        let master = match host.master {
            Some(index) => kernel.host.link_by_index(index)?.map(|link| link.name),
            None => None,
        };
        let or_none = |name: Option<String>| name.unwrap_or_else(|| "none".into());
        let wanted = or_none(self.bridge.clone());
        drifts.extend(Drift::unless_equal(format!("master of {}", self.host_name), wanted, or_none(master)));
        Ok(drifts)
    }
}

fn end_drifts(link: &Link, mac: Mac) -> Vec<Drift> {
    let mut drifts = Vec::new();
    let kind = link.kind.clone().unwrap_or_else(|| "no virtual link".into());
    drifts.extend(Drift::unless_equal(format!("kind of {}", link.name), "veth".to_owned(), kind));
    let actual = link.mac.map_or_else(|| "none".into(), |mac| mac.to_string());
    drifts.extend(Drift::unless_equal(format!("MAC address of {}", link.name), mac.to_string(), actual));
    drifts
}

fn interface_exists(container: &str, host: &str) -> Error {
    Conflict::InterfaceExists { container: container.into(), host: host.into() }.into()
}

/// Chooses the name of the owner's host veth. A link that an earlier attachment of the same owner
/// left under one of its names is deleted: an owner has one attachment, and the caller has checked
/// that it is not in this container.
///
/// # Errors
/// The container has the interface already; all names belong to others; the kernel could not be
/// asked.
pub fn choose_host_veth(kernel: &Kernel, owner: &Owner) -> Result<String> {
    if kernel.netlink(Place::Sandbox)?.link_by_name(&owner.ifname)?.is_some() {
        return Err(interface_exists(&owner.ifname, &owner.host_veth_names().next().unwrap_or_default()));
    }
    let label = owner.label();
    for name in owner.host_veth_names() {
        match kernel.host.link_by_name(&name)? {
            None => return Ok(name),
            Some(link) if link.alias.as_deref() == Some(&label) => {
                delete(&kernel.host, &link)?;
                return Ok(name);
            }
            Some(_) => {}
        }
    }
    let names = owner.host_veth_names().collect::<Vec<_>>().join(", ");
    Err(Error::new("find a free name for the host veth of", label, std::io::ErrorKind::AlreadyExists)
        .within(format!("all of {names} belong to others")))
}

/// Deletes a link; a missing one counts as deleted.
pub(super) fn delete(host: &Netlink, link: &Link) -> Result<()> {
    match host.delete_link(link.index) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
