//! Batches of datagrams in one system call, without an allocation per datagram.

use std::cmp::Reverse;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use crate::IpFamily;
use crate::calls::{self, Head, RawAddress, RawControl, Train};

/// A control message begins with its length (one machine word), its level and its type, padded to a
/// word.
const WORD: usize = size_of::<usize>();
const HEAD: usize = (WORD + 8).next_multiple_of(WORD);

/// The most datagrams that one call moves.
pub const BATCH: usize = calls::BATCH;

/// Received datagrams.
#[derive(Debug)]
pub struct Inbox {
    data: Box<[u8]>,
    size: usize,
    peers: [RawAddress; BATCH],
    controls: [RawControl; BATCH],
    heads: [Head; BATCH],
    count: usize,
}

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its bytes, cut off at the size of its buffer.
    pub bytes: &'a [u8],
    /// Whether bytes were cut off.
    pub truncated: bool,
    /// Its sender.
    pub peer: Peer,
    /// Index of the link it arrived on, if the socket reports it (IP_PKTINFO, IPV6_RECVPKTINFO).
    pub link: Option<u32>,
}

/// The address of a datagram's sender or receiver, as the kernel writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(RawAddress);

impl Peer {
    /// The address and port; `None` for a family other than IP.
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
    /// Creates an empty inbox with [`BATCH`] buffers of `size` bytes.
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

    /// Receives the queued datagrams, replacing those received before; returns how many.
    ///
    /// # Errors
    /// `WouldBlock` when none is queued; or a pending error of a datagram sent earlier.
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.count = 0;
        self.count = calls::receive_many(
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

/// Returns the link's index from `length` bytes of control messages (`struct cmsghdr`,
/// uapi/linux/in.h `in_pktinfo`, in6.h `in6_pktinfo`).
pub(crate) fn link(control: &[u64], length: usize) -> Option<u32> {
    let mut bytes = [0; size_of::<RawControl>()];
    for (to, from) in bytes.chunks_exact_mut(8).zip(control) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    let mut rest = bytes.get(..length)?;
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

/// Returns the index of the link on which an accepted connection's first packet arrived. The
/// listening socket must have IP_PKTINFO set; IPv6 needs no option.
pub fn link_of_connection(socket: &impl AsFd, family: IpFamily) -> io::Result<Option<u32>> {
    /// uapi/linux/in.h; on a stream it returns what IP_PKTINFO returns on a datagram
    /// (net/ipv4/ip_sockglue.c).
    const IP_PKTOPTIONS: i32 = 9;
    let mut value = [0; 8];
    if family == IpFamily::V4 {
        let length = calls::socket_option(socket.as_fd(), libc::IPPROTO_IP, IP_PKTOPTIONS, &mut value)?;
        return Ok(link(&value, length));
    }
    // IPv6 sets the multicast interface of an accepted connection to the link it arrived on
    // (net/ipv6/tcp_ipv6.c).
    calls::socket_option(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &mut value[..1])?;
    let bytes = value[0].to_ne_bytes();
    Ok(Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])))
}

/// Datagrams to send.
///
/// Datagrams to the same address are sent as one train (udp(7), UDP_SEGMENT): a resolver library
/// asks for both address families at once from one port, and a busy client asks more. The kernel's
/// path is the most expensive part of an answer, and a train takes it once. All datagrams of a
/// train except the last have the same length, so longer ones are sent first.
#[derive(Debug)]
pub struct Outbox {
    data: Box<[u8]>,
    size: usize,
    peers: [RawAddress; BATCH],
    lengths: [usize; BATCH],
    count: usize,
    /// Whether the kernel accepts trains.
    together: bool,
}

impl Outbox {
    /// Creates an empty outbox with [`BATCH`] buffers of `size` bytes.
    pub fn new(size: usize) -> Self {
        let data = vec![0; size * BATCH].into();
        Self { data, size, peers: [[0; 8]; BATCH], lengths: [0; BATCH], count: 0, together: true }
    }

    /// The buffer of the next datagram; empty when [`BATCH`] datagrams are waiting.
    pub fn room(&mut self) -> &mut [u8] {
        self.data.get_mut(self.count * self.size..(self.count + 1) * self.size).unwrap_or_default()
    }

    /// Queues the first `length` bytes of [`Self::room`] as a datagram to `peer`.
    pub fn push(&mut self, length: usize, peer: Peer) {
        if let (Some(to), Some(held)) = (self.peers.get_mut(self.count), self.lengths.get_mut(self.count)) {
            *to = peer.0;
            *held = length.min(self.size);
            self.count += 1;
        }
    }

    /// Sends all queued datagrams. One that the kernel refuses is dropped, as if lost on the
    /// network.
    pub fn send(&mut self, socket: &impl AsFd) {
        let mut order: [usize; BATCH] = std::array::from_fn(|n| n);
        let mut rest = order.get_mut(..self.count).unwrap_or_default();
        rest.sort_unstable_by_key(|n| (self.peers[*n], Reverse(self.lengths[*n]), *n));
        let mut trains = [Train { count: 0, control: [0; 8], control_length: 0 }; BATCH];
        while !rest.is_empty() {
            let made = self.couple(rest, &mut trains);
            let trains = trains.get(..made).unwrap_or_default();
            let sent = calls::send_many(
                socket.as_fd(),
                &self.data,
                self.size,
                rest,
                &self.lengths,
                &self.peers,
                trains,
            );
            let first = trains.first().map_or(rest.len(), |train| train.count);
            let gone = match sent {
                Ok(sent) => trains.iter().take(sent.max(1)).map(|train| train.count).sum(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                // An old kernel, a link with a smaller MTU, or one without checksum offload.
                Err(error) if first > 1 && is_about_trains(&error) => {
                    self.together = false;
                    0
                }
                Err(_) => first,
            };
            rest = rest.get_mut(gone..).unwrap_or_default();
        }
        self.count = 0;
    }

    /// Groups the datagrams into trains; returns how many there are.
    fn couple(&self, order: &[usize], trains: &mut [Train; BATCH]) -> usize {
        let mut made = 0;
        let mut rest = order;
        while let (Some(first), Some(train)) = (rest.first(), trains.get_mut(made)) {
            let (peer, length) = (self.peers[*first], self.lengths[*first]);
            let mut count = 1;
            // A shorter datagram ends a train; an empty one cannot be part of one.
            while self.together
                && self.lengths[rest[count - 1]] == length
                && rest.get(count).is_some_and(|next| self.peers[*next] == peer && self.lengths[*next] > 0)
            {
                count += 1;
            }
            let (control, control_length) = if count > 1 { segments_of(length) } else { ([0; 8], 0) };
            *train = Train { count, control, control_length };
            rest = rest.get(count..).unwrap_or_default();
            made += 1;
        }
        made
    }
}

fn is_about_trains(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    matches!(errno, Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE | libc::EOPNOTSUPP))
}

/// The control message UDP_SEGMENT (uapi/linux/udp.h): a datagram starts every `length` bytes.
fn segments_of(length: usize) -> (RawControl, usize) {
    let mut bytes = [0; size_of::<RawControl>()];
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    bytes[..WORD].copy_from_slice(&(HEAD + size_of::<u16>()).to_ne_bytes());
    bytes[WORD..WORD + 4].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    bytes[WORD + 4..WORD + 8].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    bytes[HEAD..HEAD + 2].copy_from_slice(&length.to_ne_bytes());
    let mut control = [0; 8];
    for (to, from) in control.iter_mut().zip(bytes.chunks_exact(8)) {
        *to = u64::from_ne_bytes(from.try_into().unwrap_or_default());
    }
    (control, (HEAD + size_of::<u16>()).next_multiple_of(WORD))
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
                assert_eq!(datagram.link, Some(1), "it arrived on the loopback link");
                assert_eq!(datagram.truncated, seen.len() > 16);
                outbox.room()[..datagram.bytes.len()].copy_from_slice(datagram.bytes);
                outbox.push(datagram.bytes.len(), datagram.peer);
                seen.push(datagram.bytes.len());
            }
            outbox.send(&server);
        }
        assert_eq!(seen, (0..40).map(|n: usize| n.min(16)).collect::<Vec<_>>());
        let mut buffer = [0; 64];
        let mut lengths: Vec<usize> = (0..40).map(|_| client.recv(&mut buffer).unwrap()).collect();
        // Datagrams to one address may arrive in another order.
        lengths.sort_unstable();
        assert_eq!(lengths, seen);
    }

    /// Datagrams sent as a train arrive whole, one by one, each at its own address.
    #[test]
    fn datagrams_of_a_train_arrive_one_by_one() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        for together in [true, false] {
            let clients = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
            let mut outbox = Outbox { together, ..Outbox::new(64) };
            let mut wanted: [Vec<Vec<u8>>; 3] = [const { Vec::new() }; 3];
            for n in 0..u8::try_from(BATCH).unwrap() {
                let client = usize::from(n) % 3;
                let bytes = vec![n; [20, 20, 40, 1, 20, 40, 0][usize::from(n) % 7]];
                outbox.room()[..bytes.len()].copy_from_slice(&bytes);
                let mut address = [0; 8];
                let SocketAddr::V4(to) = clients[client].local_addr().unwrap() else { panic!("it is IPv4") };
                let [high, low] = to.port().to_be_bytes();
                let [f, g] = u16::try_from(libc::AF_INET).unwrap().to_ne_bytes();
                address[0] = u32::from_ne_bytes([f, g, high, low]);
                address[1] = u32::from_ne_bytes(to.ip().octets());
                outbox.push(bytes.len(), Peer(address));
                wanted[client].push(bytes);
            }
            outbox.send(&server);
            assert_eq!((outbox.count, outbox.together), (0, together));
            for (client, mut wanted) in clients.iter().zip(wanted) {
                client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
                let mut buffer = [0; 128];
                let mut come: Vec<Vec<u8>> = wanted
                    .iter()
                    .map(|_| {
                        let length = client.recv(&mut buffer).unwrap();
                        buffer[..length].to_vec()
                    })
                    .collect();
                come.sort_unstable();
                wanted.sort_unstable();
                assert_eq!(come, wanted);
            }
        }
    }

    #[test]
    fn only_the_last_datagram_of_a_train_is_shorter() {
        let mut outbox = Outbox::new(64);
        for length in [10, 30, 30, 20, 20, 10, 0] {
            outbox.push(length, Peer([1; 8]));
        }
        outbox.push(30, Peer([2; 8]));
        let mut order: Vec<usize> = (0..8).collect();
        order.sort_unstable_by_key(|n| (outbox.peers[*n], Reverse(outbox.lengths[*n]), *n));
        let mut trains = [Train { count: 0, control: [0; 8], control_length: 0 }; BATCH];
        let made = outbox.couple(&order, &mut trains);
        let counts: Vec<usize> = trains[..made].iter().map(|train| train.count).collect();
        // 30 30 20, 20 10, 10, 0, and a 30 to another peer.
        assert_eq!(counts, [3, 2, 1, 1, 1]);
    }

    #[test]
    fn batches_carry_sender_link_and_length() {
        round("127.0.0.1:0");
        round("[::1]:0");
    }

    #[test]
    fn any_control_messages_are_read_without_panic() {
        for word in [0, 1, 15, 16, 17, 28, u64::MAX] {
            for length in 0..=64 {
                assert!(
                    link(&[word, 8 << 32, word, word, 3, 0, word, word], length).is_none_or(|_| length > 16)
                );
            }
        }
    }
}
