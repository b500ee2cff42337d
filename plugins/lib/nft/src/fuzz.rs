//! Runs every reader of kernel messages, for the fuzzer.

use netlink::message::Messages;

use crate::{Data, Family, Set, Table, Type, conntrack};

const PORTS: Set<'_> = Set {
    table: Table { family: Family::Inet, name: "moor" },
    name: "fuzz",
    key: &[Type::Proto, Type::Port],
    data: Data::Value(&[Type::Ipv4, Type::Port]),
    interval: false,
};

/// One set of each form that we read elements of.
const SETS: [Set<'_>; 4] = [
    PORTS,
    Set { data: Data::Range(&[Type::Ipv4, Type::Port]), interval: true, ..PORTS },
    Set { key: &[Type::Ipv4], data: Data::Verdict, interval: true, ..PORTS },
    Set { key: &[Type::Ipv4], data: Data::None, interval: true, ..PORTS },
];

/// Reads a datagram as every kind of answer that we request: no content may make a reader panic.
pub fn replies(datagram: &[u8]) {
    for message in Messages::new(datagram) {
        let Ok(message) = message else { return };
        let _ = (message.outcome(), message.fault_offset());
        netlink::fuzz::payload(message.payload);
        crate::read::read_any(&SETS, message.payload);
        let _ = (crate::set_names::read(message.payload), crate::set_names::read_lookups(message.payload));
        conntrack::read_any(message.payload);
    }
}
