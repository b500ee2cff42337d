//! The account that a client's resources are charged to. Never the source address alone: a
//! container may use as many as it likes.

use std::rc::Rc;

use super::{Querier, Slot};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// A container on the queried network.
    Container(Slot, Rc<str>),
    /// The host itself, at that network's address.
    Host(Slot),
    /// All unregistered clients at that network's address.
    Unregistered(Slot),
}

impl Account {
    /// The account of a client; `host`: the client is this host.
    pub fn of(querier: &Querier<'_>, host: bool) -> Self {
        match querier.attached() {
            Some(attached) => Self::Container(querier.slot(), Rc::clone(&attached.container)),
            None if host => Self::Host(querier.slot()),
            None => Self::Unregistered(querier.slot()),
        }
    }

    /// The queried network.
    pub fn network(&self) -> Slot {
        match self {
            Self::Container(slot, _) | Self::Host(slot) | Self::Unregistered(slot) => *slot,
        }
    }
}
