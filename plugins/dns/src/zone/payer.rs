//! Whom what an asker costs is counted by: never the address alone, of which a container may have as many as it likes.

use std::rc::Rc;

use super::{Asker, Slot};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A container, on the network that it asked.
    Container(Slot, Rc<str>),
    /// The host itself, at that network's address.
    Host(Slot),
    /// All together that have no record and ask at that network's address.
    Strangers(Slot),
}

impl Payer {
    /// Who pays for the asker; `host`: it asks from this host.
    pub fn of(asker: &Asker<'_>, host: bool) -> Self {
        match asker.attached() {
            Some(attached) => Self::Container(asker.slot(), Rc::clone(&attached.container)),
            None if host => Self::Host(asker.slot()),
            None => Self::Strangers(asker.slot()),
        }
    }

    /// The network that was asked.
    pub fn network(&self) -> Slot {
        match self {
            Self::Container(slot, _) | Self::Host(slot) | Self::Strangers(slot) => *slot,
        }
    }
}
