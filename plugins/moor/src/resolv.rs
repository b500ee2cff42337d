//! The name servers of this host.

use std::net::IpAddr;
use std::path::Path;

use crate::files;

/// The largest resolver configuration that is read, in bytes.
const SIZE_MAX: u64 = 64 * 1024;

/// The servers of `/etc/resolv.conf`; none when it cannot be read.
pub fn name_servers() -> Vec<IpAddr> {
    let bytes = files::read(Path::new("/etc/resolv.conf"), SIZE_MAX).unwrap_or_default();
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next())?;
        address.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_with_their_zones() {
        let text =
            "search x\nnameserver 10.0.0.53\n# nameserver 10.0.0.54\nnameserver fe80::1%eth0\nnameserver\n";
        let read: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(read, ["10.0.0.53", "fe80::1"]);
    }
}
