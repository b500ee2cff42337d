//! What the elements of Moor's tables do, in sentences: a function of what was read.

use std::collections::{BTreeMap, HashSet};

use host::rules::{Entry, Inventory};

/// The sentences of each owner, by its label.
pub fn sentences(inventory: &Inventory) -> BTreeMap<String, Vec<String>> {
    let everyone: HashSet<&str> = keys(inventory, "everyone");
    let loopback: HashSet<&str> = keys(inventory, "loopback");
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in &inventory.entries {
        let sentence = published(entry)
            .or_else(|| sender_of_published(entry, &everyone, &loopback))
            .or_else(|| outside(entry, inventory))
            .or_else(|| inside(entry));
        if let Some(sentence) = sentence {
            all.entry(entry.label.clone()).or_default().push(sentence);
        }
    }
    all
}

/// The keys of a set of either family.
fn keys<'i>(inventory: &'i Inventory, set: &str) -> HashSet<&'i str> {
    let of_set = inventory.entries.iter().filter(|entry| family_of(entry.set).0 == set);
    of_set.map(|entry| entry.key.as_str()).collect()
}

/// The name of a set without its family, and whether it has one.
fn family_of(set: &str) -> (&str, bool) {
    match set.strip_suffix(['4', '6']) {
        Some(name) => (name, true),
        None => (set, false),
    }
}

fn parts(text: &str) -> Vec<&str> {
    text.split(" . ").collect()
}

/// `tcp . 80` or `10.0.0.1 . tcp . 80`, a single port or a range.
fn place(key: &str) -> Option<String> {
    let (first, last) = key.split_once(" - ").unwrap_or((key, key));
    let (first, last) = (parts(first), parts(last));
    let [.., protocol, port] = first[..] else { return None };
    let ports = match last.last() {
        Some(last) if *last != port => format!("{port}-{last}"),
        _ => port.to_owned(),
    };
    let address = match first[..] {
        [address, _, _] if address != "0.0.0.0" && address != "::" => address,
        _ => "any address of this host",
    };
    Some(format!("{ports}/{protocol} of {address}"))
}

fn published(entry: &Entry) -> Option<String> {
    let place = || place(&entry.key);
    let target = entry.target.as_deref().unwrap_or_default();
    Some(match family_of(entry.set).0 {
        "ports" | "ports-at" => format!("{} goes to {}", place()?, socket(target)),
        "port-ranges" | "port-ranges-at" => {
            format!("{} goes to the same ports of {target}", place()?)
        }
        "conditional" | "conditional-at" => {
            let chain = target.rsplit(' ').next().unwrap_or_default();
            format!("{} is open only to those that chain {chain} lets pass", place()?)
        }
        "iptables" => format!("{} goes to {target}, by iptables", place()?),
        "resolvers" => format!("{} goes to the responder at {}", place()?, socket(target)),
        _ => return None,
    })
}

/// `10.0.0.2 . 80` as `10.0.0.2:80`.
fn socket(target: &str) -> String {
    match parts(target)[..] {
        [address, port] if address.contains(':') => format!("[{address}]:{port}"),
        [address, port] => format!("{address}:{port}"),
        _ => target.to_owned(),
    }
}

/// Clients of published ports that are masqueraded.
fn sender_of_published(entry: &Entry, everyone: &HashSet<&str>, loopback: &HashSet<&str>) -> Option<String> {
    match (family_of(entry.set).0, &parts(&entry.key)[..]) {
        ("hairpin", [link, address]) if !everyone.contains(address) => {
            let own = if loopback.contains(address) { ", or from 127.0.0.0/8," } else { "" };
            Some(format!("who asks for {address} by {link}{own} is masqueraded"))
        }
        ("everyone", [address]) => Some(format!("everybody who asks for {address} is masqueraded")),
        _ => None,
    }
}

/// Packets that leave the container's network.
fn outside(entry: &Entry, inventory: &Inventory) -> Option<String> {
    let chain = entry.target.as_deref()?.strip_prefix("goto ")?;
    let inside = inventory.chains.get(chain).and_then(|comment| comment.strip_prefix("inside: "));
    let to = match inside {
        Some(inside) => format!("to others than {}", inside.replace(' ', ", ")),
        None => "to the outside".to_owned(),
    };
    Some(match family_of(entry.set).0 {
        "masq" => format!("what {} sends {to} is masqueraded", entry.key),
        "leave" => format!("what {} sends {to} without a connection is dropped", entry.key),
        _ => return None,
    })
}

/// What a container may send, and whom it reaches.
fn inside(entry: &Entry) -> Option<String> {
    Some(match (family_of(entry.set).0, &parts(&entry.key)[..]) {
        ("macs", [port, mac]) => format!("frames from {port} are dropped unless their source is {mac}"),
        ("sources", [link, address]) => {
            format!("packets from {link} are dropped unless their source is {address}")
        }
        ("firewall", [address]) => format!("what {address} sends is accepted"),
        ("isolated-by", [link, _]) => format!("{link} and other isolated links do not reach each other"),
        ("isolated-within", [link, _]) => format!("containers on {link} reach each other"),
        ("isolated-ports", [port]) => format!("{port} exchanges no frames with other such ports"),
        ("policy-ingress", [link]) => format!("connections to {link} need a rule of {}", chain(entry)),
        ("policy-egress", [link]) => format!("connections from {link} need a rule of {}", chain(entry)),
        ("fastpath", [address]) => format!("connections of {address} bypass the rules once they stand"),
        _ => return None,
    })
}

/// The chain that an element leads to.
fn chain(entry: &Entry) -> &str {
    entry.target.as_deref().and_then(|target| target.rsplit(' ').next()).unwrap_or("its chain")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(set: &'static str, key: &str, target: &str) -> Entry {
        let target = (!target.is_empty()).then(|| target.to_owned());
        Entry { set, key: key.into(), target, label: "moor/front/eth0/c1".into() }
    }

    fn said(entries: Vec<Entry>) -> Vec<String> {
        let chains = [("masq-1".to_owned(), "inside: 10.90.1.0/24 10.7.0.0/16".to_owned())].into();
        let mut all = sentences(&Inventory { entries, chains });
        all.remove("moor/front/eth0/c1").unwrap_or_default()
    }

    #[test]
    fn each_kind_of_element_is_a_sentence() {
        let cases = [
            (
                entry("ports4", "tcp . 8080", "10.90.1.2 . 80"),
                "8080/tcp of any address of this host goes to 10.90.1.2:80",
            ),
            (
                entry("ports-at6", "fd00::1 . udp . 53", "fd00::2 . 53"),
                "53/udp of fd00::1 goes to [fd00::2]:53",
            ),
            (
                entry("port-ranges4", "tcp . 20000 - tcp . 20099", "10.90.1.2"),
                "20000-20099/tcp of any address of this host goes to the same ports of 10.90.1.2",
            ),
            (
                entry("conditional4", "tcp . 80", "jump published-if4-1"),
                "80/tcp of any address of this host is open only to those that chain published-if4-1 lets pass",
            ),
            (
                entry("masq4", "10.90.1.2", "goto masq-1"),
                "what 10.90.1.2 sends to others than 10.90.1.0/24, 10.7.0.0/16 is masqueraded",
            ),
            (
                entry("macs", "veth1 . 02:00:00:00:00:01", ""),
                "frames from veth1 are dropped unless their source is 02:00:00:00:00:01",
            ),
            (
                entry("sources4", "veth1 . 10.90.1.2", ""),
                "packets from veth1 are dropped unless their source is 10.90.1.2",
            ),
            (entry("isolated-by", "br0 . 0x1", ""), "br0 and other isolated links do not reach each other"),
        ];
        for (entry, sentence) in cases {
            assert_eq!(said(vec![entry]), [sentence]);
        }
    }

    #[test]
    fn who_is_masqueraded_is_one_sentence() {
        let hairpin = entry("hairpin4", "br0 . 10.90.1.2", "");
        let own = said(vec![hairpin.clone(), entry("loopback4", "10.90.1.2", "")]);
        assert_eq!(own, ["who asks for 10.90.1.2 by br0, or from 127.0.0.0/8, is masqueraded"]);
        assert_eq!(said(vec![hairpin]), ["who asks for 10.90.1.2 by br0 is masqueraded"]);
        // Elements that repeat what another one shows.
        assert!(said(vec![entry("publishers", "0x1 . 0x2", "x"), entry("ports", "veth1", "")]).is_empty());
    }
}
