//! The account that a client's resources are charged to. Never the source address alone: a
//! container may use as many as it likes.

use std::rc::Rc;

use super::{Asker, Slot};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A container on the queried network.
    Container(Slot, Rc<str>),
    /// The host itself, at that network's address.
    Host(Slot),
    /// All unregistered clients at that network's address.
    Strangers(Slot),
}

impl Payer {
    /// The account of a client; `host`: the client is this host.
    pub fn of(asker: &Asker<'_>, host: bool) -> Self {
        match asker.attached() {
            Some(attached) => Self::Container(asker.slot(), Rc::clone(&attached.container)),
            None if host => Self::Host(asker.slot()),
            None => Self::Strangers(asker.slot()),
        }
    }

    /// The queried network.
    pub fn network(&self) -> Slot {
        match self {
            Self::Container(slot, _) | Self::Host(slot) | Self::Strangers(slot) => *slot,
        }
    }
}
