//! dns: what else is on the host: firewalls, published ports, other servers, systemd.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::dns_client::{Question, kind};
use harness::need::Need;
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, ask, ask_tcp, call, dns, expect, records};
use harness::stage::upstream::Upstream;
use harness::{ip, socket};
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/a_published_port_53_does_not_divert_queries", &["D-056"], published),
    Case::new("dns/a_closed_firewall_is_opened_for_queries", &["D-057"], closed_nft),
    Case::new("dns/a_closed_iptables_is_opened_for_queries", &["D-057"], closed_iptables)
        .needs(&[Need::Iptables]),
    Case::new("dns/a_closed_legacy_iptables_is_opened_for_queries", &["D-057"], closed_iptables_legacy)
        .needs(&[Need::IptablesLegacy]),
    Case::new("dns/check_reports_a_firewall_that_drops_queries", &["D-066"], firewall),
    Case::new("dns/a_taken_port_fails_add_and_leaves_nothing", &["D-068"], taken),
    Case::new("dns/an_unresponsive_systemd_does_not_fail_add", &["D-072"], no_systemd),
];

fn published(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let (thief, config) = harness::stage::portmap::published(
        room,
        "thief",
        json!([{"hostPort": 53, "containerPort": 53, "protocol": "udp"}, {"hostPort": 53, "containerPort": 53, "protocol": "tcp"}]),
    )?;
    let _server = Upstream::start(
        room,
        Some("thief"),
        &harness::stage::portmap::address(&config, false),
        "203.0.113.66",
    )?;
    for from in [Some("c1"), Some("thief"), None] {
        expect(room, from, GATEWAYS[0], "web", &[&named.address(false)])?;
        let reply = ask_tcp(room, from, GATEWAYS[1], &Question::new("web", kind::A))?;
        ensure!(reply.texts() == [&named.address(false)], "{reply:?}");
    }
    room.attach("portmap", "DEL", &thief).config(&config).run()?.silent()?;
    named.del(room)?;
    let left = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!left.contains("resolvers"), "left behind: {left}");
    Ok(())
}

/// A rule that drops queries explicitly stays in force; CHECK reports it.
fn firewall(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    named.verb(room, "CHECK")?.silent()?;
    let drop = "add table inet fw; add chain inet fw input { type filter hook input priority 0; policy accept; }; \
        add rule inet fw input iifname br0 th dport 53 drop";
    ip::output("nft", &[drop])?;
    let error = named.verb(room, "CHECK")?.error_with(999, GATEWAYS[0])?;
    ensure!(error.details.contains("firewall"), "{error}");
    ip::output("nft", &["flush chain inet fw input"])?;
    named.verb(room, "CHECK")?.silent()?;
    named.del(room)
}

fn closed_nft(room: &Room) -> Result<()> {
    let close = "add table inet fw; add chain inet fw input { type filter hook input priority 0; policy drop; }; \
        add rule inet fw input iif lo accept";
    ip::output("nft", &[close])?;
    let rules = || ip::output("nft", &["list", "ruleset"]);
    opened(room, rules)
}

fn closed_iptables(room: &Room) -> Result<()> {
    closed_by(room, ["iptables", "ip6tables"])
}

fn closed_iptables_legacy(room: &Room) -> Result<()> {
    closed_by(room, ["iptables-legacy", "ip6tables-legacy"])
}

fn closed_by(room: &Room, programs: [&str; 2]) -> Result<()> {
    for program in programs {
        ip::output(program, &["-A", "INPUT", "-i", "lo", "-j", "ACCEPT"])?;
        ip::output(program, &["-P", "INPUT", "DROP"])?;
    }
    let rules = || -> Result<String> {
        let mut all = String::new();
        for program in programs {
            all += &ip::output(program, &["-S"])?;
        }
        Ok(all)
    };
    opened(room, rules)
}

/// A closed firewall accepts queries of the network's containers from ADD on, and nothing after
/// the last DEL.
fn opened(room: &Room, rules: impl Fn() -> Result<String>) -> Result<()> {
    let before = rules()?;
    let [one, two] = [Named::add(room, "c1", "web", json!({}))?, Named::add(room, "c2", "db", json!({}))?];
    for from in ["c1", "c2"] {
        for (server, kind, v6) in [(GATEWAYS[0], kind::A, false), (GATEWAYS[1], kind::AAAA, true)] {
            let question = Question::new("web", kind);
            for reply in
                [ask(room, Some(from), server, &question)?, ask_tcp(room, Some(from), server, &question)?]
            {
                ensure!(reply.texts() == [&one.address(v6)], "{from} at {server}: {reply:?}");
            }
        }
        // And nothing else.
        let other = || socket::reach(GATEWAYS[0].parse()?, Duration::from_millis(200));
        ensure!(room.inside(from, other).is_err(), "{from} reaches other ports");
    }
    one.verb(room, "CHECK")?.silent()?;
    one.del(room)?;
    expect(room, Some("c2"), GATEWAYS[0], "db", &[&two.address(false)])?;
    two.del(room)?;
    let after = rules()?;
    ensure!(after == before, "the firewall changed from\n{before}\nto\n{after}");
    Ok(())
}

fn taken(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let previous =
        room.attach("bridge", "ADD", &container).config(&harness::config::bridge(USUAL)).run()?.result()?;
    let rules = ip::output("nft", &["list", "ruleset"])?;
    let udp = UdpSocket::bind("0.0.0.0:53")?;
    let config = dns(&previous, json!({}));
    let add = || call(room, "ADD", &container, "web", &config).run();
    let began = Instant::now();
    let error = add()?.error()?;
    ensure_prompt("the error", began.elapsed(), Duration::from_secs(1))?;
    let msg = error.msg.to_lowercase();
    for word in [GATEWAYS[0], "udp", "in use"] {
        ensure!(msg.contains(word), "{word:?} is not in {error}");
    }
    drop(udp);
    let tcp = std::net::TcpListener::bind("[::]:53")?;
    let msg = add()?.error()?.msg.to_lowercase();
    ensure!(msg.contains("tcp") && msg.contains("in use"), "{msg}");
    ensure!(
        records().is_empty() && ip::output("nft", &["list", "ruleset"])? == rules,
        "left behind: {:?}",
        records()
    );
    // The remedy: another port, which containers need not know.
    let other = with(&config, json!({"port": 5353}));
    call(room, "ADD", &container, "web", &other).run()?.result()?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &["10.1.2.2"])?;
    drop(tcp);
    Ok(())
}

/// systemd seems to manage this machine, but does not answer.
fn no_systemd(room: &Room) -> Result<()> {
    fs::create_dir_all("/run/systemd/system")?;
    let named = Named::add(room, "c1", "web", json!({}))?;
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])
}
