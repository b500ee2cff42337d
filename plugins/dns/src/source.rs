//! The kinds of sockets that the responder's event loop watches.

use crate::event_loop::{self, Tag};

/// The poller of the responder.
pub type Poller = event_loop::Poller<Source>;
/// An event of the responder.
pub type Event = event_loop::Event<Source>;

/// What a watched descriptor delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Queries over UDP.
    Datagram,
    /// Connections of clients.
    Accept,
    /// Queries over one connection of a client.
    Connection,
    /// Answers to a forwarded query.
    Flight,
    /// Connections of plugins.
    Control,
    /// Requests of one plugin.
    Plugin,
    /// Changes of record files.
    Records,
}

const ALL: [Source; 7] = [
    Source::Datagram,
    Source::Accept,
    Source::Connection,
    Source::Flight,
    Source::Control,
    Source::Plugin,
    Source::Records,
];

impl Tag for Source {
    fn to_byte(self) -> u8 {
        self as u8
    }

    fn from_byte(byte: u8) -> Option<Self> {
        ALL.get(usize::from(byte)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_its_byte() {
        for source in ALL {
            assert_eq!(Source::from_byte(source.to_byte()), Some(source));
        }
        assert_eq!(Source::from_byte(u8::MAX), None);
    }
}
