//! Sockets at port 53, the responder, and the name servers that it asks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use super::super::facts::Listener;
use super::{names, text};

const PORT: u16 = 53;
/// A TCP socket that listens (TCP_LISTEN of the kernel's tcp_states.h).
const LISTEN: &str = "0A";
/// The responder's executable, under either of its names.
const RESPONDER: [&str; 2] = ["dns", "moor-plugins"];
const STATE: &str = "/run/moor/dns";

struct Socket {
    address: IpAddr,
    protocol: &'static str,
    inode: String,
}

/// Who has port 53, but the responder.
pub fn port53() -> Vec<Listener> {
    let files = [("udp", "udp"), ("udp6", "udp"), ("tcp", "tcp"), ("tcp6", "tcp")];
    let mut sockets = Vec::new();
    for (file, protocol) in files {
        let table = text(&Path::new("/proc/net").join(file)).unwrap_or_default();
        sockets.extend(table.lines().skip(1).filter_map(|line| socket(line, protocol, PORT)));
    }
    if sockets.is_empty() {
        return Vec::new();
    }
    let owners = owners(&sockets);
    let listener = |(socket, owner): (Socket, Option<(u32, String)>)| {
        let who = owner.map_or("another program".into(), |(pid, name)| format!("{name}, pid {pid}"));
        Listener { address: socket.address, protocol: socket.protocol, who }
    };
    let all = sockets.into_iter().zip(owners);
    let is_responder = |owner: &Option<(u32, String)>| {
        owner.as_ref().is_some_and(|(_, name)| RESPONDER.contains(&name.as_str()))
    };
    all.filter(|(_, owner)| !is_responder(owner)).map(listener).collect()
}

/// The program that has a UDP port; the kernel's own sockets are no program's.
pub fn udp_owner(port: u16) -> Option<String> {
    let mut sockets = Vec::new();
    for file in ["udp", "udp6"] {
        let table = text(&Path::new("/proc/net").join(file)).unwrap_or_default();
        sockets.extend(table.lines().skip(1).filter_map(|line| socket(line, "udp", port)));
    }
    if sockets.is_empty() {
        return None;
    }
    let owner = owners(&sockets).into_iter().zip(&sockets).find_map(|(owner, socket)| Some((owner?, socket)));
    owner.map(|((pid, name), socket)| format!("{name}, pid {pid}, at {}", socket.address))
}

/// `sl local_address rem_address st ... inode`, the address in the machine's byte order.
fn socket(line: &str, protocol: &'static str, wanted: u16) -> Option<Socket> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (address, port) = words.get(1)?.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != wanted || (protocol == "tcp" && *words.get(3)? != LISTEN) {
        return None;
    }
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = if address.len() == 8 {
        Ipv4Addr::from(word(0)?).into()
    } else {
        let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
        Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()
    };
    Some(Socket { address, protocol, inode: (*words.get(9)?).to_owned() })
}

/// The process of each socket: its id and the name of its executable.
fn owners(sockets: &[Socket]) -> Vec<Option<(u32, String)>> {
    let mut owners = vec![None; sockets.len()];
    for pid in names(Path::new("/proc")).iter().filter_map(|name| name.parse::<u32>().ok()) {
        let dir = Path::new("/proc").join(pid.to_string());
        for entry in fs::read_dir(dir.join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.to_string_lossy();
            let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) else {
                continue;
            };
            for (socket, owner) in sockets.iter().zip(&mut owners) {
                if socket.inode == inode {
                    *owner = Some((pid, program(&dir)));
                }
            }
        }
    }
    owners
}

fn program(dir: &Path) -> String {
    let exe = fs::read_link(dir.join("exe")).ok();
    let name = exe.and_then(|exe| Some(exe.file_name()?.to_string_lossy().replace(" (deleted)", "")));
    name.or_else(|| text(&dir.join("comm")).map(|comm| comm.trim().to_owned())).unwrap_or_default()
}

/// Whether this namespace's responder has its control socket; `None` without records.
pub fn responder(cookie: Option<u64>) -> Option<bool> {
    let dir = Path::new(STATE).join(cookie?.to_string());
    let net = dir.join("net");
    let has_records = names(&net).iter().any(|network| !names(&net.join(network).join("att")).is_empty());
    let socket = dir.join("control.sock").display().to_string();
    let sockets = text(Path::new("/proc/net/unix")).unwrap_or_default();
    has_records.then(|| sockets.lines().any(|line| line.ends_with(&socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_at_port_53_are_found_in_the_kernels_tables() {
        let line =
            |address: &str, state: &str| format!("0: {address} 00000000:0000 {state} 0:0 0:0 0 0 0 77");
        let v4 = u32::from_ne_bytes([10, 90, 1, 1]);
        let found = socket(&line(&format!("{v4:08X}:0035"), "07"), "udp", PORT).map(|socket| socket.address);
        assert_eq!(found, Some("10.90.1.1".parse().unwrap()));
        let any6 = format!("{}:0035", "0".repeat(32));
        assert!(
            socket(&line(&any6, "0A"), "tcp", PORT).is_some_and(|socket| socket.address.is_unspecified())
        );
        assert!(socket(&line(&any6, "01"), "tcp", PORT).is_none(), "a connection");
        assert!(socket(&line("00000000:0036", "07"), "udp", PORT).is_none());
    }
}
