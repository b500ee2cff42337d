//! Steady pings between containers, each counted.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::host::Guest;
use crate::namespace::inside;
use crate::patience::on_this_machine;

/// Between two pings to one address.
const EVERY: Duration = Duration::from_millis(20);
/// How long the last answers may take on an idle machine.
const LAST: Duration = Duration::from_millis(500);
/// ICMP (RFC 792): the types, and the identifier of these pings.
const REQUEST: u8 = 8;
const REPLY: u8 = 0;
const IDENTIFIER: [u8; 2] = *b"mr";

/// Pings from one container to others, in the background.
pub struct Pings {
    from: String,
    to: Vec<String>,
    stop: Arc<AtomicBool>,
    work: JoinHandle<Result<Tally>>,
}

/// Unanswered pings by address: when each was sent, since the first.
type Tally = (usize, BTreeMap<(usize, u16), Duration>);

impl Pings {
    /// Starts them, to IPv4 addresses that are reached already.
    pub fn start(from: &Guest, to: &[String]) -> Result<Self> {
        let names = to.to_vec();
        let to = to.iter().map(|to| to.parse().with_context(|| format!("{to} is no IPv4 address")));
        let to: Vec<Ipv4Addr> = to.collect::<Result<_>>()?;
        let socket = inside(&from.ns, || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp).context("open a raw socket")
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let until = stop.clone();
        let work = std::thread::spawn(move || send_all(&socket, &to, &until));
        Ok(Self { from: from.ns.clone(), to: names, stop, work })
    }

    /// Ends them: each must have been answered. Returns how many there were.
    pub fn none_lost(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, lost) = self.work.join().map_err(|_| anyhow!("the pings panicked"))??;
        let place = |nth: usize| self.to.get(nth).map_or("", String::as_str);
        let shown = lost.iter().take(8);
        let shown = shown.map(|((nth, _), at)| format!("to {} after {} ms", place(*nth), at.as_millis()));
        let shown: Vec<_> = shown.collect();
        ensure!(
            lost.is_empty(),
            "{} of {sent} pings from {} are lost: {}",
            lost.len(),
            self.from,
            shown.join(", ")
        );
        ensure!(sent > 0, "no ping was sent from {}", self.from);
        Ok(sent)
    }
}

fn send_all(socket: &OwnedFd, to: &[Ipv4Addr], stop: &AtomicBool) -> Result<Tally> {
    let began = Instant::now();
    let (mut sent, mut number) = (0, 0u16);
    let mut open = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        for (nth, address) in to.iter().enumerate() {
            let at = SockaddrIn::from(SocketAddrV4::new(*address, 0));
            // A full queue is no lost packet of the network's.
            if sendto(socket.as_raw_fd(), &request(nth, number), &at, MsgFlags::empty()).is_ok() {
                open.insert((nth, number), began.elapsed());
                sent += 1;
            }
        }
        receive(socket, Instant::now() + EVERY, false, &mut open)?;
        number = number.wrapping_add(1);
    }
    receive(socket, Instant::now() + on_this_machine(LAST), true, &mut open)?;
    Ok((sent, open))
}

/// Takes answers until a time, or until none is open.
fn receive(
    socket: &OwnedFd,
    until: Instant,
    is_last: bool,
    open: &mut BTreeMap<(usize, u16), Duration>,
) -> Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || (is_last && open.is_empty()) {
            return Ok(());
        }
        let timeout = PollTimeout::try_from(left.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], timeout).context("wait for an answer")?;
        let mut packet = [0; 128];
        while let Ok(length) = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
            if let Some(answered) = answered(packet.get(..length).unwrap_or_default()) {
                open.remove(&answered);
            }
        }
    }
}

/// Sends that many pings from a namespace, each when the one before is answered; returns their round
/// trips.
pub fn round_trips(ns: &str, to: &str, count: usize) -> Result<Vec<Duration>> {
    let to: Ipv4Addr = to.parse().with_context(|| format!("{to} is no IPv4 address"))?;
    let socket = inside(ns, || {
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp).context("open a raw socket")
    })?;
    let limit = TimeVal::milliseconds(on_this_machine(LAST).as_millis().try_into()?);
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
    let at = SockaddrIn::from(SocketAddrV4::new(to, 0));
    let mut times = vec![];
    for number in (0..=u16::MAX).cycle().take(count) {
        let began = Instant::now();
        sendto(socket.as_raw_fd(), &request(0, number), &at, MsgFlags::empty()).context("send a ping")?;
        let mut packet = [0; 128];
        loop {
            let length = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty())
                .with_context(|| format!("no answer from {to}"))?;
            if answered(packet.get(..length).unwrap_or_default()) == Some((0, number)) {
                break;
            }
        }
        times.push(began.elapsed());
    }
    Ok(times)
}

/// An echo request: the kernel adds the IP header.
fn request(nth: usize, number: u16) -> [u8; 10] {
    let mut packet = [0; 10];
    packet[0] = REQUEST;
    packet[4..6].copy_from_slice(&IDENTIFIER);
    packet[6..8].copy_from_slice(&number.to_be_bytes());
    packet[8..10].copy_from_slice(&u16::try_from(nth).unwrap_or(u16::MAX).to_be_bytes());
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or(u16::MAX);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// The ping that an IP packet answers.
fn answered(packet: &[u8]) -> Option<(usize, u16)> {
    let icmp = packet.get(usize::from(packet.first()? & 0x0f) * 4..)?;
    let [kind, _, _, _, high, low, number @ .., nth_high, nth_low] = icmp.get(..10)? else { return None };
    let number = u16::from_be_bytes(number.try_into().ok()?);
    (*kind == REPLY && [*high, *low] == IDENTIFIER)
        .then(|| (usize::from(u16::from_be_bytes([*nth_high, *nth_low])), number))
}
