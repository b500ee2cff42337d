//! A host that only etcd knows: its records are written by hand.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::etcd::Etcd;

/// The id of the host.
pub const ID: &str = "feedfeedfeedfeed";
/// Its address on the underlay, which nobody has.
pub const ADDRESS: &str = "192.0.2.99";
/// Records in a block of 64 addresses.
const IN_A_BLOCK: usize = 60;

/// Changes of etcd.
pub type Changes = Vec<(String, Option<Value>)>;

/// The host's own records, as a newer release may write them: with members that nobody knows yet.
pub fn host(protocol: u32) -> Changes {
    let host = json!({
        "v": 1, "name": "far", "addresses": [ADDRESS], "mtu": 1500, "agent": "99.0.0",
        "protocol": protocol, "later": {"than": "this"},
    });
    let alive = json!({"v": 1, "boot": "of-the-stranger"});
    vec![(format!("host/{ID}"), Some(host)), (format!("alive/{ID}"), Some(alive))]
}

/// The first addresses of that many blocks that nobody has.
pub fn free_blocks(etcd: &Etcd, count: usize) -> Result<Vec<Ipv4Addr>> {
    let taken: BTreeSet<String> = etcd.keys("blk/front/")?.into_iter().collect();
    let first = |number: u32| Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 9, 128, 0)) + 64 * number);
    let free = (0..512).map(first).filter(|first| !taken.contains(&format!("blk/front/{first}")));
    Ok(free.take(count).collect())
}

/// A claim of a block.
pub fn block(first: Ipv4Addr) -> (String, Option<Value>) {
    (format!("blk/front/{first}"), Some(json!({"v": 1, "host": ID})))
}

/// Records of that many containers with their blocks, and the entries that hosts must make of them.
pub fn containers(etcd: &Etcd, count: usize) -> Result<(Changes, Vec<String>)> {
    let blocks = free_blocks(etcd, count.div_ceil(IN_A_BLOCK))?;
    let mut changes: Changes = blocks.iter().copied().map(block).collect();
    let mut entries = vec![];
    for number in 0..count {
        let block = blocks.get(number / IN_A_BLOCK).context("a block")?;
        let offset = 2 + u32::try_from(number % IN_A_BLOCK)?;
        let (key, record, entry) = container(number, Ipv4Addr::from(u32::from(*block) + offset));
        changes.push((key, Some(record)));
        entries.push(entry);
    }
    entries.sort();
    Ok((changes, entries))
}

fn container(number: usize, ip: Ipv4Addr) -> (String, Value, String) {
    let [a, b, c, d] = ip.octets();
    let mac = format!("02:6d:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
    let record = json!({"v": 1, "ips": [ip], "mac": mac, "names": [format!("n{number}")]});
    (format!("ep/front/{ID}/n{number}@eth0"), record, format!("{mac} {ADDRESS}"))
}
