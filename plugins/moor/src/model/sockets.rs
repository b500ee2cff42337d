//! The sockets of this host that others can send to, and the processes that have them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::files;
use crate::output::Note;

use super::processes::is_hidden;

/// The longest list of sockets that is read, in bytes.
const LIST_MAX: u64 = 256 * 1024 * 1024;
/// The states of a socket that is sent to (include/net/tcp_states.h): TCP_LISTEN; of UDP,
/// TCP_CLOSE: it is connected to nobody.
const LISTEN: &str = "0A";
const UNCONNECTED: &str = "07";

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Socket {
    /// `tcp` or `udp`.
    pub protocol: &'static str,
    /// The address; unspecified for every address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The inode, by which its processes are found.
    inode: u64,
}

/// Reads the sockets.
pub fn read(notes: &mut Vec<Note>) -> Vec<Socket> {
    let mut all = Vec::new();
    for (file, protocol, state) in [
        ("tcp", "tcp", LISTEN),
        ("tcp6", "tcp", LISTEN),
        ("udp", "udp", UNCONNECTED),
        ("udp6", "udp", UNCONNECTED),
    ] {
        let path = format!("/proc/thread-self/net/{file}");
        match files::read(Path::new(&path), LIST_MAX) {
            Ok(text) => all.extend(parse(&String::from_utf8_lossy(&text), protocol, state)),
            // The host is without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => notes.push(Note::about("sockets", Path::new(&path), format!("read: {error}"))),
        }
    }
    all
}

fn parse<'t>(text: &'t str, protocol: &'static str, state: &'t str) -> impl Iterator<Item = Socket> + 't {
    text.lines().skip(1).filter_map(move |line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words.get(1)?.split_once(':')?;
        let inode = words.get(9)?.parse().ok()?;
        let port = u16::from_str_radix(port, 16).ok().filter(|port| *port != 0)?;
        let is_wanted = words.get(3) == Some(&state);
        is_wanted.then_some(Socket { protocol, address: ip(address)?, port, inode })
    })
}

/// The kernel writes an address in words of 32 bits, each in the host's byte order.
fn ip(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical())
        }
        _ => None,
    }
}

/// A process of each of these sockets: the one with the lowest of these pids. The second value is
/// the number of processes that may not be looked at.
pub fn owners(sockets: &[Socket], pids: impl Iterator<Item = u32>) -> (HashMap<u64, u32>, usize) {
    let mut missing: HashSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let (mut found, mut hidden) = (HashMap::new(), 0);
    for pid in pids {
        if missing.is_empty() {
            break;
        }
        let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
            Ok(entries) => entries,
            Err(error) => {
                hidden += usize::from(is_hidden(pid, &error));
                continue;
            }
        };
        for entry in entries.flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
            let Some(inode) = inode.and_then(|inode| inode.parse().ok()) else { continue };
            if missing.remove(&inode) {
                found.insert(inode, pid);
            }
        }
    }
    (found, hidden)
}

impl Socket {
    /// Its process, among the found ones.
    pub fn owner(&self, owners: &HashMap<u64, u32>) -> Option<u32> {
        owners.get(&self.inode).copied()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listening_socket_is_found_with_its_process_and_a_connected_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _connected = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut notes = Vec::new();
        let of_port: Vec<_> = read(&mut notes).into_iter().filter(|socket| socket.port == port).collect();
        assert_eq!(of_port.len(), 1, "{of_port:?} {notes:?}");
        assert_eq!(of_port[0].address, "127.0.0.1".parse::<IpAddr>().unwrap());
        let (owners, _) = owners(&of_port, [std::process::id()].into_iter());
        assert_eq!(of_port[0].owner(&owners), Some(std::process::id()));
    }

    #[test]
    fn a_mapped_address_is_one_of_ipv4() {
        let text = "heading\n  0: 0000000000000000FFFF00000100007F:1F90 \
            00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 77 1\n";
        let sockets: Vec<_> = parse(text, "tcp", LISTEN).collect();
        assert_eq!(sockets[0].port, 8080);
        if cfg!(target_endian = "little") {
            assert_eq!(sockets[0].address, "127.0.0.1".parse::<IpAddr>().unwrap());
        }
    }
}
