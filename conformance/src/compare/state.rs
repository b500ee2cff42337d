//! Compares two states, each a list of self-contained lines, trait by trait.

use std::collections::BTreeMap;

/// The groups of differences, and the kinds of lines in each.
const GROUPS: [(&str, &[&str]); 8] = [
    ("links", &["link"]),
    ("addresses", &["address"]),
    ("routes", &["route"]),
    ("policy rules", &["rule"]),
    ("neighbours", &["neighbour"]),
    ("sysctls", &["sysctl"]),
    ("packet rules", &["nft"]),
    ("files", &["file", "directory", "other"]),
];

/// The group of a line, or of a difference.
pub fn group(line: &str) -> &'static str {
    let mut words = line.split(' ');
    match words.next() {
        Some("result") => "result",
        Some("error") => "errors",
        _ => {
            let kind = words.next().unwrap_or_default().trim_end_matches(':');
            GROUPS.iter().find(|(_, kinds)| kinds.contains(&kind)).map_or("else", |(name, _)| name)
        }
    }
}

/// A line split into its subject and the traits of that subject.
struct Item<'l> {
    line: &'l str,
    subject: String,
    traits: Vec<(String, String)>,
}

/// The error code of a suite, if it failed.
pub fn failure(lines: &[String]) -> Option<&str> {
    lines.iter().find_map(|line| line.strip_prefix("error code = "))
}

/// The differences between ours and theirs, as text, sorted. Lines of one subject are compared
/// trait by trait; a line without a counterpart is reported as a whole. If only one suite failed,
/// that is the only difference.
pub fn differences(ours: &[String], theirs: &[String]) -> Vec<String> {
    let (our_code, their_code) = (failure(ours), failure(theirs));
    if our_code.is_some() != their_code.is_some() {
        let shown = |code: Option<&str>| code.unwrap_or("none").to_owned();
        return vec![format!("error code: {}, theirs {}", shown(our_code), shown(their_code))];
    }
    let mut found = vec![];
    let (our_links, their_links) = (links(ours), links(theirs));
    let (ours, mut theirs) = (alone(ours, theirs), alone(theirs, ours));
    for (subject, ours) in ours {
        let theirs = theirs.remove(&subject).unwrap_or_default();
        match (ours.as_slice(), theirs.as_slice()) {
            ([one], [other]) if !one.traits.is_empty() => found.extend(by_traits(one, other)),
            _ => {
                found.extend(ours.iter().map(|item| whole(item, "ours")));
                found.extend(theirs.iter().map(|item| whole(item, "theirs")));
            }
        }
    }
    found.extend(theirs.values().flatten().map(|item| whole(item, "theirs")));
    found.retain(|line| {
        link_of_sysctl(line).is_none_or(|link| our_links.contains(&link) == their_links.contains(&link))
    });
    found.sort();
    found
}

/// The links, with their places.
fn links(lines: &[String]) -> Vec<(&str, &str)> {
    let words = lines.iter().map(|line| line.splitn(4, ' ').collect::<Vec<_>>());
    let named = words.filter_map(|words| match words[..] {
        [place, "link", name, _] => Some((place, name)),
        _ => None,
    });
    named.collect()
}

/// The link of a sysctl: if only one state has the link, its sysctls are not compared.
fn link_of_sysctl(line: &str) -> Option<(&str, &str)> {
    let (place, path) = line.split_once(" sysctl net/")?;
    let (_, link) = path.split_once("/conf/")?;
    Some((place, link.split_once('/')?.0))
}

/// The lines that the other state lacks, or has less often, by subject.
fn alone<'l>(lines: &'l [String], others: &[String]) -> BTreeMap<String, Vec<Item<'l>>> {
    let mut others: Vec<&String> = others.iter().collect();
    let mut items = BTreeMap::<_, Vec<_>>::new();
    for line in lines {
        match others.iter().position(|other| *other == line) {
            Some(at) => drop(others.swap_remove(at)),
            None => {
                let item = read(line);
                items.entry(item.subject.clone()).or_default().push(item);
            }
        }
    }
    items
}

fn by_traits(ours: &Item, theirs: &Item) -> Vec<String> {
    let value = |item: &Item, name: &str| {
        let found = item.traits.iter().find(|(key, _)| key == name);
        found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
    };
    let mut names: Vec<&String> = ours.traits.iter().chain(&theirs.traits).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    let differ = names.into_iter().filter(|name| value(ours, name) != value(theirs, name));
    let difference = |name: &String| {
        let label = if name.is_empty() { String::new() } else { format!("{name} ") };
        format!("{}: {label}{}, theirs {}", ours.subject, value(ours, name), value(theirs, name))
    };
    let found: Vec<String> = differ.map(difference).collect();
    // A repeated trait, or another order.
    if found.is_empty() { vec![whole(ours, "ours"), whole(theirs, "theirs")] } else { found }
}

fn whole(item: &Item, side: &str) -> String {
    let shown = |(name, value): &(String, String)| format!("{name} {value}").trim().to_owned();
    let rest = match item.traits.as_slice() {
        [] => item
            .line
            .strip_prefix(&item.subject)
            .unwrap_or_default()
            .trim_start_matches([' ', ':'])
            .to_owned(),
        traits => traits.iter().map(shown).collect::<Vec<_>>().join(" "),
    };
    let colon = if rest.is_empty() { "" } else { ": " };
    format!("{}: only {side}{colon}{rest}", item.subject)
}

fn read(line: &str) -> Item<'_> {
    let words: Vec<&str> = line.split(' ').collect();
    let item = |subject: String, traits| Item { line, subject, traits };
    if let ["result" | "error", ..] = words[..] {
        let (subject, value) = line.split_once(" = ").unwrap_or((line, ""));
        return item(subject.to_owned(), vec![(String::new(), value.to_owned())]);
    }
    match words[..] {
        [_, "link", _, ..] => item(words[..3].join(" "), pairs(&words[3..])),
        [_, "address", _, "dev", _, ..] => item(words[..5].join(" "), pairs(&words[5..])),
        [_, "route", ..] => of_keys(line, &words, 3, &["dst", "dev", "table", "type"]),
        [_, "neighbour", ..] => of_keys(line, &words, 2, &["dst", "dev"]),
        [_, "sysctl", _, "=", ..] => item(words[..3].join(" "), vec![(String::new(), words[4..].join(" "))]),
        [_, "directory", _, mode] => item(words[..3].join(" "), vec![("mode".into(), mode.into())]),
        [_, "file", _, mode, ..] => {
            let content = ("content".to_owned(), words[4..].join(" "));
            item(words[..3].join(" "), vec![("mode".into(), mode.into()), content])
        }
        [_, "nft", ..] => {
            // A rule is compared as a whole line.
            item(line.split_once(": ").map_or(line, |(table, _)| table).to_owned(), vec![])
        }
        _ => item(line.to_owned(), vec![]),
    }
}

/// A line of keys and values, some of which form its subject.
fn of_keys<'l>(line: &'l str, words: &[&str], kind: usize, identifying: &[&str]) -> Item<'l> {
    let (identity, traits): (Vec<_>, Vec<_>) = pairs(words.get(kind..).unwrap_or_default())
        .into_iter()
        .partition(|(key, _)| identifying.contains(&key.as_str()));
    let mut subject = words[..kind.min(words.len())].join(" ");
    for key in identifying {
        for (_, value) in identity.iter().filter(|(name, _)| name == key) {
            subject += &if *key == "dst" { format!(" {value}") } else { format!(" {key} {value}") };
        }
    }
    Item { line, subject, traits }
}

fn is_closed(value: &str) -> bool {
    value.matches('<').count() == value.matches('>').count()
}

/// Keys and their values; text in brackets is one value, `[flags]`.
fn pairs(words: &[&str]) -> Vec<(String, String)> {
    let mut pairs = vec![];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if let Some(first) = word.strip_prefix('[') {
            let mut list = vec![first];
            while !list.last().is_some_and(|last| last.ends_with(']')) {
                let Some(next) = words.next() else { break };
                list.push(next);
            }
            pairs.push(("flags".to_owned(), format!("[{}", list.join(" "))));
        } else {
            // The owner of a MAC address is in brackets and contains spaces.
            let mut value = words.next().copied().unwrap_or_default().to_owned();
            while value.starts_with('<') && !is_closed(&value) {
                let Some(next) = words.next() else { break };
                value += &format!(" {next}");
            }
            pairs.push(((*word).to_owned(), value));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::{differences, group};

    fn found(ours: &[&str], theirs: &[&str]) -> Vec<String> {
        let list = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        differences(&list(ours), &list(theirs))
    }

    #[test]
    fn equal_states_have_no_difference() {
        let state = ["host link br0 mtu 1500 [UP]", "host nft table ip nat: accept", "result .dns = {}"];
        assert!(found(&state, &state).is_empty());
    }

    /// Includes repeated lines.
    #[test]
    fn what_only_one_has_is_told_as_a_whole() {
        assert_eq!(
            found(
                &["host file /run/x 0600 1 bytes \"x\"", "host nft table ip nat: accept"],
                &["container rule -4 priority 5 table 100"]
            ),
            [
                "container rule -4 priority 5 table 100: only theirs",
                "host file /run/x: only ours: mode 0600 content 1 bytes \"x\"",
                "host nft table ip nat: only ours: accept",
            ]
        );
        let twice = ["host nft table ip nat: accept"; 2];
        assert_eq!(found(&twice, &twice[..1]), ["host nft table ip nat: only ours: accept"]);
    }

    #[test]
    fn what_both_have_is_compared_trait_by_trait() {
        for (ours, theirs, difference) in [
            (
                "container link eth0 mtu 1500 mac <mac of host br0> [LOWER_UP UP] kind veth",
                "container link eth0 mtu 1450 mac <mac of host br0> [LOWER_UP UP] kind veth",
                "container link eth0: mtu 1500, theirs 1450",
            ),
            (
                "host link br0 mtu 1500 mac <mac of host br0> [UP]",
                "host link br0 mtu 1500 mac <mac of host <veth>> [UP]",
                "host link br0: mac <mac of host br0>, theirs <mac of host <veth>>",
            ),
            (
                "container link lo [LOWER_UP UP]",
                "container link lo [UP] alias x",
                "container link lo: alias none, theirs x",
            ),
            (
                "container route -4 dev eth0 dst default gateway 10.0.0.1 metric 5",
                "container route -4 dev eth0 dst default gateway 10.0.0.2 metric 5",
                "container route -4 default dev eth0: gateway 10.0.0.1, theirs 10.0.0.2",
            ),
            (
                "host address 10.0.0.1/24 dev br0 scope global",
                "host address 10.0.0.1/24 dev br0 scope link",
                "host address 10.0.0.1/24 dev br0: scope global, theirs link",
            ),
            (
                "host sysctl net/ipv4/ip_forward = 1",
                "host sysctl net/ipv4/ip_forward = 0",
                "host sysctl net/ipv4/ip_forward: 1, theirs 0",
            ),
            (
                "host file /run/x 0600 3 bytes \"a b\"",
                "host file /run/x 0644 3 bytes \"a b\"",
                "host file /run/x: mode 0600, theirs 0644",
            ),
            (
                "container neighbour dev eth0 dst 10.0.0.9 lladdr <mac>",
                "container neighbour dev eth0 dst 10.0.0.9 lladdr <mac of host br0>",
                "container neighbour 10.0.0.9 dev eth0: lladdr <mac>, theirs <mac of host br0>",
            ),
            (
                "result .ips[0].gateway = \"a\"",
                "result .ips[0].gateway = \"b\"",
                "result .ips[0].gateway: \"a\", theirs \"b\"",
            ),
            ("error code = 7", "error code = 999", "error code: 7, theirs 999"),
        ] {
            let found = found(&[ours], &[theirs]);
            assert_eq!(found.first().map(String::as_str), Some(difference), "{found:?}");
        }
    }

    /// Two routes to one destination have the same subject.
    #[test]
    fn sysctls_go_with_their_link() {
        let sysctl = |link: &str| format!("host sysctl net/ipv4/conf/{link}/forwarding = 1");
        let ours = ["host link br0 mtu 1500".to_owned(), sysctl("br0"), sysctl("all")];
        assert_eq!(
            differences(&ours, &[]),
            ["host link br0: only ours: mtu 1500", "host sysctl net/ipv4/conf/all/forwarding: only ours: 1"]
        );
    }

    #[test]
    fn what_has_several_counterparts_is_told_as_a_whole() {
        let route = |gateway| format!("host route -6 dev eth0 dst default gateway {gateway}");
        let (ours, theirs) = ([route("::1"), route("::2")], [route("::3")]);
        assert_eq!(differences(&ours, &theirs).len(), 3);
    }

    #[test]
    fn where_one_fails_nothing_else_is_compared() {
        assert_eq!(
            found(&["error code = 7", "error message = present"], &["result .dns = {}", "host link x mtu 1"]),
            ["error code: 7, theirs none"]
        );
    }

    #[test]
    fn differences_come_in_groups() {
        for (line, name) in [
            ("result .dns: {}, theirs none", "result"),
            ("error code: 7, theirs none", "errors"),
            ("host link br0: mtu 1, theirs 2", "links"),
            ("host nft table ip nat: only ours: accept", "packet rules"),
            ("host directory /run/x: only ours: 0755", "files"),
        ] {
            assert_eq!(group(line), name, "{line}");
        }
    }
}
