//! Addresses that are unique on their link.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use netlink::{NewAddress, NotReady};
use sys::{Error, Result, sysctl};

use super::address::add_or_adopt;
use super::settled::{DAD_DEADLINE, Settled};
use super::sysctl::best_effort;
use super::{Address, Kernel, Part, Place, Undo};
use crate::Drift;
use crate::advertisement::AdvertisementSocket;
use crate::arp::ArpSocket;

/// Addresses of the container's link, which is up, that are only used if no other node is found to
/// have them.
///
/// IPv4: ARP probes (RFC 5227). The RFC's three probes and waits take five to nine seconds; here
/// they take `time`: one probe at once, one after a quarter and one after half of it, and the
/// second half is left for answers. Any ARP packet from the address, or a probe for it, from
/// another Ethernet address is a conflict. Then the address is announced.
///
/// IPv6: the kernel's duplicate address detection (RFC 4862, section 5.4), in parallel;
/// [`DetectionTime`] sets its duration.
/// [`DetectionTime`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The container's link.
    pub link: String,
    /// The addresses and their prefix lengths.
    pub addresses: Vec<IpNetwork>,
    /// The link for ARP packets: the container's own, but an ipvlan's parent, because answers to a
    /// probe are for an address that the kernel cannot assign to the ipvlan, so they stay with the
    /// parent.
    pub arp: (Place, String),
    /// The time for answers.
    pub time: Duration,
}

/// When each probe is sent, in quarters of the time.
const PROBES: [u32; 3] = [0, 1, 2];
const QUARTERS: u32 = 4;

impl Part for Claim {
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let index = kernel.index(Place::Sandbox, &self.link)?;
        let began = Instant::now();
        let (v4, v6): (Vec<IpNetwork>, Vec<IpNetwork>) =
            self.addresses.iter().partition(|address| address.is_ipv4());
        let advertisements = match v6.is_empty() {
            true => None,
            // It is only needed for the holder's name, so the claim does not fail without it.
            false => kernel.within(Place::Sandbox, AdvertisementSocket::open)?.ok(),
        };
        for net in &v6 {
            let address = NewAddress { index, net: *net, nodad: false };
            add_or_adopt(kernel.netlink(Place::Sandbox)?, &address)?;
        }
        let v4: Vec<(IpNetwork, Ipv4Addr)> = v4
            .into_iter()
            .filter_map(|net| match net.ip() {
                IpAddr::V4(address) => Some((net, address)),
                IpAddr::V6(_) => None,
            })
            .collect();
        let arp = if v4.is_empty() { None } else { Some(self.probed(kernel, &v4, began)?) };
        if !v6.is_empty() {
            let wanted: Vec<IpAddr> = v6.iter().map(IpNetwork::ip).collect();
            let settled = kernel.netlink(Place::Sandbox)?.wait_for_addresses(
                index,
                &wanted,
                true,
                began + self.time + DAD_DEADLINE,
            );
            settled.map_err(|error| named(error, advertisements.as_ref()))?;
        }
        for (net, address) in v4 {
            kernel.netlink(Place::Sandbox)?.add_address(&NewAddress { index, net, nodad: true })?;
            // Neighbours that miss it learn by themselves within seconds.
            let _ = arp.as_ref().map(|arp| arp.announce(address));
        }
        Ok(())
    }

    fn verify(&self, kernel: &mut Kernel) -> Result<Vec<Drift>> {
        let place = Place::Sandbox;
        let mut drifts = Vec::new();
        for net in &self.addresses {
            drifts.extend(Address { place, link: self.link.clone(), net: *net, dad: true }.verify(kernel)?);
        }
        let settled = Settled { place, link: self.link.clone(), addresses: Vec::new(), dad: true };
        drifts.extend(settled.verify(kernel)?);
        Ok(drifts)
    }
}

impl Claim {
    /// Probes all IPv4 addresses at once.
    ///
    /// # Errors
    /// [`NotReady::DuplicateAddress`] as soon as another node has one.
    fn probed(&self, kernel: &mut Kernel, v4: &[(IpNetwork, Ipv4Addr)], began: Instant) -> Result<ArpSocket> {
        let (place, name) = &self.arp;
        let failed = |error| Error::new("look for duplicate addresses on", name.clone(), error);
        let link = kernel.link(*place, name)?;
        let mac = link.mac.ok_or_else(|| failed(std::io::ErrorKind::Unsupported.into()))?;
        let arp = kernel.within(*place, || ArpSocket::open(link.index, mac))?.map_err(failed)?;
        let addresses: Vec<Ipv4Addr> = v4.iter().map(|(_, address)| *address).collect();
        let mut ends = PROBES.iter().skip(1).copied().chain([QUARTERS]);
        for _ in PROBES {
            addresses.iter().try_for_each(|address| arp.probe(*address)).map_err(failed)?;
            let deadline = began + self.time * ends.next().unwrap_or(QUARTERS) / QUARTERS;
            let Some((found, holder)) = arp.wait_for_holder(&addresses, deadline).map_err(failed)? else {
                continue;
            };
            let net = v4.iter().find(|(_, address)| *address == found).map(|(net, _)| *net);
            return Err(NotReady::DuplicateAddress {
                link: self.link.clone(),
                address: net.unwrap_or_else(|| IpAddr::V4(found).into()),
                holder: Some(holder),
            }
            .into());
        }
        Ok(arp)
    }
}

/// The kernel's wait for answers in IPv6 duplicate detection: the link's retransmission time (RFC
/// 4862, section 5.1), which is set before the link comes up, and reset when its addresses are
/// settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetectionTime {
    /// The container's link.
    pub link: String,
    /// The time, at least 10 ms for the kernel; `None` is the default of new links, usually a
    /// second.
    pub time: Option<Duration>,
}

impl Part for DetectionTime {
    // A user namespace does not show the parameter: there, detection takes its second.
    fn apply(&self, kernel: &mut Kernel, _: &mut Vec<Undo>) -> Result<()> {
        let key = |link: &str| format!("net/ipv6/neigh/{link}/retrans_time_ms");
        kernel.within(Place::Sandbox, || {
            let value = match self.time {
                Some(time) => Ok(time.as_millis().to_string()),
                None => sysctl::read(&key("default")),
            };
            if let Ok(value) = value {
                best_effort(&key(&self.link), &value);
            }
        })
    }

    // A temporary state.
    fn verify(&self, _: &mut Kernel) -> Result<Vec<Drift>> {
        Ok(Vec::new())
    }
}

/// Adds the holder of the address to the error, if the holder has identified itself.
fn named(error: Error, advertisements: Option<&AdvertisementSocket>) -> Error {
    let Some(NotReady::DuplicateAddress { link, address, .. }) = error.reason() else { return error };
    let holder = match address.ip() {
        IpAddr::V6(ip) => advertisements.and_then(|heard| heard.holder_of(ip)),
        IpAddr::V4(_) => None,
    };
    NotReady::DuplicateAddress { link: link.clone(), address: *address, holder }.into()
}
