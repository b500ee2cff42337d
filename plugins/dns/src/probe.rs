//! One question to a server, and the addresses that it answers with (RFC 1035).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use crate::wire::{HEADER, UDP_PLAIN, flag, kind};

/// How long a server of this very host may take. It takes some 50 microseconds.
const PATIENCE: Duration = Duration::from_secs(1);
const DNS_PORT: u16 = 53;
/// Any number will do: the socket is connected, so nobody else answers.
const ID: [u8; 2] = [0x6d, 0x6f];
const IN: u16 = 1;

/// The addresses of one family that the server at `server`, port 53, tells of a name.
///
/// # Errors
/// There was no answer in time, or none that can be read, or one that is an error.
pub fn addresses(server: IpAddr, name: &str, v4: bool) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, DNS_PORT))?;
    let wanted = if v4 { kind::A } else { kind::AAAA };
    socket.send(&question(name, wanted))?;
    let mut answer = [0; UDP_PLAIN];
    let length = match socket.recv(&mut answer) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
        received => received?,
    };
    let answer = answer.get(..length).unwrap_or_default();
    read(answer, wanted).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it answers with an error"))
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

/// Where a name ends; one that ends with a pointer ends there.
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
    fn addresses_are_read_out_of_an_answer() {
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
        fn no_answer_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut answer = question("a", kind::A);
            answer[2] = 0x80;
            answer[7] = 9;
            answer.extend(bytes);
            let _ = read(&answer, kind::A);
        }
    }
}
