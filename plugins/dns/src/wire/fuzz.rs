//! Bodies of fuzz targets, which panic where an invariant is broken. Shared with property
//! tests.

use std::net::{IpAddr, Ipv4Addr};

use super::{Answer, HEADER, Rcode, Received, TCP_MAX, error_response, flag, read, u16_at};

/// D-028, D-029: parsing any packet does not panic. An answer is a response with the id and
/// question of the query, within the limit.
pub fn query(packet: &[u8]) {
    let mut buffer = [0; 2048];
    let (length, limit) = match read(packet) {
        Received::NotQuery => return,
        Received::Rejected(code, understood) => {
            (error_response(understood, code, &mut buffer), super::UDP_PLAIN)
        }
        Received::Query(query) => {
            let limit = query.udp_limit();
            let mut answer = Answer::new(&mut buffer, limit, &query, true);
            answer.authoritative();
            while answer.address(0, IpAddr::V4(Ipv4Addr::LOCALHOST)) {}
            answer.soa(0, 0, false);
            let length = answer.finish(Rcode::NoError);
            let question = query.question();
            assert_eq!(&buffer[HEADER..HEADER + question.len()], question, "the question is repeated");
            assert_ne!(u16_at(&buffer, 2).map(|flags| flags & flag::TC), Some(0), "truncation is marked");
            (length, limit)
        }
    };
    assert!((HEADER..=limit.min(TCP_MAX)).contains(&length), "{length} bytes, limit {limit}");
    assert_eq!(buffer[..2], packet[..2], "the id is repeated");
    let flags = u16_at(&buffer, 2).unwrap_or(0);
    assert_ne!(flags & flag::QR, 0, "it is a response");
    assert_eq!(flags & (flag::AD | flag::CD | 0x40), 0, "unknown bits are not copied");
}
