//! Neighbour Advertisements (RFC 4861, section 4.4): who has an IPv6 address. The kernel's
//! duplicate address detection reports only that the address is in use; the packet has the owner's
//! link-layer address.

use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink::Mac;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, socket};

/// ICMPv6 type of an advertisement (RFC 4861, section 4.4).
const ADVERTISEMENT: u8 = 136;
/// Type, code, checksum; flags; then the target.
const BEFORE_TARGET: usize = 8;
/// Option target link-layer address (RFC 4861, section 4.6.1).
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
/// Options count in units of eight bytes (RFC 4861, section 4.6).
const UNIT: usize = 8;
/// Advertisements with their options are far shorter.
const LONGEST: usize = 256;
/// The maximum number of packets examined: more than that is a flood.
const LOOKED_AT: usize = 1024;

/// Receives the ICMPv6 packets of a network namespace.
pub(crate) struct AdvertisementSocket(OwnedFd);

impl AdvertisementSocket {
    /// Opens it in the network namespace that the calling thread is in.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Self(socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6)?))
    }

    /// The owner of the address, by the packets received so far.
    pub(crate) fn holder_of(&self, address: Ipv6Addr) -> Option<Mac> {
        let mut packet = [0; LONGEST];
        (0..LOOKED_AT)
            .map_while(|_| match recv(self.0.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                Ok(length) => Some(packet.get(..length).and_then(|packet| holder(packet, address))),
                Err(Errno::EINTR) => Some(None),
                Err(_) => None,
            })
            .find_map(|holder| holder)
    }
}

/// The link-layer address in an advertisement of `address`.
fn holder(packet: &[u8], address: Ipv6Addr) -> Option<Mac> {
    if packet.first() != Some(&ADVERTISEMENT) {
        return None;
    }
    let (target, mut options) = packet.get(BEFORE_TARGET..)?.split_first_chunk::<16>()?;
    if Ipv6Addr::from(*target) != address {
        return None;
    }
    while let [kind, units, value @ ..] = options {
        if *kind == TARGET_LINK_LAYER_ADDRESS && *units == 1 {
            return value.first_chunk().map(|mac| Mac(*mac));
        }
        // An option without length would never end.
        let length = usize::from(*units).checked_mul(UNIT).filter(|length| *length > 0)?;
        options = options.get(length..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const THEIRS: [u8; 6] = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x99];

    fn advertisement(target: Ipv6Addr, options: &[&[u8]]) -> Vec<u8> {
        [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), &options.concat()].concat()
    }

    #[test]
    fn an_advertisement_names_the_holder() {
        let address: Ipv6Addr = "fd00::2".parse().unwrap();
        let named = [&[2, 1][..], &THEIRS].concat();
        // A nonce (RFC 3971, type 14) may stand before it.
        for options in [vec![&named[..]], vec![&[14, 1, 1, 2, 3, 4, 5, 6], &named]] {
            assert_eq!(holder(&advertisement(address, &options), address), Some(Mac(THEIRS)));
        }
        for packet in [
            advertisement("fd00::3".parse().unwrap(), &[&named]),
            advertisement(address, &[]),
            advertisement(address, &[&[14, 0, 0, 0, 0, 0, 0, 0], &named]),
            [&[135][..], &advertisement(address, &[&named])[1..]].concat(),
        ] {
            assert_eq!(holder(&packet, address), None, "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in vec(any::<u8>(), 0..100)) {
            if let Some(first) = bytes.first_mut() {
                *first = ADVERTISEMENT;
            }
            let target = bytes.get(8..24).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
            let _ = holder(&bytes, target.unwrap_or_default().into());
        }
    }
}
