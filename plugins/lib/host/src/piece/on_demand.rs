//! A parent link created on demand: a VLAN of a host link, or an isolated wire.

use std::io;

use netlink::{Dummy, Link, LinkChange, Mac, Netlink, Stacked, Vlan, VlanProtocol};
use sys::{Error, Result};

use super::shared::{GROUP, is_ours};
use super::{Feature, Kernel, Place, sysctl};
use crate::Drift;
use crate::owner::part;

/// The alias of a VLAN.
pub(super) const VLAN_ALIAS: &str = "moor:parent";

/// Prefix of the aliases of isolated wires.
pub(super) const INTERNAL_ALIAS: &str = "moor:internal:";

/// The letter in their names ([`super::shared_name`]).
pub(super) const INTERNAL_LETTER: char = 'd';

/// A parent that is created with the first attachment on it and deleted with the last one: see
/// [`super::ChildLink`] and [`super::release`]. It is in the host's namespace. An existing link of
/// that name that we did not create is used as it is, and stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDemand {
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: OnDemandKind,
}

/// The kind of an [`OnDemand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnDemandKind {
    /// An 802.1Q VLAN.
    Vlan {
        /// The link that it is a VLAN of.
        base: String,
        /// 1 to 4094.
        id: u16,
        /// That link's MTU in bytes, which a VLAN that we created follows.
        mtu: u32,
    },
    /// A dummy link: links on it reach nothing else.
    Internal {
        /// The network that it is the wire of.
        network: String,
        /// Its Ethernet address.
        mac: Mac,
    },
}

impl OnDemand {
    /// Creates it if it is missing, and sets it up. Call it with the lock of shared links.
    pub(super) fn ensure(&self, kernel: &Kernel) -> Result<()> {
        let host = &kernel.host;
        let link = match host.link_by_name(&self.name)? {
            Some(link) => link,
            None => {
                self.create(kernel).map_err(|error| self.refused(error))?;
                kernel.link(Place::Host, &self.name)?
            }
        };
        if let Some(have) = self.otherwise(host, &link)? {
            let source = io::Error::from_raw_os_error(libc::EEXIST);
            let message = Some(format!("it is {have}, not {}", self.text()));
            return Err(Error::Kernel { op: "use", object: self.name.clone(), message, source });
        }
        self.follow_mtu(host, &link)?;
        if link.up() || !is_ours(&link) {
            return Ok(());
        }
        // It is the containers' wire. The host has no part in it, and must not get addresses from a
        // router there. (A host without IPv6 lacks the parameter.)
        sysctl::best_effort(&format!("net/ipv6/conf/{}/disable_ipv6", self.name), "1");
        // Also in case IPv6 is turned on for all links later.
        sysctl::refuse_routers(&self.name)?;
        let alias = self.alias();
        let change = LinkChange { alias: Some(&alias), ..LinkChange::default() };
        let raised = host.set_link(link.index, &LinkChange { up: Some(true), ..change });
        match raised {
            // The kernel sets a VLAN up together with its lower link (vlan_device_event).
            Err(error) if error.errno() == Some(libc::ENETDOWN) => host.set_link(link.index, &change),
            done => done,
        }
    }

    /// The kernel lowers a VLAN's MTU with its lower link's, but does not raise it again.
    fn follow_mtu(&self, host: &Netlink, link: &Link) -> Result<()> {
        match self.kind {
            OnDemandKind::Vlan { mtu, .. } if is_ours(link) && link.mtu != mtu => {
                host.set_link(link.index, &LinkChange { mtu: Some(mtu), ..LinkChange::default() })
            }
            _ => Ok(()),
        }
    }

    fn create(&self, kernel: &Kernel) -> Result<()> {
        match &self.kind {
            OnDemandKind::Vlan { base, id, .. } => {
                let parent = kernel.link(Place::Host, base)?.index;
                let link = Stacked {
                    name: &self.name,
                    parent,
                    parent_netns_id: None,
                    mac: None,
                    mtu: None,
                    index: 0,
                    group: GROUP,
                };
                kernel.host.create_vlan(&link, &Vlan::dot1q(*id))
            }
            OnDemandKind::Internal { mac, .. } => {
                let dummy = Dummy { name: &self.name, mac: Some(*mac), mtu: None, index: 0, group: GROUP };
                kernel.host.create_dummy(&dummy)
            }
        }
    }

    /// The kernel feature it needs.
    pub fn feature(&self) -> Feature {
        match self.kind {
            OnDemandKind::Vlan { .. } => Feature::Links("vlan"),
            OnDemandKind::Internal { .. } => Feature::Links("dummy"),
        }
    }

    /// Explains the errno of a refused creation.
    fn refused(&self, error: Error) -> Error {
        match &self.kind {
            OnDemandKind::Vlan { base, .. } if error.is_not_supported() => {
                let missing = self.feature().missing();
                error.within(format!("{base:?} takes no VLANs, or {missing}"))
            }
            OnDemandKind::Internal { .. } if error.is_not_supported() => {
                error.within(self.feature().missing())
            }
            _ => error,
        }
    }

    /// Its alias, which explains its purpose.
    fn alias(&self) -> String {
        match &self.kind {
            OnDemandKind::Vlan { .. } => VLAN_ALIAS.into(),
            OnDemandKind::Internal { network, .. } => format!("{INTERNAL_ALIAS}{}", part(network)),
        }
    }

    fn text(&self) -> String {
        match &self.kind {
            OnDemandKind::Vlan { base, id, .. } => format!("VLAN {id} of {base}"),
            OnDemandKind::Internal { network, .. } => format!("the wire of network {network}"),
        }
    }

    /// Describes the link, if it is something else.
    fn otherwise(&self, host: &Netlink, link: &Link) -> Result<Option<String>> {
        let right = match &self.kind {
            OnDemandKind::Vlan { base, id, .. } => {
                let vlan = link.vlan.as_ref().filter(|vlan| vlan.protocol == VlanProtocol::Dot1q);
                let of = host.link_by_index(link.peer_index.unwrap_or(0))?;
                vlan.is_some_and(|vlan| vlan.id == *id) && of.is_some_and(|of| of.name == *base)
            }
            // A link without an alias comes from an ADD that was killed before it could set one.
            OnDemandKind::Internal { .. } => {
                is_ours(link) && link.alias.as_ref().is_none_or(|alias| *alias == self.alias())
            }
        };
        if right {
            return Ok(None);
        }
        let of = host.link_by_index(link.peer_index.unwrap_or(0))?.map(|of| of.name);
        Ok(Some(match (&link.vlan, of, &link.alias) {
            (Some(vlan), Some(of), _) => format!("VLAN {} of {of}", vlan.id),
            (_, _, Some(alias)) => format!("{alias:?}"),
            _ => link.kind.as_deref().map_or("a device".into(), |kind| format!("a link of kind {kind}")),
        }))
    }

    /// Whether its lower link, if any, is up.
    fn can_be_up(&self, host: &Netlink) -> Result<bool> {
        match &self.kind {
            OnDemandKind::Vlan { base, .. } => Ok(host.link_by_name(base)?.is_none_or(|base| base.up())),
            OnDemandKind::Internal { .. } => Ok(true),
        }
    }

    /// Lists the differences of the link of that name.
    pub(super) fn drifts(&self, kernel: &Kernel, link: &Link) -> Result<Vec<Drift>> {
        let name = &self.name;
        let otherwise = self.otherwise(&kernel.host, link)?;
        let is_it = otherwise.is_none();
        let mut drifts: Vec<Drift> = otherwise
            .map(|have| Drift::new(format!("master {name}"), self.text(), have))
            .into_iter()
            .collect();
        if is_it && self.follow_mtu(&kernel.host, link).is_err() {
            drifts.push(Drift::new(format!("MTU of {name}"), "that of its master", link.mtu));
        }
        if !link.up() && self.can_be_up(&kernel.host)? {
            drifts.push(Drift::new(format!("state of {name}"), "up", "down"));
        }
        Ok(drifts)
    }
}
