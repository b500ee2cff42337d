//! Minimal tables of published ports, and nft(8) to examine them.

#![allow(clippy::unwrap_used, missing_docs, dead_code)]

use std::net::Ipv4Addr;

use nft::{Batch, Chain, Data, Family, Nft, Set, Table, Type, Value};
use serde_json::Value as Json;

use sys::testing::run;

pub const TABLE: Table<'_> = Table { family: Family::Inet, name: "moor" };
pub const PREROUTING: Chain<'_> = Chain { table: TABLE, name: "prerouting" };
pub const PUBLISH: Chain<'_> = Chain { table: TABLE, name: "publish" };
pub const PORTS: Set<'_> = Set {
    table: TABLE,
    name: "ports",
    key: &[Type::Proto, Type::Port],
    data: Data::Value(&[Type::Ipv4, Type::Port]),
    interval: false,
};
pub const ADDR_PORTS: Set<'_> =
    Set { name: "addr-ports", key: &[Type::Ipv4, Type::Proto, Type::Port], ..PORTS };
pub const RANGES: Set<'_> =
    Set { name: "ranges", data: Data::Range(&[Type::Ipv4, Type::Port]), interval: true, ..PORTS };
pub const RANGES6: Set<'_> =
    Set { name: "ranges6", data: Data::Range(&[Type::Ipv6, Type::Port]), interval: true, ..PORTS };
pub const MASQ: Set<'_> =
    Set { table: TABLE, name: "masq", key: &[Type::Ipv4], data: Data::Verdict, interval: false };
pub const NETS: Set<'_> =
    Set { table: TABLE, name: "nets", key: &[Type::Ipv4], data: Data::None, interval: true };

/// The ruleset as `nft` lists it, without its version and handles.
pub fn ruleset() -> Vec<Json> {
    let mut all: Json = serde_json::from_str(&run("nft -j list ruleset")).unwrap();
    let mut objects: Vec<Json> = all["nftables"].as_array_mut().unwrap().drain(1..).collect();
    for object in objects.iter_mut().flat_map(|object| object.as_object_mut().unwrap().values_mut()) {
        object.as_object_mut().unwrap().remove("handle");
    }
    objects
}

pub fn port(port: u16) -> Value {
    Value::new().proto(6).port(port)
}

pub fn target(last: u8, port: u16) -> Value {
    Value::new().addr(Ipv4Addr::new(10, 1, 2, last)).port(port)
}

pub fn commit(nft: &Nft, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    nft.commit(batch).unwrap_or_else(|error| panic!("{error:#}"));
}

pub fn tables(batch: &mut Batch) {
    batch.add_table(&TABLE, Some("containers' ports"));
    for set in [PORTS, ADDR_PORTS, RANGES, RANGES6, MASQ, NETS] {
        batch.add_set(&set, None);
    }
}
