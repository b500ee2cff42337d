//! Names and MAC addresses that differ in every run, replaced by their owners, so that equal states
//! look equal.

use std::collections::BTreeMap;

use harness::golden::{is_mac, is_veth};

/// The owners of all MAC addresses seen so far: the address of a deleted link may still be in use
/// elsewhere.
#[derive(Default)]
pub struct Mask {
    owners: BTreeMap<String, String>,
}

impl Mask {
    /// The lines with host veths as `<veth>` and MAC addresses as `<mac of host br0>`: the first
    /// link with an address is its owner, so that a shared address is visible. Values that the
    /// kernel chooses are replaced by their kind, counters of rules by 0, and binary files have no
    /// content.
    pub fn masked(&mut self, lines: &[String]) -> Vec<String> {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            if let [place, "link", name, ..] = words[..]
                && let Some(mac) = words.iter().copied().find(|word| is_mac(word) && !is_unassigned(word))
            {
                let name = if is_veth(name) { "<veth>" } else { name };
                self.owners.entry(mac.to_owned()).or_insert_with(|| format!("<mac of {place} {name}>"));
            }
        }
        let mut masked: Vec<String> = lines.iter().map(|line| self.line(line)).collect();
        masked.sort();
        masked
    }

    fn line(&self, line: &str) -> String {
        let line = without_varying_values(line);
        let mut text = String::with_capacity(line.len());
        let mut rest = line.as_str();
        let is_of_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-');
        while !rest.is_empty() {
            let word = &rest[..rest.find(|c| !is_of_word(c)).unwrap_or(rest.len())];
            match self.owners.get(word) {
                Some(owner) => text += owner,
                None if is_mac(word) && !is_unassigned(word) => text += "<mac>",
                None if is_veth(word) => text += "<veth>",
                None => text += &chosen_by_the_kernel(word).unwrap_or_else(|| word.to_owned()),
            }
            rest = &rest[word.len()..];
            let next = rest.chars().next();
            text.extend(next);
            rest = &rest[next.map_or(0, char::len_utf8)..];
        }
        text
    }
}

/// All zeros or all ones.
fn is_unassigned(mac: &str) -> bool {
    matches!(mac, "00:00:00:00:00:00" | "ff:ff:ff:ff:ff:ff")
}

/// An ephemeral port: `11:38507`, after an address (net.ipv4.ip_local_port_range). A time: eleven
/// digits or more.
fn chosen_by_the_kernel(word: &str) -> Option<String> {
    let (before, number) =
        word.rsplit_once(':').map_or(("", word), |(before, _)| word.split_at(before.len() + 1));
    if number.len() >= 11 && number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(format!("{before}<time>"));
    }
    let is_port = before.len() > 1 && number.parse().is_ok_and(|port: u16| port >= 32768);
    is_port.then(|| format!("{before}<port>"))
}

/// The counters of rules depend on the time, and the NO-CARRIER flag on the kernel's last look
/// (net/core/link_watch.c); LOWER_UP is current.
fn without_varying_values(line: &str) -> String {
    let mut words: Vec<&str> = line.split(' ').collect();
    for at in 4..words.len() {
        if let Some(["counter", "packets", packets, "bytes", bytes]) = words.get_mut(at - 4..=at) {
            (*packets, *bytes) = ("0", "0");
        }
    }
    if let [_, "link", ..] = words[..] {
        words.retain(|word| *word != "NO-CARRIER");
    }
    if let [place, kind @ ("file" | "directory" | "other"), path, ..] = words[..] {
        let is_number = |part: &&str| part.len() > 3 && part.bytes().all(|byte| byte.is_ascii_digit());
        // A directory that is named after a namespace.
        let parts = path.split('/').map(|part| if is_number(&part) { "<number>" } else { part });
        let mut path = parts.collect::<Vec<_>>().join("/");
        // A binary file that is named after a device and an inode.
        if words.get(6) == Some(&"binary") {
            path = format!("{}/<binary>", path.rsplit_once('/').map_or("", |(dir, _)| dir));
            words.truncate(6);
        }
        return [place, kind, &path].iter().chain(&words[3..]).copied().collect::<Vec<_>>().join(" ");
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::Mask;

    fn masked(lines: &[&str]) -> Vec<String> {
        Mask::default().masked(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn names_and_macs_are_replaced_by_whose_they_are() {
        assert_eq!(
            masked(&[
                "host link br0 mtu 1500 mac 0a:00:00:00:00:01 [UP] kind bridge",
                "host link veth0123abcd mtu 1500 mac 0a:00:00:00:00:01 [UP] master br0",
                "host sysctl net/ipv4/conf/veth0123abcd/forwarding = 1",
                "result .interfaces[0].mac = \"0a:00:00:00:00:01\"",
                "result .interfaces[2].mac = \"0a:00:00:00:00:02\"",
            ]),
            [
                "host link <veth> mtu 1500 mac <mac of host br0> [UP] master br0",
                "host link br0 mtu 1500 mac <mac of host br0> [UP] kind bridge",
                "host sysctl net/ipv4/conf/<veth>/forwarding = 1",
                "result .interfaces[0].mac = \"<mac of host br0>\"",
                "result .interfaces[2].mac = \"<mac>\"",
            ]
        );
    }

    #[test]
    fn what_is_not_random_stays() {
        for line in [
            "host link veth7 mtu 1500 mac 00:00:00:00:00:00 [] kind veth",
            "host address fd00::1/64 dev br0",
            "host sysctl net/ipv4/conf/br0/arp_notify = 1",
            "host nft table inet moor: ip daddr 10.0.0.2:8080 counter packets 0 bytes 0 accept",
            "host route -4 dev br0 dst 10.0.0.0/24 metric 2132843906",
            "host file /run/x 0600 4 bytes \"1 2\\n\"",
        ] {
            assert_eq!(masked(&[line]), [line]);
        }
    }

    #[test]
    fn what_the_kernel_chooses_is_named() {
        for (line, wanted) in [
            (
                "host nft table ip nat: counter packets 3 bytes 180 jump CNI-1",
                "host nft table ip nat: counter packets 0 bytes 0 jump CNI-1",
            ),
            (
                "host nft table ip moor: dnat to 127.0.0.11:38507",
                "host nft table ip moor: dnat to 127.0.0.11:<port>",
            ),
            (
                "host file /run/x 0600 7 bytes \"order\":351348462370}",
                "host file /run/x 0600 7 bytes \"order\":<time>}",
            ),
            ("host directory /run/moor/dns/4026532177 0700", "host directory /run/moor/dns/<number> 0700"),
            ("host link br0 mtu 1500 [BROADCAST NO-CARRIER UP]", "host link br0 mtu 1500 [BROADCAST UP]"),
            ("host file /run/x/2d-3 0600 9 bytes binary 1x..", "host file /run/x/<binary> 0600 9 bytes"),
        ] {
            assert_eq!(masked(&[line]), [wanted]);
        }
    }
}
