//! Answers of DNS servers outside, record by record.

use std::net::Ipv4Addr;

use super::upstream::failed;
use crate::dns_client::kind;

/// A type that the client does not parse: an alias.
const CNAME: u16 = 5;

/// A record of an answer.
#[derive(Clone, Debug)]
pub struct Record {
    owner: Vec<u8>,
    kind: u16,
    ttl: u32,
    data: Vec<u8>,
}

/// A name as in a message.
fn name(text: &str) -> Vec<u8> {
    let mut bytes = vec![];
    for label in text.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes
}

impl Record {
    /// A record of any type.
    pub fn new(owner: &str, kind: u16, ttl: u32, data: &[u8]) -> Self {
        Self { owner: name(owner), kind, ttl, data: data.to_vec() }
    }

    /// An address.
    pub fn address(owner: &str, ttl: u32, address: Ipv4Addr) -> Self {
        Self::new(owner, kind::A, ttl, &address.octets())
    }

    /// An alias.
    pub fn alias(owner: &str, ttl: u32, target: &str) -> Self {
        Self::new(owner, CNAME, ttl, &name(target))
    }

    /// The authority of a zone, with its minimum (RFC 2308).
    pub fn authority(zone: &str, ttl: u32, minimum: u32) -> Self {
        let mut data = [name("ns.moor.test"), name("root.moor.test")].concat();
        for number in [1, 3600, 600, 86400, minimum] {
            data.extend(number.to_be_bytes());
        }
        Self::new(zone, kind::SOA, ttl, &data)
    }

    /// The OPT record of a server that uses EDNS; `dnssec`: it repeats DO.
    pub fn options(dnssec: bool) -> Self {
        let ttl = if dnssec { 0x8000 } else { 0 };
        Self { owner: vec![0], kind: kind::OPT, ttl, data: vec![] }
    }
}

/// The answer to a query: a code, and the records of the three sections.
pub fn reply(question: &[u8], code: u8, sections: [&[Record]; 3]) -> Vec<u8> {
    let mut reply = failed(question, code);
    for (section, at) in sections.iter().zip([7, 9, 11]) {
        if let (Some(count), Ok(records)) = (reply.get_mut(at), u8::try_from(section.len())) {
            *count = records;
        }
    }
    for Record { owner, kind, ttl, data } in sections.into_iter().flatten() {
        reply.extend(owner);
        reply.extend(kind.to_be_bytes());
        // An OPT record has a size instead of a class.
        reply.extend(if *kind == kind::OPT { 1232_u16 } else { 1 }.to_be_bytes());
        reply.extend(ttl.to_be_bytes());
        reply.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
        reply.extend(data);
    }
    reply
}
