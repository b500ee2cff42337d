//! Kernel features that attachments need and some kernels lack.

use std::io;

use netlink::Netlink;
use sys::{Error, Result};

/// A kernel feature that may be disabled at build time, or not installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Links of this kind, by its driver's name.
    Links(&'static str),
    /// Queueing disciplines of this kind.
    Discipline(&'static str),
    /// VLANs of bridge ports.
    BridgeVlanFiltering,
}

impl Feature {
    /// Describes what is missing, and what to check.
    pub(super) fn missing(self) -> String {
        match self {
            Self::Links("vlan") => "this kernel has no VLAN links (is its module 8021q installed?)".into(),
            Self::Links("vrf") => "this kernel has no VRF devices (CONFIG_NET_VRF)".into(),
            Self::Links(kind) => format!("this kernel has no {kind} links (is its module installed?)"),
            Self::Discipline(kind) => {
                format!("this kernel has no queueing discipline {kind} (is its module sch_{kind} installed?)")
            }
            Self::BridgeVlanFiltering => {
                "this kernel's bridges have no VLANs (CONFIG_BRIDGE_VLAN_FILTERING)".into()
            }
        }
    }
}

/// Probes the kernel for each of these, without creating anything.
///
/// # Errors
/// `is_not_supported` for the first that is missing, or the kernel could not be asked.
pub fn require(host: &Netlink, features: &[Feature]) -> Result<()> {
    for feature in features {
        let there = match feature {
            Feature::Links(kind) => host.has_link_kind(kind)?,
            Feature::Discipline(kind) => host.has_discipline(kind)?,
            Feature::BridgeVlanFiltering => host.has_bridge_vlan_filtering()?,
        };
        if !there {
            let source = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
            return Err(Error::new("probe", "the kernel", source).within(feature.missing()));
        }
    }
    Ok(())
}
