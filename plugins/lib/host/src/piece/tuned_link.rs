//! Settings of a container's link that an administrator chooses.

use std::fmt::Display;

use netlink::{Link, LinkChange, Mac, Netlink};
use sys::Result;

use super::{Kernel, Part, Place, Undo};
use crate::Drift;

/// Settings of a link; `None` leaves one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// The Ethernet address.
    pub mac: Option<Mac>,
    /// The MTU in bytes.
    pub mtu: Option<u32>,
    /// Whether the link receives every frame.
    pub promiscuous: Option<bool>,
    /// Whether it receives every multicast frame.
    pub all_multicast: Option<bool>,
    /// The most packets that wait to be sent.
    pub queue_length: Option<u32>,
}

impl LinkSettings {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The values that a link has for the settings that are given here.
    #[must_use]
    pub fn of(&self, link: &Link) -> Self {
        Self {
            mac: self.mac.and(link.mac),
            mtu: self.mtu.map(|_| link.mtu),
            promiscuous: self.promiscuous.map(|_| link.promiscuous()),
            all_multicast: self.all_multicast.map(|_| link.all_multicast()),
            queue_length: self.queue_length.map(|_| link.queue_length),
        }
    }

    /// These, and those of `others` that are not given here.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            mac: self.mac.or(others.mac),
            mtu: self.mtu.or(others.mtu),
            promiscuous: self.promiscuous.or(others.promiscuous),
            all_multicast: self.all_multicast.or(others.all_multicast),
            queue_length: self.queue_length.or(others.queue_length),
        }
    }

    /// Sets them, in one request.
    ///
    /// # Errors
    /// The kernel refused; some may be set.
    pub fn set(&self, netlink: &Netlink, index: u32) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let change = LinkChange {
            mac: self.mac,
            mtu: self.mtu,
            promiscuous: self.promiscuous,
            all_multicast: self.all_multicast,
            queue_length: self.queue_length,
            ..LinkChange::default()
        };
        netlink.set_link(index, &change)
    }

    /// The differences between these and what a link has.
    pub fn drifts(&self, link: &Link) -> Vec<Drift> {
        let actual = self.of(link);
        let name = &link.name;
        let switch = |on: bool| if on { "on" } else { "off" };
        [
            drift(format!("MAC address of {name}"), self.mac, actual.mac),
            drift(format!("MTU of {name}"), self.mtu, actual.mtu),
            drift(
                format!("promiscuous mode of {name}"),
                self.promiscuous.map(switch),
                actual.promiscuous.map(switch),
            ),
            drift(
                format!("all-multicast mode of {name}"),
                self.all_multicast.map(switch),
                actual.all_multicast.map(switch),
            ),
            drift(format!("queue length of {name}"), self.queue_length, actual.queue_length),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn drift<T: Display>(what: String, expected: Option<T>, actual: Option<T>) -> Option<Drift> {
    let actual = actual.map_or_else(|| "none".into(), |actual| actual.to_string());
    Drift::unless_equal(what, expected?.to_string(), actual)
}

/// A link of the container with these settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunedLink {
    /// Its name.
    pub link: String,
    /// Its settings.
    pub settings: LinkSettings,
    /// What it had before, for the undo.
    pub before: LinkSettings,
}

impl Part for TunedLink {
    fn apply(&self, kernel: &mut Kernel, undo: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(Place::Sandbox, &self.link)?;
        undo.push(Undo::LinkSettings(index, self.before));
        self.settings.set(kernel.netlink(Place::Sandbox)?, index)
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        match kernel.netlink(Place::Sandbox)?.link_by_name(&self.link)? {
            Some(link) => Ok(self.settings.drifts(&link)),
            None => Ok(vec![Drift::new(format!("interface {}", self.link), "present", "missing")]),
        }
    }
}
