//! Separates what an attachment left behind from what belongs to its network and may stay: the
//! bridge with its gateway addresses, forwarding, the store's directories, lock and round-robin
//! pointers.

/// The lines of a difference (see `diff::lines`) that belong to an attachment. A removed line
/// counts too. `bridges` are the links of the network; `ids` the container ids, which no file may
/// contain any more.
pub fn of_attachments(changes: &[String], bridges: &[&str], ids: &[&str]) -> Vec<String> {
    let stays = |line: &String| may_stay(line, bridges, ids) || is_hairpin_alone(line, changes);
    changes.iter().filter(|line| !stays(line)).cloned().collect()
}

/// A published port turns on hairpin mode for its container's bridge port: it goes away with the
/// link.
fn is_hairpin_alone(line: &str, changes: &[String]) -> bool {
    let [off, on] = [" hairpin false ", " hairpin true "];
    let other = match line.strip_prefix("- link ") {
        Some(link) => format!("+ link {}", link.replace(off, on)),
        None => line.replacen("+ ", "- ", 1).replace(on, off),
    };
    line.contains(" hairpin ") && other.get(1..) != line.get(1..) && changes.contains(&other)
}

fn may_stay(line: &str, bridges: &[&str], ids: &[&str]) -> bool {
    let words: Vec<&str> = line.split(' ').collect();
    let ["+" | "-", kind, subject, ..] = words[..] else { return false };
    match kind {
        "link" => line.starts_with('+') && bridges.contains(&subject),
        "address" | "route" => words.windows(2).any(|pair| pair[0] == "dev" && bridges.contains(&pair[1])),
        "sysctl" => {
            subject.ends_with("/forwarding")
                || subject.ends_with("/ip_forward")
                || bridges.iter().any(|bridge| subject.contains(&format!("/conf/{bridge}/")))
        }
        "directory" => true,
        "file" => line.starts_with('-') || is_of_network(subject, line, ids),
        // The DNS responder and the DHCP daemon stay for a while: the next container does not need
        // new ones.
        "other" => subject.ends_with("/control.sock") || subject.ends_with("/dhcp.sock"),
        _ => false,
    }
}

fn is_of_network(path: &str, line: &str, ids: &[&str]) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_lease = name.parse::<std::net::IpAddr>().is_ok();
    // These contain hexadecimal digits that may match a short container id: the kernel's boot id,
    // and the device and inode of a lease index. Owners are in an index only as hashes.
    // An address that was reserved last may, too.
    if path.ends_with(".boot") || is_index(path) || name.starts_with("last_reserved_ip.") {
        return true;
    }
    let is_temporary = name.contains("tmp") || line.contains("/results/");
    !is_lease && !is_temporary && !ids.iter().any(|id| line.contains(id))
}

fn is_index(path: &str) -> bool {
    path.strip_prefix("/run/moor/host-local/").is_some_and(|name| {
        name.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-') && name.contains('-')
    })
}

#[cfg(test)]
mod tests {
    use super::of_attachments;

    fn kept(line: &str) -> bool {
        !of_attachments(&[line.to_owned()], &["br0"], &["c1"]).is_empty()
    }

    #[test]
    fn the_network_may_stay() {
        for line in [
            "+ link br0 mtu 1500 mac 0a:00:00:00:00:01 [UP] kind bridge",
            "+ address 10.1.2.1/24 dev br0 scope global",
            "+ route -4 dev br0 dst 10.1.2.0/24",
            "+ sysctl net/ipv6/conf/br0/accept_ra = 0",
            "- sysctl net/ipv4/ip_forward = 0",
            "+ directory /var/lib/cni/networks/net 0755",
            "+ file /var/lib/cni/networks/net/last_reserved_ip.0 0600 8 bytes \"10.1.2.2\"",
            "+ file /var/lib/cni/networks/net/last_reserved_ip.1 0600 11 bytes \"2001:db8::c1\"",
            "+ file /var/lib/cni/networks/net/lock 0750 0 bytes \"\"",
            "+ file /run/moor/host-local/c1-3 0600 4096 bytes binary MOORLIDX.c1",
            "+ other /run/moor/dns/4026/control.sock",
        ] {
            assert!(!kept(line), "{line}");
        }
    }

    /// Nothing else of the link may change, and hairpin mode may not be lost.
    #[test]
    fn hairpin_mode_goes_with_the_link() {
        let line = |sign, on, mtu| {
            format!("{sign} link veth0 mtu {mtu} master br0 kind veth hairpin {on} isolated false")
        };
        let left = |changes: [String; 2]| of_attachments(&changes, &["br0"], &["c1"]).len();
        assert_eq!(left([line("-", false, 1500), line("+", true, 1500)]), 0);
        assert_eq!(left([line("-", false, 1500), line("+", true, 1400)]), 2);
        assert_eq!(left([line("-", true, 1500), line("+", false, 1500)]), 2);
    }

    #[test]
    fn the_attachment_may_not() {
        for line in [
            "+ link veth0123abcd mtu 1500 mac 0a:00:00:00:00:01 [UP] master br0 kind veth",
            "- link br0 mtu 1500 mac 0a:00:00:00:00:01 [UP] kind bridge",
            "+ route -4 dev veth0123abcd dst 10.1.2.0/24",
            "+ file /var/lib/cni/networks/net/10.1.2.2 0600 8 bytes \"c1\\r\\neth0\"",
            "+ file /var/lib/cni/networks/net/10.1.2.2 0600 0 bytes \"\"",
            "+ file /run/moor/host-local/c1-3.tmp 0600 0 bytes \"\"",
            "+ file /run/moor/host-local/41-3.rested 0600 8 bytes \"c1\"",
            "+ file /run/moor/net/index 0600 20 bytes \"c1 eth0 10.1.2.2\"",
            "+ file /var/lib/cni/networks/net/.tmp123 0600 0 bytes \"\"",
            "+ file /var/lib/cni/results/net-c1-eth0 0600 8 bytes \"{}\"",
        ] {
            assert!(kept(line), "{line}");
        }
    }
}
