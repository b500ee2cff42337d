//! Whether another host has a leased address (RFC 2131, section 4.4.1; RFC 8415, section 18.2.10.1).

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use host::ArpSocket;
use ipnetwork::IpNetwork;
use netlink::{NewAddress, NotReady};
use sys::sysctl;

use crate::terms::Terms;
use crate::wire::Place;

/// How long the kernel may take for duplicate address detection beyond the time for answers.
const KERNEL: Duration = Duration::from_secs(5);

/// Whether another host answers for the address of the terms within the time.
///
/// # Errors
/// The kernel refused.
pub fn is_in_use(place: &Place, terms: &Terms, time: Duration) -> sys::Result<bool> {
    match terms {
        _ if time.is_zero() => Ok(false),
        Terms::V4 { grant, .. } => answers_arp(place, grant.address, time),
        Terms::V6 { grant, .. } => is_duplicate(place, IpAddr::V6(grant.address), time),
    }
}

fn answers_arp(place: &Place, address: Ipv4Addr, time: Duration) -> sys::Result<bool> {
    let fail =
        |cause| sys::Error::new("look for another host with the address on", place.link.name.clone(), cause);
    let mac = place.mac()?;
    let arp = place.netns.enter(|| ArpSocket::open(place.link.index, mac))?.map_err(fail)?;
    arp.probe(address).map_err(fail)?;
    Ok(arp.wait_for_holder(&[address], Instant::now() + time).map_err(fail)?.is_some())
}

/// Has the kernel look, by an address that is on the link meanwhile. The interface's plugin adds it
/// for good.
fn is_duplicate(place: &Place, address: IpAddr, time: Duration) -> sys::Result<bool> {
    let (name, index) = (&place.link.name, place.link.index);
    let retransmission = |link: &str| format!("net/ipv6/neigh/{link}/retrans_time_ms");
    let usual = place.netns.enter(|| {
        // Parameters that a user namespace does not show: detection takes its second.
        let _ = sysctl::write(&format!("net/ipv6/conf/{name}/accept_dad"), "1");
        let usual = sysctl::read(&retransmission("default"));
        let _ = sysctl::write(&retransmission(name), &time.as_millis().to_string());
        usual
    })?;
    let found = detect(place, index, address, time);
    if let Ok(usual) = usual {
        let _ = place.netns.enter(|| sysctl::write(&retransmission(name), &usual))?;
    }
    found
}

fn detect(place: &Place, index: u32, address: IpAddr, time: Duration) -> sys::Result<bool> {
    let net = IpNetwork::from(address);
    match place.netlink.add_address(&NewAddress { index, net, nodad: false }) {
        // The attachment has it already.
        Err(error) if error.is_exists() => return Ok(false),
        added => added?,
    }
    let settled = place.netlink.wait_for_addresses(index, &[address], false, Instant::now() + time + KERNEL);
    let removed = place.netlink.delete_address(index, net);
    match settled {
        Err(error) if matches!(error.reason(), Some(NotReady::DuplicateAddress { .. })) => Ok(true),
        settled => settled.and(removed).map(|()| false),
    }
}
