//! Bodies of fuzz targets: they panic where a promise is broken. Shared with a property test.

use std::net::{IpAddr, Ipv4Addr};

use super::{Answer, HEADER, Rcode, Received, TCP_MAX, flag, read, refusal, word};

/// D-028, D-029: a packet of whatever content is read without a panic; what is answered is a response with the
/// question's number, echoes the question, and never goes over the limit.
pub fn query(packet: &[u8]) {
    let mut buffer = [0; 2048];
    let (length, limit) = match read(packet) {
        Received::Noise => return,
        Received::Refused(code, understood) => (refusal(understood, code, &mut buffer), super::UDP_PLAIN),
        Received::Query(query) => {
            let limit = query.udp_limit();
            let mut answer = Answer::new(&mut buffer, limit, &query, true);
            answer.authoritative();
            while answer.address(0, IpAddr::V4(Ipv4Addr::LOCALHOST)) {}
            answer.soa(0, 0, false);
            let length = answer.finish(Rcode::NoError);
            let question = query.question();
            assert_eq!(&buffer[HEADER..HEADER + question.len()], question, "the question comes back");
            assert_ne!(word(&buffer, 2).map(|flags| flags & flag::TC), Some(0), "what did not fit is told");
            (length, limit)
        }
    };
    assert!((HEADER..=limit.min(TCP_MAX)).contains(&length), "{length} bytes, and {limit} were allowed");
    assert_eq!(buffer[..2], packet[..2], "the number comes back");
    let flags = word(&buffer, 2).unwrap_or(0);
    assert_ne!(flags & flag::QR, 0, "it is a response");
    assert_eq!(flags & (flag::AD | flag::CD | 0x40), 0, "nothing is copied that is not understood");
}
