//! Chooses free host ports.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::path::Path;

use nft::{Nft, Protocol};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, bind, setsockopt,
    socket, sockopt::Ipv6V6Only,
};
use sys::{Result, sysctl};

use super::Refusal;
use super::elements::{self, attachment};
use super::layout::{V4, V6};
use crate::Owner;
use crate::owner::fnv1a;
use crate::ports::Mapping;

/// The ports without an assigned service (RFC 6335, section 6).
pub(super) const RANGE: (u16, u16) = (49_152, 65_535);
/// The range of ports that the kernel assigns to programs which request none: two numbers.
const LOCAL_RANGE: &str = "net/ipv4/ip_local_port_range";

/// Chooses a port for each of these protocols. It is one that no attachment publishes, that is not
/// in `avoid`, and that a program of this host could bind in both families, which is tried. Ports
/// that the kernel does not assign by itself come first: no program gets those later by chance.
///
/// Another process may take the port first; then the ledger refuses it ([`Refusal::Taken`]), and
/// the caller chooses again.
///
/// # Errors
/// [`Refusal::NoneFree`], or the kernel could not be asked.
pub fn choose(nft: &Nft, owner: &Owner, protos: &[u8], avoid: &[Mapping]) -> Result<Vec<u16>> {
    let mut theirs = published(nft, owner)?;
    theirs.extend_from_slice(avoid);
    let mut candidates = candidates(owner).into_iter();
    let mut chosen = Vec::new();
    for &proto in protos {
        let is_published = |port: u16| {
            let of = |mapping: &Mapping| {
                mapping.proto == proto && (mapping.ports.0..=mapping.ports.1).contains(&port)
            };
            theirs.iter().any(of)
        };
        let free = candidates.find_map(|port| match is_published(port) {
            true => None,
            false => is_free(proto, port).map(|free| free.then_some(port)).transpose(),
        });
        chosen.push(free.ok_or(Refusal::NoneFree(proto))??);
    }
    Ok(chosen)
}

/// All ports of the range, each once. The first one differs between attachments, so that few of
/// them choose the same.
fn candidates(owner: &Owner) -> Vec<u16> {
    let text = sysctl::read(LOCAL_RANGE).unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|number| number.parse::<u16>().ok());
    let local = numbers.next().zip(numbers.next());
    let is_local = |port: &u16| local.is_some_and(|(first, last)| (first..=last).contains(port));
    let (mut later, mut first): (Vec<u16>, Vec<u16>) = (RANGE.0..=RANGE.1).partition(is_local);
    let hash = usize::try_from(fnv1a(owner.label().bytes()) >> 32).unwrap_or_default();
    for ports in [&mut first, &mut later] {
        let begin = hash.checked_rem(ports.len()).unwrap_or_default();
        ports.rotate_left(begin);
    }
    first.append(&mut later);
    first
}

/// The ports of all other attachments.
fn published(nft: &Nft, owner: &Owner) -> Result<Vec<Mapping>> {
    let label = owner.label();
    let is_other =
        |comment: Option<&str>| comment.is_some_and(|comment| attachment(comment) != attachment(&label));
    let mut all = Vec::new();
    for set in [&V4, &V6]
        .into_iter()
        .flat_map(|sets| [sets.ports, sets.ports_at, sets.ranges, sets.ranges_at, sets.elsewhere])
    {
        for element in nft.elements(&set)? {
            if is_other(element.comment.as_deref()) {
                all.extend(elements::read(&set, &element).map(|(mapping, _)| mapping));
            }
        }
    }
    Ok(all)
}

/// Whether a program of this host could bind the port in both families, so that no socket has it at
/// any address. One dual-stack IPv6 socket checks both. It is closed at once, and nobody can
/// connect to it.
fn is_free(proto: u8, port: u16) -> Result<bool> {
    let (kind, protocol) = match proto {
        Protocol::TCP => (SockType::Stream, SockProtocol::Tcp),
        Protocol::UDP => (SockType::Datagram, SockProtocol::Udp),
        // Without this directory SCTP is not loaded, and a socket of it would load the module.
        _ if !Path::new("/proc/net/sctp").exists() => return Ok(true),
        _ => (SockType::Stream, SockProtocol::Sctp),
    };
    let v6 = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    let v4 = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port));
    let outcome = match try_to_bind(AddressFamily::Inet6, kind, protocol, &v6) {
        // The host has no IPv6.
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
            try_to_bind(AddressFamily::Inet, kind, protocol, &v4)
        }
        outcome => outcome,
    };
    match outcome {
        Ok(()) => Ok(true),
        Err(Errno::EADDRINUSE) => Ok(false),
        Err(errno) => Err(sys::Error::new("try host port", port.to_string(), io::Error::from(errno))),
    }
}

fn try_to_bind(
    family: AddressFamily,
    kind: SockType,
    protocol: SockProtocol,
    address: &dyn SockaddrLike,
) -> nix::Result<()> {
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&socket, Ipv6V6Only, &false)?;
    }
    // Without SO_REUSEADDR, any socket that is bound to the port makes this fail.
    bind(socket.as_raw_fd(), address)
}
