//! A tracked connection, as the kernel describes it.

use std::net::IpAddr;

use netlink::attr::{Attr, Attrs, Malformed};
use sys::Result;

/// Length of `struct nfgenmsg`: u8 family, u8 version, be16 resource.
const NFGENMSG: usize = 4;

/// linux/netfilter/nfnetlink_conntrack.h: a connection, one direction of it, and its identity.
pub(super) const CTA_TUPLE_ORIG: u16 = 1;
pub(super) const CTA_TUPLE_REPLY: u16 = 2;
pub(super) const CTA_ID: u16 = 12;
pub(super) const CTA_ZONE: u16 = 18;
pub(super) const CTA_TUPLE_IP: u16 = 1;
pub(super) const CTA_TUPLE_PROTO: u16 = 2;
pub(super) const CTA_IP_V4_SRC: u16 = 1;
pub(super) const CTA_IP_V4_DST: u16 = 2;
pub(super) const CTA_IP_V6_SRC: u16 = 3;
pub(super) const CTA_IP_V6_DST: u16 = 4;
pub(super) const CTA_PROTO_NUM: u16 = 1;
pub(super) const CTA_PROTO_SRC_PORT: u16 = 2;
pub(super) const CTA_PROTO_DST_PORT: u16 = 3;

/// A tracked connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) original: Tuple,
    /// The source of replies.
    pub(super) replies_from: IpAddr,
    /// As received: big-endian.
    pub(super) zone: Option<[u8; 2]>,
    pub(super) id: Option<[u8; 4]>,
}

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) proto: u8,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
}

/// The message reader, for the fuzzer.
pub(crate) fn read_any(payload: &[u8]) {
    let _ = Flow::read(payload);
}

impl Flow {
    /// `None` for a connection without ports.
    pub(super) fn read(payload: &[u8]) -> Result<Option<Self>, Malformed> {
        let (mut original, mut reply, mut zone, mut id) = (None, None, None, None);
        for attr in Attrs::after(payload, NFGENMSG)? {
            let attr = attr?;
            match attr.kind {
                CTA_TUPLE_ORIG => original = Tuple::read(attr)?,
                CTA_TUPLE_REPLY => reply = Tuple::read(attr)?,
                CTA_ZONE => zone = attr.payload.first_chunk().copied(),
                CTA_ID => id = attr.payload.first_chunk().copied(),
                _ => {}
            }
        }
        Ok(original.zip(reply).map(|(original, reply)| Self {
            original,
            replies_from: reply.source,
            zone,
            id,
        }))
    }
}

impl Tuple {
    fn read(attr: Attr<'_>) -> Result<Option<Self>, Malformed> {
        let (mut source, mut destination, mut proto) = (None, None, None);
        let (mut source_port, mut destination_port) = (None, None);
        let port = |attr: Attr<'_>| attr.payload.first_chunk().copied().map(u16::from_be_bytes);
        for part in attr.nested() {
            let part = part?;
            for attr in part.nested() {
                let attr = attr?;
                match (part.kind, attr.kind) {
                    (CTA_TUPLE_IP, CTA_IP_V4_SRC | CTA_IP_V6_SRC) => source = Some(attr.ip()?),
                    (CTA_TUPLE_IP, CTA_IP_V4_DST | CTA_IP_V6_DST) => destination = Some(attr.ip()?),
                    (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => proto = Some(attr.u8()?),
                    (CTA_TUPLE_PROTO, CTA_PROTO_SRC_PORT) => source_port = port(attr),
                    (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => destination_port = port(attr),
                    _ => {}
                }
            }
        }
        let tuple = || {
            Some(Self {
                source: source?,
                destination: destination?,
                proto: proto?,
                source_port: source_port?,
                destination_port: destination_port?,
            })
        };
        Ok(tuple())
    }
}

impl std::fmt::Display for Tuple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the tracked connection of protocol {} from {} port {} to {} port {}",
            self.proto, self.source, self.source_port, self.destination, self.destination_port
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_reader_never_panics(bytes in vec(any::<u8>(), 0..300)) {
            let _ = Flow::read(&bytes);
        }
    }
}
