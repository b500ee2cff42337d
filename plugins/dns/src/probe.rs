//! Queries a server for the addresses of a name (RFC 1035).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use sys::IpFamily;

use crate::wire::{HEADER, UDP_PLAIN, flag, kind};

/// How long to wait before the query is sent again: first, and later. A server on this host
/// takes about 50 microseconds, but on a new bridge or under load a datagram may be lost.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(250);
/// The least time that a server gets, however late it is queried.
const MIN_TIME: Duration = Duration::from_secs(1);
const DNS_PORT: u16 = 53;
/// Any id will do: the socket is connected, so no other host answers.
const ID: [u8; 2] = [0x6d, 0x6f];
const IN: u16 = 1;

/// Queries port 53 of `server` for the addresses of a name in one family, repeatedly until
/// `until`.
///
/// # Errors
/// There was no answer in time, or it is malformed, or an error.
pub fn addresses(server: IpAddr, name: &str, family: IpFamily, until: Instant) -> io::Result<Vec<IpAddr>> {
    addresses_at((server, DNS_PORT).into(), name, family, until)
}

/// As [`addresses`], at another port.
///
/// # Errors
/// Those of [`addresses`].
pub fn addresses_at(
    server: SocketAddr,
    name: &str,
    family: IpFamily,
    until: Instant,
) -> io::Result<Vec<IpAddr>> {
    let socket = UdpSocket::bind((IpFamily::of(server.ip()).unspecified(), 0))?;
    let wanted = family.choose(kind::A, kind::AAAA);
    let question = question(name, wanted);
    let until = until.max(Instant::now() + MIN_TIME);
    let mut pause = FIRST_PAUSE;
    loop {
        let again = Instant::now() + pause;
        let asked = socket.connect(server).and_then(|()| socket.send(&question));
        let outcome = match asked.and_then(|_| receive(&socket, again)) {
            Err(error) if is_transient(&error) => {
                thread::sleep(again.saturating_duration_since(Instant::now()));
                Err(error)
            }
            Err(error) => return Err(error),
            Ok(Some(answer)) => {
                return read(&answer, wanted)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it answers with an error"));
            }
            Ok(None) => Err(io::ErrorKind::TimedOut.into()),
        };
        if Instant::now() >= until {
            return outcome;
        }
        pause = PAUSE;
    }
}

/// Whether the error may be temporary: an address or neighbour entry that is not there yet.
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable
            | io::ErrorKind::Interrupted
    )
}

/// Receives the answer to our query, if it comes before `until`.
fn receive(socket: &UdpSocket, until: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut answer = [0; UDP_PLAIN];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut answer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(length) if answer.get(..length).is_some_and(|answer| answer.starts_with(&ID)) => {
                return Ok(answer.get(..length).map(<[u8]>::to_vec));
            }
            Ok(_) => {}
        }
    }
}

fn question(name: &str, wanted: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + name.len() + 6);
    bytes.extend(ID);
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or_default());
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    bytes.extend(wanted.to_be_bytes());
    bytes.extend(IN.to_be_bytes());
    bytes
}

fn read(answer: &[u8], wanted: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes(*answer.get(at..)?.first_chunk()?));
    let header = word(2)?;
    if answer.get(..2)? != ID || header & flag::QR == 0 || header & flag::RCODE != 0 {
        return None;
    }
    let records = word(6)?;
    let mut at = after_name(answer, HEADER)? + 4;
    let mut addresses = Vec::new();
    for _ in 0..records {
        at = after_name(answer, at)?;
        let (found, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = answer.get(at + 10..at + 10 + length)?;
        if found == wanted {
            addresses.push(match (<[u8; 4]>::try_from(data), <[u8; 16]>::try_from(data)) {
                (Ok(v4), _) => IpAddr::from(v4),
                (_, Ok(v6)) => IpAddr::from(v6),
                _ => return None,
            });
        }
        at += 10 + length;
    }
    Some(addresses)
}

/// Skips a name; returns where it ends. A pointer ends a name.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match message.get(at)? {
            0 => return Some(at + 1),
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(*length),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_from_an_answer() {
        let mut answer = question("web.net", kind::A);
        answer[2] = 0x84;
        answer[7] = 2;
        answer.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 0, 0, 2, 0xc0, 12]);
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 10, 1, 2, 3]);
        assert_eq!(read(&answer, kind::A).unwrap(), [IpAddr::from([10, 1, 2, 3])]);
        answer[3] = 3;
        assert_eq!(read(&answer, kind::A), None);
    }

    proptest! {
        #[test]
        fn random_answers_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut answer = question("a", kind::A);
            answer[2] = 0x80;
            answer[7] = 9;
            answer.extend(bytes);
            let _ = read(&answer, kind::A);
        }
    }
}
