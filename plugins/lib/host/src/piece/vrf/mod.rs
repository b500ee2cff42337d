//! A container's link in a VRF, with everything it had.
//!
//! The kernel sets a link down and up again when it enters or leaves a VRF: it moves the routes to
//! the link's subnets to the VRF's table or back, and loses all others, and IPv6 addresses too. So
//! these are read before, and made again after.
//!
//! A VRF that is made here has an index above 1,073,741,823, as links of our own have: the last
//! link takes it along, and an administrator's VRF stays.

mod port_state;

use std::io;

use netlink::{Link, LinkChange, Netlink, Route, Vrf};
use sys::{Error, NetNs, Result, sysctl};

use super::tables::{self, Tables};
use super::{Feature, Kernel, Part, Place, Undo};
use crate::owner::shared_link_index;
use crate::{Drift, Owner, Removal};

pub(super) use port_state::PortState;

/// The driver's name, as [`netlink::Link::kind`] has it.
const DRIVER: &str = "vrf";
/// The first table that is tried.
const FIRST_TABLE: u32 = 1;
/// How many indices are tried for a VRF.
const CANDIDATES: u8 = 4;

/// A link of a container in a VRF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrfPort {
    /// The container's link.
    pub link: String,
    /// The VRF's name; it is made if it does not exist.
    pub vrf: String,
    /// Its table; `None` is one that nobody uses.
    pub table: Option<u32>,
}

impl Part for VrfPort {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let link = kernel.link(Place::Sandbox, &self.link)?;
        // Until the link is in it, nobody else deletes the VRF.
        let _lock = tables::lock()?;
        let netlink = kernel.netlink(Place::Sandbox)?;
        let found = netlink.link_by_name(&self.vrf)?;
        let (vrf, table) = match found {
            Some(vrf) => self.checked(vrf)?,
            None => {
                undo.push(Undo::UnusedVrf(self.vrf.clone()));
                self.create(netlink)?
            }
        };
        if link.master == Some(vrf.index) {
            return Ok(());
        }
        if let Some(master) = link.master {
            return Err(self.has_master(netlink, master));
        }
        let _ = kernel.within(Place::Sandbox, || keep_addresses(&self.link))?;
        let netlink = kernel.netlink(Place::Sandbox)?;
        let state = PortState::of(netlink, &link)?;
        undo.push(Undo::VrfPort(link.index, state.clone()));
        set_master(netlink, link.index, vrf.index)?;
        state.restore(netlink, link.index, Route::MAIN_TABLE, table)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let netlink = kernel.netlink(Place::Sandbox)?;
        let missing = |name: &str| Ok(vec![Drift::new(format!("interface {name}"), "present", "missing")]);
        let Some(link) = netlink.link_by_name(&self.link)? else { return missing(&self.link) };
        let Some(vrf) = netlink.link_by_name(&self.vrf)? else { return missing(&self.vrf) };
        let kind = vrf.kind.as_deref().unwrap_or("none");
        if kind != DRIVER {
            return Ok(vec![Drift::new(format!("kind of {}", self.vrf), DRIVER, kind)]);
        }
        let mut drifts = Vec::new();
        if let Some(table) = self.table {
            let actual = vrf.vrf_table.unwrap_or(0);
            drifts.extend(Drift::unless_equal(format!("table of {}", self.vrf), table, actual));
        }
        if !vrf.up() {
            drifts.push(Drift::new(format!("state of {}", self.vrf), "up", "down"));
        }
        if link.master != Some(vrf.index) {
            let actual = match link.master {
                Some(master) => {
                    netlink.link_by_index(master)?.map_or("another link".into(), |link| link.name)
                }
                None => "none".into(),
            };
            drifts.push(Drift::new(format!("master of {}", self.link), &self.vrf, actual));
        }
        Ok(drifts)
    }
}

impl VrfPort {
    /// An existing link of the VRF's name, and its table.
    fn checked(&self, found: Link) -> Result<(Link, u32)> {
        let refused = |text: String| {
            Err(Error::new("use", &self.vrf, io::Error::from_raw_os_error(libc::EEXIST)).within(text))
        };
        match found.vrf_table {
            Some(table) if self.table.is_none_or(|wanted| wanted == table) => Ok((found, table)),
            Some(table) => {
                refused(format!("VRF {} already exist with different routing table {table}", self.vrf))
            }
            None => refused(format!("the container has a link {:?} that is no VRF", self.vrf)),
        }
    }

    fn create(&self, netlink: &Netlink) -> Result<(Link, u32)> {
        let table = match self.table {
            Some(table) => table,
            None => {
                Tables::of(netlink, &netlink.rules()?, &netlink.whole_routes(None)?)?.take(FIRST_TABLE)?
            }
        };
        let mut made = Ok(());
        for salt in 0..CANDIDATES {
            let index = shared_link_index(&format!("{DRIVER}/{}/{salt}", self.vrf));
            made = netlink.create_vrf(&Vrf { name: &self.vrf, table, index });
            // Another link has the index.
            if !made.as_ref().is_err_and(|error| error.errno() == Some(libc::EBUSY)) {
                break;
            }
        }
        made.map_err(|error| self.refused(error))?;
        let gone = || Error::new("find link", &self.vrf, io::Error::from_raw_os_error(libc::ENODEV));
        Ok((netlink.link_by_name(&self.vrf)?.ok_or_else(gone)?, table))
    }

    /// Explains the errno of a refused creation.
    fn refused(&self, error: Error) -> Error {
        let why = match error.errno() {
            Some(libc::EOPNOTSUPP) => format!(": {}", Feature::Links(DRIVER).missing()),
            _ => String::new(),
        };
        error.within(format!("failed to create VRF {}{why}", self.vrf))
    }

    fn has_master(&self, netlink: &Netlink, master: u32) -> Error {
        let name = match netlink.link_by_index(master) {
            Ok(Some(link)) => link.name,
            _ => format!("index {master}"),
        };
        Error::new("enslave", &self.link, io::Error::from_raw_os_error(libc::EBUSY))
            .within(format!("interface {} has already a master set: {name}", self.link))
    }
}

/// Permanent IPv6 addresses stay on a link while it is down. Kernels without IPv6 lack the
/// parameter; what vanishes all the same is added again.
fn keep_addresses(link: &str) -> Result<()> {
    sysctl::set(&format!("net/ipv6/conf/{link}/keep_addr_on_down"), "1").map(drop)
}

fn set_master(netlink: &Netlink, index: u32, master: u32) -> Result<()> {
    netlink.set_link(index, &LinkChange { master: Some(master), ..LinkChange::default() })
}

/// Whether a VRF was made here.
fn is_ours(link: &Link) -> bool {
    link.vrf_table.is_some() && Owner::has_link_index(link.index)
}

/// Deletes a VRF that was made here, if it has no links.
pub(super) fn delete_unused(netlink: &Netlink, name: &str) -> Result<()> {
    let Some(vrf) = netlink.link_by_name(name)?.filter(is_ours) else { return Ok(()) };
    if netlink.links()?.iter().any(|link| link.master == Some(vrf.index)) {
        return Ok(());
    }
    match netlink.delete_link(vrf.index) {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// Takes a link out of its VRF, after a failed ADD.
pub(super) fn release(netlink: &Netlink, index: u32, before: &PortState) -> Result<()> {
    set_master(netlink, index, 0)?;
    before.restore(netlink, index, Route::MAIN_TABLE, Route::MAIN_TABLE)
}

/// DEL: takes an attachment's link out of its VRF, with its routes back in the main table, and
/// deletes the VRF if it was made here and has no other links. `vrf` is its configured name. A
/// missing link, and a link in an administrator's VRF of another name, are no error and stay.
///
/// # Errors
/// The kernel could not be asked, or refused.
pub fn leave_vrf(netns: NetNs, removal: &Removal, vrf: Option<&str>) -> Result<()> {
    let kernel = Kernel::open(netns)?;
    let netlink = kernel.netlink(Place::Sandbox)?;
    let ifname = &removal.owner().ifname;
    let link = netlink.link_by_name(ifname)?;
    let master = link.as_ref().and_then(|link| link.master);
    let master = master.map(|index| netlink.link_by_index(index)).transpose()?.flatten();
    let master = master.filter(|m| m.vrf_table.is_some() && (is_ours(m) || Some(m.name.as_str()) == vrf));
    let unused = master.as_ref().map(|master| master.name.as_str()).or(vrf);
    let Some(unused) = unused else { return Ok(()) };
    let _lock = tables::lock()?;
    if let Some((link, master)) = link.as_ref().zip(master.as_ref()) {
        if removal.is_of_another_network(netlink, link)? {
            return Ok(());
        }
        let _ = kernel.within(Place::Sandbox, || keep_addresses(ifname))?;
        let state = PortState::of(netlink, link)?;
        set_master(netlink, link.index, 0)?;
        state.restore_what_is_possible(netlink, link.index, master.vrf_table.unwrap_or(0), Route::MAIN_TABLE);
    }
    delete_unused(netlink, unused)
}
