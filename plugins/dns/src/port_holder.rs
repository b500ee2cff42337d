//! Finds the process that has a port which the responder needs, as far as /proc shows it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{fmt, fs};

use crate::control::PROCESS_NAME;

/// Sockets of this network namespace (proc(5)), by protocol and family.
const TABLES: [&str; 4] = ["/proc/net/udp", "/proc/net/udp6", "/proc/net/tcp", "/proc/net/tcp6"];
/// net/tcp_states.h: a listening TCP socket, and a bound UDP socket that is not connected.
const WAITING: [&str; 2] = ["0A", "07"];

/// A process that has the port.
#[derive(Debug)]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The process that has the port at one of the addresses or at all: `dnsmasq (process 123)`.
/// `None` if there is none, or it belongs to another user.
pub fn find(addresses: &[IpAddr], port: u16) -> Option<Holder> {
    let mut inodes = Vec::new();
    for table in TABLES.iter().filter_map(|table| fs::read_to_string(table).ok()) {
        let held = table.lines().filter_map(|line| socket(line, addresses, port));
        inodes.extend(held.map(|inode| format!("socket:[{inode}]")));
    }
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().into_string().ok()).find_map(|pid| {
        let pid = pid.parse().ok()?;
        let mut open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
        open.find(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|to| inodes.iter().any(|inode| to.as_os_str() == inode.as_str()))
        })?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let name = name.trim_end();
        // The responder may listen at other addresses of its network.
        (name.as_bytes() != PROCESS_NAME.to_bytes()).then(|| Holder { pid, name: name.to_owned() })
    })
}

/// The inode in a line of the table, if the socket conflicts.
fn socket<'a>(line: &'a str, addresses: &[IpAddr], port: u16) -> Option<&'a str> {
    let mut words = line.split_ascii_whitespace();
    let (ip, at) = words.nth(1)?.split_once(':')?;
    let ip = address(ip)?;
    let state = words.nth(1)?;
    let wanted = u16::from_str_radix(at, 16) == Ok(port) && (ip.is_unspecified() || addresses.contains(&ip));
    // After the state: queues, timer, retransmissions, user, timeout.
    if wanted && WAITING.contains(&state) { words.nth(5) } else { None }
}

/// Parses an address as the kernel prints it: 32-bit words in host byte order.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            Some(Ipv6Addr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The process is named if it is visible.
    #[test]
    fn the_process_that_has_the_port_is_found() {
        let ours = std::process::id().to_string();
        for at in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let udp = std::net::UdpSocket::bind(at).unwrap();
            let tcp = std::net::TcpListener::bind(at).unwrap();
            for port in [udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port()] {
                let wanted = [udp.local_addr().unwrap().ip()];
                let holder = find(&wanted, port).unwrap();
                assert!(holder.to_string().contains(&format!("(process {ours})")), "{holder}");
            }
            let port = tcp.local_addr().unwrap().port();
            drop((udp, tcp));
            assert!(find(&["192.0.2.1".parse().unwrap()], port).is_none());
        }
    }

    #[test]
    fn only_a_socket_at_the_port_and_address_conflicts() {
        let line = "  12: 0158580A:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0";
        let ours = [IpAddr::from([10, 88, 88, 1])];
        assert_eq!(socket(line, &ours, 53), Some("4711"));
        assert_eq!(socket(line, &ours, 54), None);
        assert_eq!(socket(line, &[IpAddr::from([10, 88, 88, 2])], 53), None);
        assert_eq!(socket(&line.replace(" 07 ", " 01 "), &ours, 53), None);
        assert_eq!(socket("sl local_address rem_address st", &ours, 53), None);
    }
}
