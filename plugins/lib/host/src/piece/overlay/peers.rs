//! What the agent programs: the containers of other hosts, and the hosts themselves.

use std::net::IpAddr;

use netlink::{Mac, Neighbour, NeighbourState, Netlink, VxlanEntry};
use sys::Result;

use super::{overlay_device, use_links};
use crate::intent::{Guard, Records};
use crate::rules::{self, overlay};

/// The entries of a network's VXLAN device.
#[derive(Debug)]
pub struct OverlayPeers<'k> {
    host: &'k Netlink,
    index: u32,
}

impl<'k> OverlayPeers<'k> {
    /// Finds the device; `None` if the network has none on this host.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn find(host: &'k Netlink, network: &str) -> Result<Option<Self>> {
        let link = host.link_by_name(&overlay_device(network))?;
        let ours = link.filter(|link| super::is_ours(link, "vxlan", network));
        Ok(ours.map(|link| Self { host, index: link.index }))
    }

    /// The index of the device, which events name.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Sets the host that a MAC address is behind. The zero address gets one more receiver.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_entry(&self, mac: Mac, host: IpAddr) -> Result<()> {
        self.host.set_vxlan_entry(self.index, mac, host)
    }

    /// Removes such an entry; a missing one counts as removed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn delete_entry(&self, mac: Mac, host: IpAddr) -> Result<()> {
        unless_gone(self.host.delete_vxlan_entry(self.index, mac, host))
    }

    /// Lists them.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn entries(&self) -> Result<Vec<VxlanEntry>> {
        self.host.vxlan_entries(self.index)
    }

    /// Sets the MAC address of an address.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn set_neighbour(&self, ip: IpAddr, mac: Mac) -> Result<()> {
        self.host.set_neighbour(self.index, ip, mac, NeighbourState::Permanent)
    }

    /// Removes the entry of an address; a missing one counts as removed.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn delete_neighbour(&self, ip: IpAddr) -> Result<()> {
        unless_gone(self.host.delete_neighbour(self.index, ip))
    }

    /// Lists the permanent ones.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>> {
        self.host.permanent_neighbours(self.index)
    }
}

fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.is_not_found() => Ok(()),
        done => done,
    }
}

/// Puts the hosts of the cluster on record, and makes the guard let in these alone, in one
/// transaction. Without an overlay network on this host there is no guard; the first one's ADD
/// takes the hosts from the record. Returns whether there is a guard.
///
/// # Errors
/// The record cannot be written, or the kernel refused.
pub fn set_members(members: &[IpAddr]) -> Result<bool> {
    let _lock = use_links()?;
    let mut members = members.to_vec();
    members.sort();
    members.dedup();
    let guard = Guard { members };
    let records = Records::open()?;
    if records.guard() != guard {
        records.write_guard(&guard)?;
    }
    overlay::set_members(&rules::open()?, &guard)
}

/// The hosts of the cluster on record.
///
/// # Errors
/// The records cannot be opened.
pub fn members_on_record() -> Result<Vec<IpAddr>> {
    Ok(Records::open_if_any()?.map(|records| records.guard().members).unwrap_or_default())
}

/// Forgets the hosts of the cluster: this host leaves it.
///
/// # Errors
/// The record cannot be removed.
pub fn forget_members() -> Result<()> {
    match Records::open_if_any()? {
        Some(records) => records.remove_guard(),
        None => Ok(()),
    }
}
