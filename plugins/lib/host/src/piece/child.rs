//! A container's macvlan, ipvlan or VLAN link, on a parent of the host or of the container.

use std::borrow::Borrow;
use std::os::fd::AsFd;

use netlink::{Ipvlan, Link, LinkChange, Mac, Macvlan, MacvlanMode, PriorityMap, Stacked, Vlan};
use sys::{Error, NetNs, Result};

use super::{Feature, Kernel, OnDemand, Part, Place, Undo, shared, vlan_holder};
use crate::{Drift, Owner};

/// A link that shares its parent's wire. It lives in the container's namespace and goes with it;
/// the parent stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildLink {
    /// Its name in the container.
    pub name: String,
    /// A name derived from its owner. Before Linux 6.15 a link is created in its parent's namespace
    /// and then moved; if that namespace has another link called `name`, it is created under this
    /// name, and renamed.
    pub birth_name: String,
    /// Name of its parent.
    pub parent: String,
    /// Where the parent is.
    pub parent_place: Place,
    /// The parent, if it is created on demand.
    pub on_demand: Option<OnDemand>,
    /// Its kind.
    pub kind: ChildKind,
    /// Its Ethernet address; `None` lets the kernel choose: an ipvlan, a passthru macvlan or a VLAN
    /// has its parent's.
    pub mac: Option<Mac>,
    /// MTU in bytes; `None` is the parent's.
    pub mtu: Option<u32>,
    /// Its owner's label: [`Owner::label`], kept as its alias.
    pub label: String,
    /// [`Owner::link_index`]: the container cannot change it.
    pub index: u32,
}

/// The kind of a [`ChildLink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChildKind {
    /// A macvlan: an Ethernet address of its own.
    Macvlan {
        /// Which links reach each other.
        mode: MacvlanMode,
        /// Queue length for broadcasts; `None` is the kernel's default.
        bc_queue_len: Option<u32>,
        /// Mode source: the accepted source addresses.
        sources: Vec<Mac>,
    },
    /// An ipvlan: its parent's Ethernet address.
    Ipvlan(Ipvlan),
    /// A VLAN of its parent. The kernel has one link of each on a parent, in all namespaces.
    Vlan(Vlan),
}

impl ChildKind {
    /// The driver's name, as [`Link::kind`] has it.
    pub fn driver(&self) -> &'static str {
        match self {
            Self::Macvlan { .. } => "macvlan",
            Self::Ipvlan(_) => "ipvlan",
            Self::Vlan(_) => "vlan",
        }
    }
}

impl Part for ChildLink {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let driver = self.kind.driver();
        let failed = |error: Error| error.within(format!("failed to create {driver}"));
        // Until the link is on it, nobody may delete a parent that looks unused.
        let _lock = match &self.on_demand {
            Some(parent) => {
                let lock = shared::lock().map_err(failed)?;
                undo.push(Undo::UnusedLinks);
                parent.ensure(kernel).map_err(failed)?;
                Some(lock)
            }
            None => None,
        };
        let parent = kernel.index(self.parent_place, &self.parent).map_err(failed)?;
        let parent_netns_id = match self.parent_place {
            Place::Host => Some(
                kernel.netlink(Place::Sandbox)?.make_netns_id(NetNs::current()?.as_fd()).map_err(failed)?,
            ),
            Place::Sandbox => None,
        };
        let Self { mac, mtu, index, .. } = *self;
        let mut link = Stacked { name: &self.name, parent, parent_netns_id, mac, mtu, index, group: 0 };
        let mut made = self.create(kernel, &link);
        // Another link may have the index. EBUSY has other causes too, which the second attempt
        // also meets.
        if made.as_ref().is_err_and(|error| error.errno() == Some(libc::EBUSY)) {
            link.index = 0;
            made = self.create(kernel, &link);
        }
        if made.as_ref().is_err_and(|error| error.is_exists() && self.is_name_free(kernel)) {
            link.name = &self.birth_name;
            made = self.create(kernel, &link);
        }
        made.map_err(|error| self.refused(kernel, parent, error))?;
        undo.push(Undo::SandboxLink(self.name.clone()));
        let mut change = LinkChange { alias: Some(&self.label), ..LinkChange::default() };
        if link.name != self.name {
            undo.push(Undo::SandboxLink(self.birth_name.clone()));
            change.name = Some(&self.name);
        }
        let born = kernel.link(Place::Sandbox, link.name)?;
        kernel.netlink(Place::Sandbox)?.set_link(born.index, &change)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let mut drifts = Vec::new();
        let parent = kernel.netlink(self.parent_place)?.link_by_name(&self.parent)?;
        if parent.is_none() {
            drifts.push(Drift::new(format!("master {}", self.parent), "present", "missing"));
        }
        let Some(link) = kernel.netlink(Place::Sandbox)?.link_by_name(&self.name)? else {
            drifts.push(Drift::new(format!("interface {}", self.name), "present", "missing"));
            return Ok(drifts);
        };
        if let Some(drift) = driver_drift(&link, self.kind.driver()) {
            drifts.push(drift);
            return Ok(drifts);
        }
        drifts.extend(self.kind_drifts(&link));
        drifts.extend(common_drifts(&link, self.mac, self.mtu));
        if let Some(parent) = parent {
            drifts.extend(self.parent_drift(kernel, &link, &parent)?);
            if let Some(on_demand) = &self.on_demand {
                drifts.extend(on_demand.drifts(kernel, &parent)?);
            }
        }
        Ok(drifts)
    }
}

impl ChildLink {
    fn create(&self, kernel: &Kernel, link: &Stacked<'_>) -> Result<()> {
        match &self.kind {
            ChildKind::Macvlan { mode, bc_queue_len, sources } => {
                let macvlan = Macvlan { mode: *mode, bc_queue_len: *bc_queue_len, sources };
                kernel.netlink(Place::Sandbox)?.create_macvlan(link, &macvlan)
            }
            ChildKind::Ipvlan(ipvlan) => kernel.netlink(Place::Sandbox)?.create_ipvlan(link, *ipvlan),
            ChildKind::Vlan(vlan) => kernel.netlink(Place::Sandbox)?.create_vlan(link, vlan),
        }
    }

    /// Whether the container has no interface of its name.
    fn is_name_free(&self, kernel: &Kernel) -> bool {
        let link = kernel.netlink(Place::Sandbox).and_then(|sandbox| sandbox.link_by_name(&self.name));
        link.is_ok_and(|link| link.is_none())
    }

    /// Explains the errno of a refused creation on the link `index`.
    fn refused(&self, kernel: &Kernel, index: u32, error: Error) -> Error {
        let driver = self.kind.driver();
        let parent = &self.parent;
        let passthru = matches!(self.kind, ChildKind::Macvlan { mode: MacvlanMode::Passthru, .. });
        let why = match error.errno() {
            Some(libc::EEXIST) => match &self.kind {
                ChildKind::Vlan(vlan) if self.is_name_free(kernel) => {
                    vlan_holder::taken(kernel, self.parent_place, (parent, index), vlan)
                }
                _ => format!(
                    "the container has an interface {:?} already, or has given this attachment's another name",
                    self.name
                ),
            },
            Some(libc::EBUSY) => format!(
                "master {parent:?} cannot have {driver} links: it has links of the other kind (macvlan and ipvlan do \
                 not share a master), or is a port of a bridge, bond or team"
            ),
            Some(libc::EINVAL) if passthru => format!(
                "master {parent:?} cannot be passed through: it has a macvlan link already, and passthru takes it alone"
            ),
            Some(libc::EINVAL) => format!(
                "master {parent:?} does not take the link: it has a passthru link, or is no Ethernet link, or its \
                 MTU is below the one asked for"
            ),
            Some(libc::EOPNOTSUPP) if matches!(self.kind, ChildKind::Vlan(_)) => {
                format!("master {parent:?} takes no VLANs, or {}", Feature::Links(driver).missing())
            }
            Some(libc::EOPNOTSUPP) => Feature::Links(driver).missing(),
            Some(libc::ENODEV) => format!("master {parent:?} has just gone away"),
            _ => return error.within(format!("failed to create {driver}")),
        };
        error.within(format!("failed to create {driver}: {why}"))
    }

    fn kind_drifts(&self, link: &Link) -> Vec<Drift> {
        let mut drifts = Vec::new();
        let mut compare = |what: &str, expected: String, actual: String| {
            drifts.extend(Drift::unless_equal(format!("{what} of {}", self.name), expected, actual));
        };
        match &self.kind {
            ChildKind::Macvlan { mode, bc_queue_len, sources } => {
                let Some(have) = &link.macvlan else { return drifts };
                let actual = have.mode.map_or("unknown", MacvlanMode::name);
                compare("macvlan mode", mode.name().into(), actual.into());
                if let Some(length) = bc_queue_len {
                    compare("broadcast queue length", length.to_string(), have.bc_queue_len.to_string());
                }
                compare("source addresses", list(sources), list(&have.sources));
            }
            ChildKind::Ipvlan(ipvlan) => {
                let text = |ipvlan: Ipvlan| format!("{} {}", ipvlan.mode.name(), ipvlan.flag.name());
                compare("ipvlan mode", text(*ipvlan), link.ipvlan.map_or_else(|| "unknown".into(), text));
            }
            ChildKind::Vlan(vlan) => {
                let Some(have) = &link.vlan else { return drifts };
                compare("VLAN ID", vlan.id.to_string(), have.id.to_string());
                compare("VLAN protocol", vlan.protocol.name().into(), have.protocol.name().into());
                compare("VLAN flags", words(&vlan.flags.names()), words(&have.flags.names()));
                for (what, wanted, have) in
                    [("ingress", &vlan.ingress, &have.ingress), ("egress", &vlan.egress, &have.egress)]
                {
                    // Without a map of ours, the container may have made one.
                    if !wanted.is_empty() {
                        compare(&format!("{what} QoS map"), mappings(wanted), mappings(have));
                    }
                }
            }
        }
        drifts
    }

    /// Whether the link is on exactly this parent.
    fn parent_drift(&self, kernel: &Kernel, link: &Link, parent: &Link) -> Result<Option<Drift>> {
        // If the parent itself is such a link, the kernel stacks on its parent
        // (macvlan_common_newlink, ipvlan_link_new), which may be in another namespace. A VLAN of a
        // VLAN has two tags.
        let real = match parent.kind.as_deref() {
            Some(kind) if kind == self.kind.driver() && kind != "vlan" => {
                (parent.peer_index, parent.peer_netns_id)
            }
            _ => (Some(parent.index), None),
        };
        let (Some(index), None) = real else { return Ok(None) };
        let place = match self.parent_place {
            Place::Host => kernel.netlink(Place::Sandbox)?.netns_id(NetNs::current()?.as_fd())?,
            Place::Sandbox => None,
        };
        if (link.peer_index, link.peer_netns_id) == (Some(index), place) {
            return Ok(None);
        }
        let actual = match link.peer_index.filter(|_| link.peer_netns_id == place) {
            Some(index) => kernel.netlink(self.parent_place)?.link_by_index(index)?.map(|link| link.name),
            None => None,
        };
        let actual = actual.unwrap_or_else(|| "another interface".into());
        Ok(Some(Drift::new(format!("master of {}", self.name), &self.parent, actual)))
    }
}

/// Formats addresses in sorted order.
fn list(macs: &[Mac]) -> String {
    let mut macs: Vec<String> = macs.iter().map(Mac::to_string).collect();
    macs.sort();
    words(&macs)
}

/// Formats a map of priorities, without what is mapped to the default.
fn mappings(map: &PriorityMap) -> String {
    let mapped = map.iter().filter(|(_, to)| **to != 0);
    words(&mapped.map(|(from, to)| format!("{from}:{to}")).collect::<Vec<_>>())
}

fn words<T: Borrow<str>>(words: &[T]) -> String {
    if words.is_empty() { "none".into() } else { words.join(" ") }
}

/// Whether a link is of another kind.
pub(super) fn driver_drift(link: &Link, driver: &str) -> Option<Drift> {
    let kind = link.kind.as_deref().unwrap_or("no virtual link");
    Drift::unless_equal(format!("kind of {}", link.name), driver, kind)
}

/// The differences of address and MTU, if these are given.
pub(super) fn common_drifts(link: &Link, mac: Option<Mac>, mtu: Option<u32>) -> Vec<Drift> {
    let mac = mac.and_then(|mac| {
        let actual = link.mac.map_or_else(|| "none".into(), |mac| mac.to_string());
        Drift::unless_equal(format!("MAC address of {}", link.name), mac.to_string(), actual)
    });
    let mtu = mtu.and_then(|mtu| Drift::unless_equal(format!("MTU of {}", link.name), mtu, link.mtu));
    mac.into_iter().chain(mtu).collect()
}

/// [`ChildLink::birth_name`] of an owner's link.
pub fn birth_name(owner: &Owner) -> String {
    owner.host_veth_names().next().unwrap_or_default()
}
