//! Ethernet frames on a link, as a hostile container or a neighbour on the LAN sends them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::{ip, namespace};

/// An Ethernet address.
pub type MacBytes = [u8; 6];

/// linux/if_ether.h.
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_LLDP: u16 = 0x88cc;

const ICMPV6: u8 = 58;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// The longest frame that is received whole.
const FRAME: usize = 9216;

/// TCP flag: opens a connection.
pub const SYN: u8 = 0x02;
/// TCP flag: resets the connection.
pub const RST: u8 = 0x04;
/// TCP flag: acknowledges received data.
pub const ACK: u8 = 0x10;

/// A link, for sending and receiving frames.
pub struct Wire {
    socket: OwnedFd,
    /// The link's own address.
    pub mac: MacBytes,
}

impl Wire {
    /// Opens the link of that name in a namespace, or in the room's host.
    pub fn open(ns: Option<&str>, link: &str) -> Result<Self> {
        let row = ip::link(ns, link)?.with_context(|| format!("no link {link} in {ns:?}"))?;
        let index = row["ifindex"].as_u64().context("a link has an index")?;
        let mac = mac(row["address"].as_str().unwrap_or_default())?;
        let open = || Ok(sys::frame::open(u32::try_from(index)?, sys::frame::EVERY_PROTOCOL)?);
        let socket = match ns {
            Some(ns) => namespace::inside(ns, open),
            None => open(),
        };
        Ok(Self { socket: socket.with_context(|| format!("open a packet socket on {link}"))?, mac })
    }

    /// Opens the link of that name in a namespace, only for sending, without running `ip`.
    pub fn from_within(ns: &str, link: &str) -> Result<Self> {
        namespace::inside(ns, || Self::here(link))
    }

    /// As [`Wire::from_within`], in the calling thread's namespace.
    pub fn here(link: &str) -> Result<Self> {
        let index = nix::net::if_::if_nametoindex(link)?;
        Ok(Self { socket: sys::frame::open(index, 0)?, mac: [0; 6] })
    }

    /// Sends a frame as it is, whatever its source address.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).context("send a frame")?;
        Ok(())
    }

    /// Returns the first frame that matches `wanted`; `None` when there was none in time. Outgoing
    /// frames count too.
    pub fn receive(
        &self,
        patience: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + patience;
        let mut bytes = vec![0; FRAME];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let left = PollTimeout::try_from(left.as_millis().max(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("wait for a frame"),
            }
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let frame = bytes.get(..length).unwrap_or_default();
                    if wanted(frame) {
                        return Ok(Some(frame.to_vec()));
                    }
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("receive a frame"),
            }
        }
    }
}

impl Wire {
    /// Returns the frames that match `wanted` and have come until now, without waiting.
    pub fn seen(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
        let mut bytes = vec![0; FRAME];
        let mut seen = vec![];
        loop {
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    seen.extend(bytes.get(..length).filter(|frame| wanted(frame)).map(<[u8]>::to_vec))
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(seen),
                Err(errno) => return Err(errno).context("receive a frame"),
            }
        }
    }
}

/// Parses an address in the format of `ip`.
pub fn mac(text: &str) -> Result<MacBytes> {
    let bytes = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<Vec<_>, _>>();
    bytes.ok().and_then(|bytes| bytes.try_into().ok()).with_context(|| format!("{text} is no MAC address"))
}

/// A frame with its Ethernet header.
pub fn ethernet(to: MacBytes, from: MacBytes, protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &protocol.to_be_bytes(), payload].concat()
}

/// An LLDP frame (IEEE 802.1AB) to one of the addresses 01:80:c2:00:00:0x, which bridges do not
/// forward: chassis, port, time to live, end.
pub fn lldp(last: u8, from: MacBytes) -> Vec<u8> {
    let chassis = [&[0x02, 0x07, 0x04][..], &from].concat();
    let port = [&[0x04, 0x07, 0x03][..], &from].concat();
    let body = [&chassis[..], &port, &[0x06, 0x02, 0x00, 0x78, 0, 0]].concat();
    ethernet([0x01, 0x80, 0xc2, 0, 0, last], from, ETH_P_LLDP, &body)
}

/// An ARP reply to broadcast that claims `address` for `from`.
pub fn arp(from: MacBytes, address: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, 2];
    let body = [&head[..], &from, &address.octets(), &[0xff; 6], &address.octets()].concat();
    ethernet([0xff; 6], from, ETH_P_ARP, &body)
}

/// A router advertisement (RFC 4861) with a router `lifetime` in seconds, and a 64-bit prefix for
/// autoconfiguration.
pub fn router_advertisement(from: MacBytes, prefix: Ipv6Addr, lifetime: u16) -> Vec<u8> {
    let [a, b, ..] = lifetime.to_be_bytes();
    let head = [134, 0, 0, 0, 64, 0, a, b, 0, 0, 0, 0, 0, 0, 0, 0];
    let own = [&[1, 1][..], &from].concat();
    // On-link and autonomous flags; valid and preferred for an hour.
    let times = [3, 4, 64, 0xc0, 0, 0, 0x0e, 0x10, 0, 0, 0x0e, 0x10, 0, 0, 0, 0];
    let message = [&head[..], &own, &times, &prefix.octets()].concat();
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let packet = ip_packet(link_local(from).into(), everybody.into(), ICMPV6, message, 2);
    ethernet([0x33, 0x33, 0, 0, 0, 1], from, ETH_P_IPV6, &packet)
}

/// The link-local address made from an Ethernet address (RFC 4291, appendix A).
pub fn link_local(mac: MacBytes) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let half = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(half))
}

/// A TCP segment without data, in a frame.
pub fn tcp(to: MacBytes, from: MacBytes, ends: [(IpAddr, u16); 2], flags: u8) -> Vec<u8> {
    let [(source, sport), (target, dport)] = ends;
    let ports = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    // Sequence and acknowledgement, header length, flags, window, checksum, urgent.
    let rest = [0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0];
    let protocol = if source.is_ipv4() { ETH_P_IP } else { ETH_P_IPV6 };
    ethernet(to, from, protocol, &ip_packet(source, target, TCP, [&ports[..], &rest].concat(), 16))
}

/// A UDP datagram in a frame; of IPv4, it may not be fragmented.
pub fn udp(to: MacBytes, from: MacBytes, ends: [(IpAddr, u16); 2], data: &[u8]) -> Vec<u8> {
    let [(source, sport), (target, dport)] = ends;
    let length = u16::try_from(data.len() + 8).unwrap_or(u16::MAX);
    let head = [sport.to_be_bytes(), dport.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
    let protocol = if source.is_ipv4() { ETH_P_IP } else { ETH_P_IPV6 };
    ethernet(to, from, protocol, &ip_packet(source, target, UDP, [&head[..], data].concat(), 6))
}

/// A neighbour advertisement (RFC 4861) to all nodes that claims `address` for `from`.
pub fn neighbour_advertisement(from: MacBytes, address: Ipv6Addr) -> Vec<u8> {
    // Override flag, and the option with the sender's address.
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &address.octets(), &[2, 1], &from].concat();
    let everybody = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let packet = ip_packet(address.into(), everybody.into(), ICMPV6, message, 2);
    ethernet([0x33, 0x33, 0, 0, 0, 1], from, ETH_P_IPV6, &packet)
}

/// An IP packet; the payload's checksum is at `sum` in it, and still 0.
fn ip_packet(source: IpAddr, target: IpAddr, protocol: u8, mut payload: Vec<u8>, sum: usize) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let ends = [octets(source), octets(target)].concat();
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let pseudo = [&ends[..], &[0, protocol], &length.to_be_bytes(), &payload].concat();
    let check = checksum(&pseudo).to_be_bytes();
    if let Some(place) = payload.get_mut(sum..sum + 2) {
        place.copy_from_slice(&check);
    }
    if source.is_ipv6() {
        let [a, b] = length.to_be_bytes();
        return [&[0x60, 0, 0, 0, a, b, protocol, 255][..], &ends, &payload].concat();
    }
    let [a, b] = (length + 20).to_be_bytes();
    let mut head = [&[0x45, 0, a, b, 0, 0, 0x40, 0, 64, protocol, 0, 0][..], &ends].concat();
    let check = checksum(&head).to_be_bytes();
    if let Some(place) = head.get_mut(10..12) {
        place.copy_from_slice(&check);
    }
    [head, payload].concat()
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [a, b] => u32::from(u16::from_be_bytes([a, b])),
        [a] => u32::from(a) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_over_a_packet_with_its_checksum_is_zero() {
        let to = [2, 0, 0, 0, 0, 1];
        let ends = [("10.0.0.1".parse().unwrap(), 1), ("10.0.0.2".parse().unwrap(), 2)];
        let frame = tcp(to, to, ends, SYN);
        assert_eq!(checksum(&frame[14..34]), 0);
        let pseudo = [&frame[26..34], &[0, TCP, 0, 20], &frame[34..]].concat();
        assert_eq!(checksum(&pseudo), 0);
    }

    #[test]
    fn an_advertisement_comes_from_the_links_own_address() {
        let mac = mac("02:00:00:00:00:09").unwrap();
        assert_eq!(link_local(mac), "fe80::ff:fe00:9".parse::<Ipv6Addr>().unwrap());
        let frame = router_advertisement(mac, "2001:db8:bad::".parse().unwrap(), 1800);
        assert_eq!(frame.len(), 14 + 40 + 16 + 8 + 32);
    }
}
