//! What must change so that the kernel has what is wanted. Pure.

use std::net::IpAddr;

use netlink::Mac;

use super::entry::{Change, Entries, Found, Remote};

/// The changes from one wanted state to the next, if the kernel has the first. New entries come
/// before deletions of old ones.
pub(super) fn between(before: &Entries, after: &Entries) -> Vec<Change> {
    let mut changes = Vec::new();
    for (mac, host) in &after.forwarding {
        if before.forwarding.get(mac) != Some(host) {
            changes.push(Change::SetForwarding(*mac, *host));
        }
    }
    changes.extend(after.flood.difference(&before.flood).map(|host| Change::AddFlood(*host)));
    for (ip, mac) in &after.neighbours {
        if before.neighbours.get(ip) != Some(mac) {
            changes.push(Change::SetNeighbour(*ip, *mac));
        }
    }
    let gone = before.neighbours.keys().filter(|ip| !after.neighbours.contains_key(ip));
    changes.extend(gone.map(|ip| Change::DropNeighbour(*ip)));
    changes.extend(before.flood.difference(&after.flood).map(|host| Change::DropFlood(*host)));
    let gone = before.forwarding.keys().filter(|mac| !after.forwarding.contains_key(mac));
    changes.extend(gone.map(|mac| Change::DropForwarding(*mac)));
    changes
}

/// The changes from what the kernel has to what is wanted, and a line for each difference. The
/// device is ours alone, so what is not wanted goes. Neighbours that age are the kernel's own.
pub(super) fn repair(found: &Found, wanted: &Entries) -> (Vec<Change>, Vec<String>) {
    let (mut changes, mut lines) = (Vec::new(), Vec::new());
    for (mac, remotes) in &found.forwarding {
        if mac.is_zero() {
            continue;
        }
        match wanted.forwarding.get(mac) {
            Some(host) if is_only(remotes, *host) => {}
            Some(host) => {
                lines.push(format!("forwarding entry of {mac}: expected {host}, actual {}", text(remotes)));
                // A replacement changes the first destination only, and nothing but it.
                if remotes.len() > 1 || remotes.iter().any(|remote| remote.host == Some(*host)) {
                    changes.push(Change::DropForwarding(*mac));
                }
                changes.push(Change::SetForwarding(*mac, *host));
            }
            None => {
                lines.push(format!("forwarding entry of {mac}: expected none, actual {}", text(remotes)));
                changes.push(Change::DropForwarding(*mac));
            }
        }
    }
    for (mac, host) in &wanted.forwarding {
        if !found.forwarding.contains_key(mac) {
            lines.push(format!("forwarding entry of {mac}: expected {host}, actual none"));
            changes.push(Change::SetForwarding(*mac, *host));
        }
    }
    repair_flood(found, wanted, &mut changes, &mut lines);
    for (ip, mac) in &wanted.neighbours {
        let actual = found.neighbours.get(ip);
        if !actual.is_some_and(|actual| actual.is_permanent && actual.mac == Some(*mac)) {
            let actual =
                actual.and_then(|actual| actual.mac).map_or("none".to_owned(), |mac| mac.to_string());
            lines.push(format!("neighbour {ip}: expected {mac}, actual {actual}"));
            changes.push(Change::SetNeighbour(*ip, *mac));
        }
    }
    for (ip, neighbour) in &found.neighbours {
        if neighbour.is_permanent && !wanted.neighbours.contains_key(ip) {
            lines.push(format!("neighbour {ip}: expected none, actual permanent"));
            changes.push(Change::DropNeighbour(*ip));
        }
    }
    (changes, lines)
}

/// The hosts that broadcasts go to: destinations of the zero MAC address.
fn repair_flood(found: &Found, wanted: &Entries, changes: &mut Vec<Change>, lines: &mut Vec<String>) {
    let zero = Mac([0; 6]);
    let remotes = found.forwarding.get(&zero).map_or(&[][..], Vec::as_slice);
    if remotes.iter().any(|remote| !remote.is_plain || remote.host.is_none()) {
        lines.push(format!("copies of broadcasts: expected plain entries, actual {}", text(remotes)));
        changes.push(Change::DropForwarding(zero));
        changes.extend(wanted.flood.iter().map(|host| Change::AddFlood(*host)));
        return;
    }
    let actual: Vec<IpAddr> = remotes.iter().filter_map(|remote| remote.host).collect();
    for host in wanted.flood.iter().filter(|host| !actual.contains(host)) {
        lines.push(format!("copy of broadcasts to {host}: expected, actual none"));
        changes.push(Change::AddFlood(*host));
    }
    for host in actual.iter().filter(|host| !wanted.flood.contains(host)) {
        lines.push(format!("copy of broadcasts to {host}: expected none, actual one"));
        changes.push(Change::DropFlood(*host));
    }
}

fn is_only(remotes: &[Remote], host: IpAddr) -> bool {
    matches!(remotes, [only] if only.is_plain && only.host == Some(host))
}

fn text(remotes: &[Remote]) -> String {
    let texts: Vec<String> = remotes
        .iter()
        .map(|remote| {
            let host = remote.host.map_or("no host".to_owned(), |host| host.to_string());
            if remote.is_plain { host } else { format!("{host} (not permanent, or another port or id)") }
        })
        .collect();
    texts.join(", ")
}
