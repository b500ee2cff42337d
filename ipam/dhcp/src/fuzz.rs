//! For the fuzzer: any bytes from the network.

use std::net::{IpAddr, Ipv6Addr};

use cni::AddResult;
use ipnetwork::IpNetwork;

use crate::frame::{self, End};
use crate::grant::Grant;
use crate::message::Message;
use crate::v6;

/// Any frame is a usable offer or nothing, and a usable one is sound.
///
/// # Panics
/// An offer that is used is not sound.
pub fn frame(bytes: &[u8]) {
    let Some((from, bytes)) = frame::decode(bytes) else { return };
    message(bytes, from);
}

fn message(bytes: &[u8], from: End) {
    let Some(message) = Message::from_bytes(bytes) else { return };
    if let Ok(grant) = Grant::of(&message, from) {
        assert!(grant.is_sound(), "{grant:?}");
        let result = crate::answer::result(&grant, None, 1500);
        assert!(result.print(cni::Version::NEWEST).is_ok(), "{grant:?}");
    }
}

/// Any datagram of DHCPv6 is a usable grant or nothing, and any message of a router is read or
/// nothing.
///
/// # Panics
/// A grant that is used is not sound.
pub fn datagram(bytes: &[u8]) {
    let ask = v6::Ask { duid: vec![0, 4, 1], iaid: 1, prefix: bytes.len().is_multiple_of(2) };
    if let Some(message) = v6::Message::from_bytes(bytes)
        && let Ok(grant) = v6::Grant::of(&message, &[0, 4, 2], &ask)
    {
        assert!(grant.is_sound(), "{grant:?}");
    }
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let mut heard = v6::Heard::default();
    v6::Advert::of_message(router, bytes).into_iter().for_each(|advert| heard.add(advert));
    let nets: Vec<IpNetwork> = heard.autonomous().map(IpNetwork::from).collect();
    let mut result = AddResult::default();
    crate::answer::add_v6(&mut result, &nets, heard.default_router().map(IpAddr::V6), None, heard.mtu());
    assert!(result.print(cni::Version::NEWEST).is_ok(), "{heard:?}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The fixed part of a reply (RFC 2131, 2) with its cookie, and the type of an acknowledgement.
    fn acknowledgement() -> Vec<u8> {
        let mut bytes = vec![0; 236];
        bytes[..3].copy_from_slice(&[2, 1, 6]);
        bytes[16..20].copy_from_slice(&[10, 1, 2, 3]);
        bytes.extend([99, 130, 83, 99, 53, 1, 5]);
        bytes
    }

    proptest! {
        #[test]
        fn no_options_make_an_unsound_offer(options in prop::collection::vec(any::<u8>(), 0..200)) {
            message(&[acknowledgement(), options].concat(), End::EVERYBODY);
        }
    }

    #[test]
    fn such_an_acknowledgement_is_an_offer() {
        let options = vec![1, 4, 255, 255, 255, 0, 51, 4, 0, 0, 14, 16, 54, 4, 10, 1, 2, 1, 255];
        let message = Message::from_bytes(&[acknowledgement(), options].concat()).unwrap();
        assert!(Grant::of(&message, End::EVERYBODY).is_ok());
    }
}
