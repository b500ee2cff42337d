//! Telling the link that an address lives here now: gratuitous ARP (RFC 5227, section 3) and unsolicited
//! Neighbour Advertisements (RFC 4861, section 7.2.6), so that nobody sends to the address's previous owner.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Mac, Result};

/// Announces every address at `mac`, out of the interface `index` of the network namespace that the calling thread
/// is in. One packet each; nothing is waited for.
///
/// # Errors
/// No packet socket (CAP_NET_RAW), or a packet could not be sent (ENETDOWN: the link is not up).
pub fn announce(index: u32, mac: Mac, addresses: &[IpAddr]) -> Result<()> {
    unimplemented!()
}
