//! The state of a network namespace and of the directories that plugins write to, as sorted
//! readable lines.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use crate::ip;

/// Sysctls that plugins touch, below `net/<family>/conf/<link>/`.
const LINK_SYSCTLS: [(&str, &[&str]); 2] = [
    ("ipv4", &["arp_notify", "forwarding", "proxy_arp", "route_localnet", "rp_filter"]),
    (
        "ipv6",
        &[
            "accept_dad",
            "accept_ra",
            "disable_ipv6",
            "enhanced_dad",
            "forwarding",
            "keep_addr_on_down",
            "ndisc_notify",
        ],
    ),
];

/// Attributes of link kinds in a snapshot: configuration, not measurements.
const OF_KIND: [&str; 9] = [
    "mode",
    "id",
    "protocol",
    "bcqueuelen",
    "vlan_filtering",
    "vlan_default_pvid",
    "stp_state",
    "ageing_time",
    "mcast_snooping",
];

/// Bridge port flags in a snapshot when set; others are always shown.
const OF_PORT: [&str; 12] = [
    "guard",
    "root_block",
    "fastleave",
    "learning",
    "flood",
    "mcast_flood",
    "bcast_flood",
    "mcast_to_unicast",
    "neigh_suppress",
    "proxy_arp",
    "vlan_tunnel",
    "locked",
];

/// Links, addresses, queueing disciplines, routes, rules and permanent neighbours of a namespace, without what changes by
/// itself (indices, timers, counters, the kernel's link-local IPv6 objects, ageing neighbours).
pub fn network(ns: Option<&str>) -> Result<Vec<String>> {
    let mut lines = vec![];
    let [links, neighbours] = ip::several(ns, &["-d"], ["addr show", "neigh show"])?;
    for row in &links {
        lines.push(link(row));
        let list = row["addr_info"].as_array().into_iter().flatten();
        for info in list.filter(|info| info["scope"] != "link" || info["family"] != "inet6") {
            lines.push(address(&row["ifname"], info));
        }
    }
    let lasting = neighbours.iter().filter(|row| row["state"].to_string().contains("PERMANENT"));
    lines.extend(lasting.map(|row| format!("neighbour {}", pairs(row, &["state"]))));
    lines.extend(disciplines(ns)?);
    for family in ["-4", "-6"] {
        let [routes, rules] = ip::several(ns, &["-N", family], ["route show table all", "rule show"])?;
        for row in routes.iter().filter(|row| !by_itself(row)) {
            lines.push(format!("route {family} {}", pairs(row, &["expires", "pref", "flags", "metrics"])));
        }
        lines.extend(rules.iter().map(|row| format!("rule {family} {}", pairs(row, &[]))));
    }
    lines.sort();
    Ok(lines)
}

/// The configured queueing disciplines of a namespace: their kinds, places and rates. Their numbers
/// are those of plugins.
fn disciplines(ns: Option<&str>) -> Result<Vec<String>> {
    let within = ns.map_or(vec![], |ns| vec!["-n", ns]);
    let text = ip::output("tc", &[&within[..], &["-j", "qdisc", "show"]].concat())?;
    let rows: Vec<Value> = serde_json::from_str(&text)?;
    // The kernel's own have no number.
    let rows = rows.iter().filter(|row| row["handle"] != "0:");
    let line = |row: &Value| {
        let place = if row["root"] == true { "root".into() } else { plain(&row["parent"]) };
        // Classes are numbered by their discipline.
        let place = place.rsplit(':').next().unwrap_or_default().to_owned();
        let rate = &row["options"]["rate"];
        let rate = if rate.is_null() { String::new() } else { format!(" rate {rate}") };
        format!("qdisc {} dev {} at {place}{rate}", plain(&row["kind"]), plain(&row["dev"]))
    };
    Ok(rows.map(line).collect())
}

/// The nftables rules of the calling thread's namespace: each line after its table. Excludes those
/// of a world's administrator, which the world checks itself.
pub fn rules() -> Result<Vec<String>> {
    let mut lines = all_rules()?;
    lines.retain(|line| !line.split_once(':').is_some_and(|(table, _)| table.ends_with(ADMINISTRATOR)));
    Ok(lines)
}

/// Name prefix of the tables of a world's administrator.
const ADMINISTRATOR: &str = " administrator";

/// All nftables rules, the administrator's included.
pub fn all_rules() -> Result<Vec<String>> {
    let text = ip::output("nft", &["--stateless", "list", "ruleset"])?;
    let mut table = String::new();
    let mut lines = vec![];
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(" {").filter(|line| line.starts_with("table ")) {
            table = name.to_owned();
        }
        let line = line.trim();
        if !matches!(line, "" | "}") {
            lines.push(format!("nft {table}: {line}"));
        }
    }
    Ok(lines)
}

/// Link-local, multicast and anycast routes, which the kernel adds and removes in its own time.
fn by_itself(route: &Value) -> bool {
    let dst = route["dst"].as_str().unwrap_or_default();
    dst.starts_with("fe80:") || dst.starts_with("ff00:") || route["type"] == "anycast" || route["type"] == "4"
}

fn link(row: &Value) -> String {
    let flags = row["flags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    // The kernel updates NO-CARRIER with delay; LOWER_UP changes at once.
    let mut flags: Vec<&str> = flags.filter(|flag| *flag != "NO-CARRIER").collect();
    flags.sort_unstable();
    let mut text = format!(
        "link {} mtu {} mac {} [{}]",
        plain(&row["ifname"]),
        row["mtu"],
        plain(&row["address"]),
        flags.join(" ")
    );
    for (label, value) in [
        ("master", &row["master"]),
        ("kind", &row["linkinfo"]["info_kind"]),
        ("hairpin", &row["linkinfo"]["info_slave_data"]["hairpin"]),
        ("isolated", &row["linkinfo"]["info_slave_data"]["isolated"]),
        ("alias", &row["ifalias"]),
        ("group", &row["group"]),
        ("txqlen", &row["txqlen"]),
        // A veth's peer is not a lower link.
        ("on", if row["linkinfo"]["info_kind"] == "veth" { &Value::Null } else { &row["link"] }),
    ] {
        if !value.is_null() {
            text += &format!(" {label} {}", plain(value));
        }
    }
    let kind = OF_KIND.iter().map(|name| (name, &row["linkinfo"]["info_data"][name]));
    for (name, value) in kind.filter(|(_, value)| !value.is_null()) {
        text += &format!(" {name} {}", plain(value));
    }
    let port = &row["linkinfo"]["info_slave_data"];
    let on: Vec<_> = OF_PORT.into_iter().filter(|name| port[name] == true).collect();
    if !port.is_null() {
        text += &format!(" port {}", on.join(","));
    }
    text
}

fn address(link: &Value, info: &Value) -> String {
    let mut text = format!("address {}/{} dev {}", plain(&info["local"]), info["prefixlen"], plain(link));
    for key in ["scope", "broadcast", "label"] {
        if !info[key].is_null() {
            text += &format!(" {key} {}", plain(&info[key]));
        }
    }
    text
}

/// The row's keys and values, sorted, without the varying ones.
fn pairs(row: &Value, without: &[&str]) -> String {
    let kept = row.as_object().into_iter().flatten().filter(|(key, _)| !without.contains(&key.as_str()));
    kept.map(|(key, value)| format!("{key} {}", plain(value))).collect::<Vec<_>>().join(" ")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The sysctls that plugins touch, in the calling thread's namespace.
pub fn sysctls() -> Vec<String> {
    let mut lines = vec![];
    let mut note = |path: String| {
        if let Ok(value) = fs::read_to_string(format!("/proc/sys/{path}")) {
            lines.push(format!("sysctl {path} = {}", value.trim()));
        }
    };
    note("net/ipv4/ip_forward".into());
    for (family, names) in LINK_SYSCTLS {
        for entry in fs::read_dir(format!("/proc/sys/net/{family}/conf")).into_iter().flatten().flatten() {
            let link = entry.file_name().to_string_lossy().into_owned();
            names.iter().for_each(|name| note(format!("net/{family}/conf/{link}/{name}")));
        }
    }
    lines.sort();
    lines
}

/// Every file below these directories: mode, size and content (shortened), or its type if it is not
/// a regular file. Directories are listed too, to find empty ones left behind.
pub fn files(roots: &[&Path]) -> Vec<String> {
    let mut lines = vec![];
    roots.iter().for_each(|root| walk(root, &mut lines));
    lines.sort();
    lines
}

fn walk(path: &Path, lines: &mut Vec<String>) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let mode = meta.permissions().mode() & 0o7777;
    let name = path.display();
    if meta.is_dir() {
        lines.push(format!("directory {name} {mode:04o}"));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            walk(&entry.path(), lines);
        }
    } else if meta.is_file() {
        let bytes = fs::read(path).unwrap_or_default();
        lines.push(format!("file {name} {mode:04o} {} bytes {}", bytes.len(), content(&bytes)));
    } else {
        lines.push(format!("other {name}"));
    }
}

/// The beginning of a file: text in quotes, otherwise the printable bytes. Escapes would contain
/// digits that may match a short container id.
fn content(bytes: &[u8]) -> String {
    const SHOWN: usize = 300;
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.contains(&0) => {
            format!("\"{}\"", text.escape_debug().take(SHOWN).collect::<String>())
        }
        _ => {
            let readable = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
            format!("binary {}", bytes.iter().take(SHOWN).map(readable).collect::<String>())
        }
    }
}

/// The machine's own namespace and directories, which no run may change.
pub fn machine() -> Result<Vec<String>> {
    let mut lines = network(None)?;
    lines.extend(sysctls());
    // Without counters. An unprivileged user may not see the rules, and cannot change any.
    let rules = ip::output("nft", &["--stateless", "list", "ruleset"]).unwrap_or_default();
    lines.extend(rules.lines().map(|line| format!("nft {}", line.trim())));
    let roots = ["/run/moor", "/run/netns", "/run/cni", "/var/lib/cni", "/etc/cni"];
    lines.extend(files(&roots.map(Path::new)));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{address, content, link, pairs};

    /// A lease index with bytes that print as the digits of `c1`.
    #[test]
    fn binary_bytes_never_show_a_container_id() {
        assert_eq!(content(b"c1\r\neth0"), "\"c1\\r\\neth0\"");
        let index = content("1xilroom\u{ec1a}\u{1}\0\0c2".as_bytes());
        assert_eq!(index, "binary 1xilroom......c2");
        assert_eq!(content(&[0xff, b'x']), "binary .x");
    }

    #[test]
    fn a_link_line_has_only_lasting_attributes() {
        let row = json!({
            "ifindex": 7, "ifname": "veth0", "mtu": 1500, "address": "0a:00:00:00:00:01", "flags": ["UP", "BROADCAST"],
            "master": "br0", "linkinfo": {"info_kind": "veth", "info_slave_data": {
                "hairpin": true, "isolated": false, "learning": true, "flood": true, "locked": false, "cost": 2
            }, "info_data": {"mode": "l2", "gc_timer": 1.5}}
        });
        assert_eq!(
            link(&row),
            "link veth0 mtu 1500 mac 0a:00:00:00:00:01 [BROADCAST UP] master br0 kind veth hairpin true isolated false mode l2 port learning,flood"
        );
    }

    #[test]
    fn an_address_line_has_no_timers() {
        let info = json!({"family": "inet", "local": "10.0.0.1", "prefixlen": 24, "scope": "global", "valid_life_time": 5});
        assert_eq!(address(&json!("br0"), &info), "address 10.0.0.1/24 dev br0 scope global");
    }

    #[test]
    fn a_route_line_has_no_varying_attributes() {
        let row = json!({"dst": "default", "gateway": "10.0.0.1", "expires": 3});
        assert_eq!(pairs(&row, &["expires"]), "dst default gateway 10.0.0.1");
    }
}
