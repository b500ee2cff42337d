//! The host's name servers, from resolv.conf(5).

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use nix::net::if_::if_nametoindex;

use super::SERVERS_MAX;

/// The port of name servers in resolv.conf.
const PORT: u16 = 53;
/// How often the file is checked while there are queries. It is opened by path, so it may be
/// rewritten, replaced, or behind a chain of symbolic links. inotify watches one directory, and
/// a link may lead through many.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// A file that changed this recently may change again without a new timestamp.
const UNSETTLED: Duration = Duration::from_millis(100);
/// The longest file that is read.
const FILE_MAX: usize = 64 << 10;

/// Identifies one state of a file: device, inode, size, modification time, change time.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// The servers, and the state of the file that they were read from.
#[derive(Debug)]
pub struct HostServers {
    path: PathBuf,
    servers: Rc<[SocketAddr]>,
    stamp: Option<Stamp>,
    checked: Option<Instant>,
}

impl HostServers {
    /// Servers of the file at `path`.
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), servers: Rc::new([]), stamp: None, checked: None }
    }

    /// The servers, at most half a second old. Empty if there is no file.
    pub fn get(&mut self, now: Instant) -> &Rc<[SocketAddr]> {
        if self.checked.is_none_or(|checked| now.saturating_duration_since(checked) >= CHECK_INTERVAL) {
            self.checked = Some(now);
            self.check();
        }
        &self.servers
    }

    fn check(&mut self) {
        let meta = fs::metadata(&self.path).ok();
        let stamp = meta.as_ref().map(|meta| {
            let content = (meta.mtime(), meta.mtime_nsec());
            (meta.dev(), meta.ino(), meta.size(), content, (meta.ctime(), meta.ctime_nsec()))
        });
        if stamp.is_some() && stamp == self.stamp {
            return;
        }
        let settled = meta.and_then(|meta| meta.modified().ok()).is_some_and(|modified| {
            SystemTime::now().duration_since(modified).is_ok_and(|age| age > UNSETTLED)
        });
        let text = sys::file::read(&self.path, FILE_MAX).ok().flatten().unwrap_or_default();
        self.servers = parse(&String::from_utf8_lossy(&text)).into();
        self.stamp = stamp.filter(|_| settled);
    }
}

/// The first servers of a resolv.conf; other lines are skipped.
fn parse(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        address(words.next()?)
    });
    let mut unique = Vec::new();
    for server in servers {
        if !unique.contains(&server) {
            unique.push(server);
        }
    }
    unique.truncate(SERVERS_MAX);
    unique
}

/// An address. An IPv6 address may have a zone: a link's name or index (RFC 4007, section 11).
fn address(text: &str) -> Option<SocketAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, PORT));
    }
    let (ip, zone) = text.split_once('%')?;
    let scope = zone.parse().ok().or_else(|| if_nametoindex(zone).ok())?;
    Some(SocketAddrV6::new(ip.parse::<Ipv6Addr>().ok()?, PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D-044.
    #[test]
    fn zones_junk_and_excess_servers_are_accepted() {
        let text = "# nameserver 1.1.1.1\nnameserver fe80::1%lo\nnameserver\nnameserver x\nnameserver fe80::2%none0\n\
                    search a b\n  nameserver\t10.0.0.1  # one\nnameserver 10.0.0.1\noptions ndots:5\n\u{1}\n\
                    nameserver ::1\nnameserver 10.0.0.3\n";
        let servers: Vec<SocketAddr> =
            ["[fe80::1%1]:53", "10.0.0.1:53", "[::1]:53"].iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!(parse(text), servers);
    }

    /// D-044.
    #[test]
    fn a_changed_file_is_read_again_however_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target, temp) =
            (dir.path().join("resolv.conf"), dir.path().join("target"), dir.path().join("temp"));
        let mut servers = HostServers::of_file(&path);
        let mut now = Instant::now();
        let mut get = |servers: &mut HostServers| {
            now += CHECK_INTERVAL;
            servers.get(now).iter().map(|server| server.ip().to_string()).collect::<Vec<_>>()
        };
        assert!(get(&mut servers).is_empty(), "no file");
        fs::write(&path, "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(get(&mut servers), ["10.0.0.1"]);
        fs::write(&path, "nameserver 10.0.0.2\n").unwrap();
        assert_eq!(get(&mut servers), ["10.0.0.2"], "same length, nearly the same time");
        fs::write(&temp, "nameserver 10.0.0.3\n").unwrap();
        fs::rename(&temp, &path).unwrap();
        assert_eq!(get(&mut servers), ["10.0.0.3"]);
        fs::write(&target, "nameserver 10.0.0.4\n").unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("target", &path).unwrap();
        assert_eq!(get(&mut servers), ["10.0.0.4"]);
        fs::write(&temp, "nameserver 10.0.0.5\n").unwrap();
        fs::rename(&temp, &target).unwrap();
        assert_eq!(get(&mut servers), ["10.0.0.5"], "the target of the link was replaced");
        fs::remove_file(&target).unwrap();
        assert!(get(&mut servers).is_empty(), "the link leads nowhere");
    }
}
