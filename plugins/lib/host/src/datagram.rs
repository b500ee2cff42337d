//! Many datagrams with one system call, and nothing allocated for them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use crate::sys::{self, Head, RawAddress, RawControl};

/// How many datagrams one call moves at most.
pub const BATCH: usize = sys::BATCH;

/// Datagrams that have come.
#[derive(Debug)]
pub struct Inbox {
    data: Box<[u8]>,
    size: usize,
    peers: [RawAddress; BATCH],
    controls: [RawControl; BATCH],
    heads: [Head; BATCH],
    count: usize,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its bytes, or the first of them.
    pub bytes: &'a [u8],
    /// Whether there were more.
    pub truncated: bool,
    /// Who sent it.
    pub peer: Peer,
    /// Index of the link it came by, when the socket tells (IP_PKTINFO, IPV6_RECVPKTINFO).
    pub link: Option<u32>,
}

/// An address that a datagram came from and another can go to, as the kernel writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(RawAddress);

impl Peer {
    /// The address; `None` if it is of another family than IP.
    pub fn address(&self) -> Option<SocketAddr> {
        let bytes = bytes_of(&self.0);
        let family = i32::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let port = u16::from_be_bytes([bytes[2], bytes[3]]);
        match family {
            libc::AF_INET => {
                let ip: [u8; 4] = bytes[4..8].try_into().ok()?;
                Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))
            }
            libc::AF_INET6 => {
                let ip: [u8; 16] = bytes[8..24].try_into().ok()?;
                Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, self.0[6]).into())
            }
            _ => None,
        }
    }

    /// The address without the port.
    pub fn ip(&self) -> Option<IpAddr> {
        self.address().map(|address| address.ip())
    }
}

fn bytes_of(words: &RawAddress) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, from) in bytes.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    bytes
}

impl Inbox {
    /// Room for [`BATCH`] datagrams of `size` bytes.
    pub fn new(size: usize) -> Self {
        Self {
            data: vec![0; size * BATCH].into(),
            size,
            peers: [[0; 8]; BATCH],
            controls: [[0; 8]; BATCH],
            heads: [Head::default(); BATCH],
            count: 0,
        }
    }

    /// Receives what is there, in the place of what was received before; gives how many.
    ///
    /// # Errors
    /// `WouldBlock` when there is none; an error that belongs to an earlier datagram sent.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.count = 0;
        self.count = sys::receive_many(
            socket.as_fd(),
            &mut self.data,
            self.size,
            &mut self.peers,
            &mut self.controls,
            &mut self.heads,
        )?;
        Ok(self.count)
    }

    /// The datagrams received last.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let each =
            self.data.chunks_exact(self.size).zip(&self.heads).zip(self.peers.iter().zip(&self.controls));
        each.take(self.count).map(|((data, head), (peer, control))| Datagram {
            bytes: &data[..head.length],
            truncated: head.truncated,
            peer: Peer(*peer),
            link: link(control, head.control),
        })
    }
}

/// The link's index in control messages (`struct cmsghdr`, uapi/linux/in.h `in_pktinfo`, in6.h `in6_pktinfo`) of `length` bytes.
pub(crate) fn link(control: &[u64], length: usize) -> Option<u32> {
    let mut bytes = [0; size_of::<RawControl>()];
    for (to, from) in bytes.chunks_exact_mut(8).zip(control) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    let mut rest = bytes.get(..length)?;
    // A length of the machine's word, level and type, padded to such a word.
    const WORD: usize = size_of::<usize>();
    const HEAD: usize = (WORD + 8).next_multiple_of(WORD);
    while rest.len() >= HEAD {
        let whole = usize::from_ne_bytes(rest[..WORD].try_into().ok()?);
        let level = i32::from_ne_bytes(rest[WORD..WORD + 4].try_into().ok()?);
        let kind = i32::from_ne_bytes(rest[WORD + 4..WORD + 8].try_into().ok()?);
        let data = rest.get(HEAD..whole)?;
        let index = match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => data.get(..4),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => data.get(16..20),
            _ => None,
        };
        if let Some(index) = index {
            return index.try_into().ok().map(u32::from_ne_bytes);
        }
        rest = rest.get(whole.next_multiple_of(WORD)..).unwrap_or(&[]);
    }
    None
}

/// Index of the link that the first packet of an accepted connection came by. The listening socket must have been
/// asked to tell links (IP_PKTINFO; IPv6 tells anyway).
pub fn link_of_connection(socket: &impl AsFd, v4: bool) -> io::Result<Option<u32>> {
    /// uapi/linux/in.h; for a stream it gives what IP_PKTINFO would for a datagram (net/ipv4/ip_sockglue.c).
    const IP_PKTOPTIONS: i32 = 9;
    let mut value = [0; 8];
    if v4 {
        let length = sys::socket_option(socket.as_fd(), libc::IPPROTO_IP, IP_PKTOPTIONS, &mut value)?;
        return Ok(link(&value, length));
    }
    // The link that the connection came by is the one its multicasts would leave by (net/ipv6/tcp_ipv6.c).
    sys::socket_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &mut value[..1])?;
    let bytes = value[0].to_ne_bytes();
    Ok(Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
}

/// Datagrams that are to go.
#[derive(Debug)]
pub struct Outbox {
    data: Box<[u8]>,
    size: usize,
    peers: [RawAddress; BATCH],
    lengths: [usize; BATCH],
    count: usize,
}

impl Outbox {
    /// Room for [`BATCH`] datagrams of `size` bytes.
    pub fn new(size: usize) -> Self {
        let data = vec![0; size * BATCH].into();
        Self { data, size, peers: [[0; 8]; BATCH], lengths: [0; BATCH], count: 0 }
    }

    /// Room for the next datagram; empty when there are [`BATCH`].
    pub fn room(&mut self) -> &mut [u8] {
        self.data.get_mut(self.count * self.size..(self.count + 1) * self.size).unwrap_or_default()
    }

    /// The first `length` bytes of the room are a datagram to `peer`.
    pub fn push(&mut self, length: usize, peer: Peer) {
        if let (Some(to), Some(held)) = (self.peers.get_mut(self.count), self.lengths.get_mut(self.count)) {
            *to = peer.0;
            *held = length.min(self.size);
            self.count += 1;
        }
    }

    /// Sends them all; one that the kernel refuses is passed over, as if it had been lost on the way.
    pub fn send(&mut self, socket: &impl AsFd) {
        let mut done = 0;
        while done < self.count {
            let data = &self.data[done * self.size..];
            let (lengths, peers) = (&self.lengths[done..self.count], &self.peers[done..self.count]);
            done += match sys::send_many(socket.as_fd(), data, self.size, lengths, peers) {
                Ok(sent) => sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(_) => 1,
            };
        }
        self.count = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use nix::sys::socket::{setsockopt, sockopt};

    use super::*;

    fn round(local: &str) {
        let server = UdpSocket::bind(local).unwrap();
        server.set_nonblocking(true).unwrap();
        if server.local_addr().unwrap().is_ipv4() {
            setsockopt(&server, sockopt::Ipv4PacketInfo, &true).unwrap();
        } else {
            setsockopt(&server, sockopt::Ipv6RecvPacketInfo, &true).unwrap();
        }
        let mut inbox = Inbox::new(16);
        assert_eq!(inbox.receive(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = UdpSocket::bind(local).unwrap();
        for n in 0..40u8 {
            client.send_to(&vec![n; usize::from(n)], server.local_addr().unwrap()).unwrap();
        }
        let mut outbox = Outbox::new(16);
        let mut seen = Vec::new();
        while inbox.receive(&server).is_ok() {
            for datagram in inbox.iter() {
                assert_eq!(datagram.peer.address(), Some(client.local_addr().unwrap()));
                assert_eq!(datagram.link, Some(1), "it came by the loopback link");
                assert_eq!(datagram.truncated, seen.len() > 16);
                outbox.room()[..datagram.bytes.len()].copy_from_slice(datagram.bytes);
                outbox.push(datagram.bytes.len(), datagram.peer);
                seen.push(datagram.bytes.len());
            }
            outbox.send(&server);
        }
        assert_eq!(seen, (0..40).map(|n: usize| n.min(16)).collect::<Vec<_>>());
        let mut buffer = [0; 64];
        for n in 0..40usize {
            assert_eq!(client.recv(&mut buffer).unwrap(), n.min(16));
        }
    }

    #[test]
    fn datagrams_come_and_go_in_batches_with_sender_link_and_length() {
        round("127.0.0.1:0");
        round("[::1]:0");
    }

    #[test]
    fn control_messages_of_whatever_content_are_read_without_a_panic() {
        for word in [0, 1, 15, 16, 17, 28, u64::MAX] {
            for length in 0..=64 {
                assert!(
                    link(&[word, 8 << 32, word, word, 3, 0, word, word], length).is_none_or(|_| length > 16)
                );
            }
        }
    }
}
