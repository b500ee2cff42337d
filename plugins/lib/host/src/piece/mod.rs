//! Desired state as data, and the engine that creates, verifies and undoes it.
//!
//! A plugin's plan is a list of [`Piece`]s. [`Making`] creates them in order, in one or several
//! steps, and undoes all of them unless they are kept: a failed ADD leaves nothing. [`verify`]
//! compares the same list with the kernel and names each difference. Objects to delete are found by
//! their owner, not by a plan: see [`crate::Owner`] and [`delete_veth`].

mod address;
mod advertised;
mod bridge;
mod child;
mod child_removal;
mod claim;
mod device;
mod dummy;
mod fast_path;
mod feature;
mod firewall;
mod fixed_mac;
mod gateway;
mod hairpin;
mod host_routes;
mod kernel;
mod link_group;
mod making;
mod masquerade;
mod masquerade_chain;
mod on_demand;
mod overlay;
mod port;
mod published;
mod recorded;
mod routed;
mod settled;
mod shaping;
mod shared;
mod shim;
mod source;
mod source_filter;
mod spoof;
mod sysctl;
mod tables;
mod tap;
mod tap_removal;
mod tuned_link;
mod tuned_parameters;
mod undo;
mod veth;
mod veth_removal;
mod vlan_holder;
mod vrf;
mod way_back;

use sys::Result;

use crate::Drift;

pub use crate::iptables::MasqueradeChain;
pub use address::{Address, Announcement, Route, Up};
pub use bridge::{Bridge, VlanLink};
pub use child::{ChildKind, ChildLink, birth_name};
pub use child_removal::{RememberedLink, delete_child};
pub use claim::{Claim, DetectionTime};
pub use device::HostDevice;
pub use dummy::DummyLink;
pub use fast_path::FastPath;
pub use feature::{Feature, require};
pub use firewall::Firewall;
pub use fixed_mac::FixedMac;
pub use gateway::Gateways;
pub use hairpin::Hairpin;
pub use host_routes::{delete_dead_host_routes, delete_host_routes, restore_host_routes};
pub use kernel::{Kernel, Place};
pub use making::Making;
pub use masquerade::Masquerade;
pub use on_demand::{OnDemand, OnDemandKind};
pub use overlay::{
    AddressFilter, OverlayAddresses, OverlayLinks, OverlayPeers, OverlayPort, OverlayRules, forget_members,
    members_on_record, overlay_bridge, overlay_device, overlay_networks, release_overlay, set_members,
};
pub use port::{Forwarding, Port, VlanSet};
pub use published::Published;
pub use recorded::Recorded;
pub use routed::{HostRoutes, OwnAddress};
pub use settled::Settled;
pub use shaping::{
    Directions, Fairness, HostEnd, Ifb, OtherEnd, Packets, Redirect, Shaper, choose_ifb, delete_shaping,
    delete_shaping_but, delete_shaping_of, host_end, shaper_handle,
};
pub use shared::{is_ours, made_any, release, release_but, shared_name};
pub use shim::{HostRoute, Shim};
pub use source::{Source, SourceRouting, Table, remove_source_routing};
pub use source_filter::SourceFilter;
pub use spoof::MacFilter;
pub use sysctl::{Sysctl, Sysctls};
pub use tap::{TapContext, TapDevice, create_tap_at_stdin, has_tap_contexts, require_taps};
pub use tap_removal::delete_tap;
pub use tuned_link::{LinkSettings, TunedLink};
pub use tuned_parameters::{TunedParameter, TunedParameters, is_same_value, set_back};
use undo::Undo;
pub use veth::{VethPair, choose_host_veth};
pub use veth_removal::{Origin, delete_container_veth, delete_veth, delete_veths_but};
pub use vrf::{VrfPort, leave_vrf};
pub use way_back::WayBack;

/// One element of the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A bridge.
    Bridge(Bridge),
    /// A veth pair between the host, or a bridge of it, and a container.
    Veth(VethPair),
    /// A port that accepts frames from only one MAC address.
    MacFilter(MacFilter),
    /// A link that accepts packets from only its container's addresses.
    SourceFilter(SourceFilter),
    /// A port on which the bridge learns no addresses.
    FixedMac(FixedMac),
    /// Addresses that appear outside as the host's.
    Masquerade(Masquerade),
    /// The same, by chains of iptables.
    MasqueradeChain(MasqueradeChain),
    /// Ports of the host that lead to a container.
    Published(Published),
    /// Connections that bypass the rules.
    FastPath(FastPath),
    /// A container behind the host's firewall.
    Firewall(Firewall),
    /// A container's access to its own published port.
    Hairpin(Hairpin),
    /// The record of its packet rules.
    Recorded(Box<Recorded>),
    /// A macvlan, ipvlan or VLAN link of a container.
    Child(ChildLink),
    /// A dummy link of a container.
    Dummy(DummyLink),
    /// A TAP device of a container.
    Tap(TapDevice),
    /// A device of the host in a container.
    Device(HostDevice),
    /// The host veth's settings as a bridge port.
    Port(Port),
    /// The host's own link in a VLAN of the bridge.
    VlanLink(VlanLink),
    /// The gateway addresses on the bridge.
    Gateways(Gateways),
    /// The host's routes to a container that is outside of its gateways' subnets.
    WayBack(WayBack),
    /// Kernel parameters.
    Sysctls(Sysctls),
    /// The host's routes to a container at the other end of a veth pair.
    HostRoutes(HostRoutes),
    /// An address.
    Address(Address),
    /// An address of a container that reaches all others by its gateway.
    OwnAddress(OwnAddress),
    /// Addresses that are unique on their link.
    Claim(Claim),
    /// The duration of IPv6 duplicate detection.
    DetectionTime(DetectionTime),
    /// A link that is up.
    Up(Up),
    /// Addresses that have passed duplicate address detection.
    Settled(Settled),
    /// A route.
    Route(Route),
    /// A port that forwards.
    Forwarding(Forwarding),
    /// Neighbours with updated entries.
    Announcement(Announcement),
    /// The host's own link next to the containers'.
    Shim(Shim),
    /// Settings of a container's link that an administrator chooses.
    TunedLink(TunedLink),
    /// Kernel parameters of a container that an administrator chooses.
    TunedParameters(TunedParameters),
    /// A rate for the packets that leave by a link.
    Shaper(Shaper),
    /// A link that packets are led through.
    Ifb(Ifb),
    /// Arriving packets that are led through it.
    Redirect(Redirect),
    /// Routes by source of a container's link.
    SourceRouting(SourceRouting),
    /// A container's link in a VRF.
    VrfPort(VrfPort),
    /// The guard of overlay networks, and a network's isolation.
    OverlayRules(OverlayRules),
    /// The bridge and the VXLAN device of an overlay network.
    OverlayLinks(OverlayLinks),
    /// The host's addresses in an overlay network.
    OverlayAddresses(OverlayAddresses),
    /// A container's port in an overlay network.
    OverlayPort(OverlayPort),
    /// A port that accepts frames with only its container's addresses.
    AddressFilter(AddressFilter),
}

/// The operations of every piece.
trait Part {
    /// Creates it; whatever is created is pushed onto `undo` at once, so that an error halfway
    /// undoes it too.
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()>;
    /// Lists the differences.
    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>>;
}

impl Piece {
    fn part(&self) -> &dyn Part {
        match self {
            Self::Bridge(part) => part,
            Self::Veth(part) => part,
            Self::Child(part) => part,
            Self::Dummy(part) => part,
            Self::Tap(part) => part,
            Self::Device(part) => part,
            Self::MacFilter(part) => part,
            Self::SourceFilter(part) => part,
            Self::FixedMac(part) => part,
            Self::Masquerade(part) => part,
            Self::MasqueradeChain(part) => part,
            Self::Published(part) => part,
            Self::FastPath(part) => part,
            Self::Firewall(part) => part,
            Self::Hairpin(part) => part,
            Self::Recorded(part) => part.as_ref(),
            Self::Port(part) => part,
            Self::VlanLink(part) => part,
            Self::Gateways(part) => part,
            Self::WayBack(part) => part,
            Self::Sysctls(part) => part,
            Self::HostRoutes(part) => part,
            Self::Address(part) => part,
            Self::OwnAddress(part) => part,
            Self::Claim(part) => part,
            Self::DetectionTime(part) => part,
            Self::Up(part) => part,
            Self::Settled(part) => part,
            Self::Route(part) => part,
            Self::Forwarding(part) => part,
            Self::Announcement(part) => part,
            Self::Shim(part) => part,
            Self::TunedLink(part) => part,
            Self::TunedParameters(part) => part,
            Self::Shaper(part) => part,
            Self::Ifb(part) => part,
            Self::Redirect(part) => part,
            Self::SourceRouting(part) => part,
            Self::VrfPort(part) => part,
            Self::OverlayRules(part) => part,
            Self::OverlayLinks(part) => part,
            Self::OverlayAddresses(part) => part,
            Self::OverlayPort(part) => part,
            Self::AddressFilter(part) => part,
        }
    }
}

/// Creates all of it, in order.
///
/// # Errors
/// The first error of a piece; everything created is undone.
pub fn apply(pieces: &[Piece], kernel: &mut Kernel) -> Result<()> {
    Making::begin(kernel, pieces).map(Making::keep)
}

/// Lists every difference between the plan and the kernel.
///
/// # Errors
/// The kernel could not be asked.
pub fn verify(pieces: &[Piece], kernel: &mut Kernel) -> Result<Vec<Drift>> {
    let mut drifts = Vec::new();
    for piece in pieces {
        drifts.append(&mut piece.part().verify(kernel)?);
    }
    Ok(drifts)
}
