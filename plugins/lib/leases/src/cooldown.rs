//! `cooldown`: released addresses that are not allocated again yet.
//!
//! The times of release are in a log on the tmpfs, next to the index: the network directory stays
//! as the reference creates it, and a reboot ends all cool-downs. It has a line per release,
//! `<seconds since boot> <address>`, in order. The log is rewritten when most of its lines are too
//! old, and cut when it is long, so it stays small.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use sys::file::{self, Sync};

use crate::boot;

/// The longest log in bytes; a longer one is cut to half of this.
const LIMIT: usize = 512 * 1024;

/// Logs the release of these addresses. Without a writable log there is no cool-down, but DEL does
/// not fail.
pub fn log_release(log: &Path, ips: &[IpAddr]) {
    let Some(now) = boot::uptime() else { return };
    let lines: String = ips.iter().map(|ip| format!("{} {ip}\n", now.as_secs())).collect();
    let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(log);
    let _ = opened.and_then(|mut file| file.write_all(lines.as_bytes()));
}

/// The addresses that were released less than `cooldown` seconds ago.
pub fn cooling_down(log: &Path, cooldown: u64) -> HashSet<IpAddr> {
    match (file::read(log, 4 * LIMIT), boot::uptime()) {
        (Ok(Some(bytes)), Some(now)) => {
            let text = String::from_utf8_lossy(&bytes);
            let (ips, kept) = select(&text, now.as_secs(), cooldown);
            if kept.len() * 2 <= text.len() {
                let _ = file::replace_whole(log, kept.as_bytes(), 0o600, Sync::Later);
            }
            ips
        }
        (Ok(None), _) => HashSet::new(),
        // The log is unreadable, or longer than anything we write: start a new one.
        _ => {
            let _ = file::remove(log);
            HashSet::new()
        }
    }
}

/// The addresses in their cool-down at `now`, and the part of the log to keep.
fn select(text: &str, now: u64, cooldown: u64) -> (HashSet<IpAddr>, &str) {
    let since = |line: &str| {
        let (time, ip) = line.split_once(' ')?;
        let age = now.checked_sub(time.parse().ok()?)?;
        (age < cooldown).then_some(ip.parse::<IpAddr>().ok()?)
    };
    let mut kept = "";
    let mut ips = HashSet::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some(ip) = since(line.trim_end()) {
            if kept.is_empty() {
                kept = text.get(at..).unwrap_or_default();
            }
            ips.insert(ip);
        }
        at += line.len();
    }
    if kept.len() > LIMIT {
        let cut = kept.len() - LIMIT / 2;
        let line = kept.as_bytes().iter().skip(cut).position(|byte| *byte == b'\n').unwrap_or(0);
        kept = kept.get(cut + line + 1..).unwrap_or_default();
    }
    (ips, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_at_the_head_of_the_log_are_dropped() {
        let log = "10 10.0.0.2\n50 10.0.0.3\n60 fd00::2\n";
        let (ips, kept) = select(log, 100, 51);
        assert_eq!(ips, HashSet::from(["10.0.0.3".parse().unwrap(), "fd00::2".parse().unwrap()]));
        assert_eq!(kept, "50 10.0.0.3\n60 fd00::2\n");
        assert_eq!(select(log, 100, 40).0.len(), 0);
    }

    #[test]
    fn malformed_lines_and_future_times_are_ignored() {
        assert_eq!(select("x\n\n9 \n200 10.0.0.2\n10 no\n", 100, 1000).0.len(), 0);
    }

    #[test]
    fn the_log_stays_small() {
        let log = "90 10.0.0.2\n".repeat(LIMIT / 6);
        let (_, kept) = select(&log, 100, 1000);
        assert!(kept.len() <= LIMIT / 2 && kept.starts_with("90 "));
    }

    #[test]
    fn a_logged_address_is_in_its_cooldown() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("rested");
        assert!(cooling_down(&log, 60).is_empty());
        log_release(&log, &["10.0.0.2".parse().unwrap()]);
        log_release(&log, &["fd00::2".parse().unwrap()]);
        assert_eq!(cooling_down(&log, 60).len(), 2);
        assert_eq!(cooling_down(&log, 0).len(), 0);
    }
}
