//! portmap, conditions in the language of nft: an expression with another meaning in nft is refused
//! by name, and an accepted one becomes the rules that nft makes of it.

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::room::Room;
use harness::stage::portmap::{bridged, portmap};
use serde_json::json;

use crate::masquerade::nft;

pub const CASES: &[Case] = &[
    Case::new("condition_syntax/expressions_that_nft_reads_differently_are_refused", &["PM-C4"], refused),
    Case::new("condition_syntax/accepted_expressions_become_the_rules_of_nft", &["PM-C5"], equal),
];

/// Expressions for IPv4 and IPv6, and the token that the error names.
const REFUSED: [(&str, &str, &str); 16] = [
    ("tcp dport 010", "", "010"),
    ("tcp dport +80", "", "+80"),
    ("tcp dport 1-+9", "", "+9"),
    ("meta l4proto 06", "", "06"),
    ("meta mark 010", "", "010"),
    ("meta mark & 010 8", "", "010"),
    ("meta tcp dport 80", "", "meta tcp"),
    ("l4proto tcp", "", "l4proto"),
    ("ip saddr 10.0.0.0/255.0.0.0", "", "255.0.0.0"),
    ("ip saddr 10.0.0.0/08", "", "/08"),
    ("iif \"wa*\"", "", "wa*"),
    ("oif { lo, wa* }", "", "wa*"),
    ("iif 1", "", "1"),
    ("meta l4proto udp tcp dport 80", "", "tcp"),
    // nft would test a byte of an address.
    ("", "meta ip protocol 6", "meta ip"),
    ("", "ip6 saddr fd00::/+8", "/+8"),
];

const ACCEPTED: [(&str, &str); 10] = [
    ("ipv4", "ip saddr 10.0.0.5/9"),
    ("ipv4", "ip saddr 0.0.0.0/0 ip daddr 10.1.2.0 - 10.1.2.9"),
    ("ipv4", "tcp dport 80-80 iifname wa*"),
    ("ipv4", "th sport ge 1024 meta l4proto 17"),
    ("ipv4", "meta mark and 0x0f 9 ct mark 7"),
    ("ipv4", "oifname \"80\" ip protocol icmp"),
    ("ipv4", "ct state new,related,established"),
    ("ipv6", "ip6 saddr FD00::1/33 sctp dport < 9"),
    ("ipv6", "ip6 nexthdr ipv6-icmp ip6 daddr ::ffff:1.2.3.4"),
    ("ipv6", "udp sport 5 udp dport 6"),
];

fn refused(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    let before = harness::snapshot::rules()?;
    for (v4, v6, token) in REFUSED {
        let expressions = json!({"conditionsV4": [v4], "conditionsV6": [v6]});
        let config = with(&portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &previous), expressions);
        let error = room.attach("portmap", "ADD", &container).config(&config).run()?.error()?;
        ensure!(matches!(error.code, 2 | 7), "{v4}{v6}: code {}", error.code);
        ensure!(error.msg.contains(token), "{v4}{v6}: the error does not name {token:?}: {error}");
        ensure!(harness::snapshot::rules()? == before, "{v4}{v6}: it is refused, and rules are left");
    }
    Ok(())
}

/// The rules of a chain as `nft` prints them.
fn listed(chain: &str) -> Result<Vec<String>> {
    let text = ip::output("nft", &["list", "chain", "inet", chain])?;
    let rules = text.lines().map(str::trim).filter(|line| line.ends_with(" return"));
    Ok(rules.map(str::to_owned).collect())
}

fn equal(room: &Room) -> Result<()> {
    let (container, previous) = bridged(room, "c1")?;
    for (family, expressions) in ACCEPTED {
        let key = if family == "ipv4" { "conditionsV4" } else { "conditionsV6" };
        let mut config = portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &previous);
        config[key] = json!([expressions]);
        room.attach("portmap", "ADD", &container).config(&config).run()?.result()?;
        let all = ip::output("nft", &["list", "chains", "inet"])?;
        let chain = all.split_whitespace().find(|token| token.starts_with("published-if"));
        let ours = listed(&format!("moor {}", chain.unwrap_or("published-if")))?;
        nft("add table inet check; add chain inet check theirs; flush chain inet check theirs")?;
        nft(&format!("add rule inet check theirs meta nfproto {family} {expressions} return"))?;
        let theirs = listed("check theirs")?;
        ensure!(ours == theirs && ours.len() == 1, "{expressions}: {ours:?}, nft makes {theirs:?}");
        room.attach("portmap", "DEL", &container).config(&config).run()?.silent()?;
    }
    Ok(())
}
