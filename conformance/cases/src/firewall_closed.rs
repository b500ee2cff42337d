//! firewall: hosts with another firewall whose forward chain refuses unknown packets.

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::firewall::{Behind, Way, expect};
use harness::stage::lan::outside;
use harness::stage::portmap::{HOST, portmap, serve};
use harness::stage::reapply::reapply;
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("firewall/a_closed_forward_chain_is_opened", &["FW-R3", "FW-5", "FW-7", "FW-R5"], nftables),
    Case::new("firewall/a_closed_forward_chain_of_iptables_is_opened", &["FW-R3", "FW-5"], iptables)
        .needs(&[Need::Iptables]),
    Case::new("firewall/a_closed_forward_chain_of_legacy_iptables_is_opened", &["FW-R3", "FW-5"], legacy)
        .needs(&[Need::IptablesLegacy]),
    Case::new("firewall/a_chain_that_cannot_be_opened_is_reported", &["FW-R3"], owned),
];

const CLOSE: &str =
    "add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }";

fn nftables(room: &Room) -> Result<()> {
    ip::output("nft", &[CLOSE])?;
    let rules = || ip::output("nft", &["--stateless", "list", "ruleset"]);
    opened(room, &rules, &|| ip::output("nft", &["flush chain inet fw forward"]).map(drop))
}

fn iptables(room: &Room) -> Result<()> {
    closed_by(room, ["iptables", "ip6tables"])
}

fn legacy(room: &Room) -> Result<()> {
    closed_by(room, ["iptables-legacy", "ip6tables-legacy"])
}

fn closed_by(room: &Room, programs: [&str; 2]) -> Result<()> {
    for program in programs {
        ip::output(program, &["-P", "FORWARD", "DROP"])?;
    }
    let rules = || -> Result<String> {
        let mut all = String::new();
        for program in programs {
            all += &ip::output(program, &["-S"])?;
        }
        Ok(all)
    };
    let flush = || programs.iter().try_for_each(|program| ip::output(program, &["-F", "FORWARD"]).map(drop));
    opened(room, &rules, &flush)
}

/// Containers reach the outside, and each other by policy; the outside reaches published ports and
/// nothing else; and the chain is as before after the last DEL.
fn opened(room: &Room, rules: &dyn Fn() -> Result<String>, flush: &dyn Fn() -> Result<()>) -> Result<()> {
    room.outside(&["10.1.0.0/16", "10.2.0.0/16", "2001:db8:1::/48", "2001:db8:2::/48"])?;
    let before = rules()?;
    let keys = json!({"ingressPolicy": "same-bridge"});
    let [a, b, c] = [
        Behind::add(room, "a", 1, &keys)?,
        Behind::add(room, "b", 1, &keys)?,
        Behind::add(room, "c", 2, &keys)?,
    ];
    let ports = with(
        &portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &a.result),
        json!({"name": a.network()}),
    );
    room.attach("portmap", "ADD", &a.container).config(&ports).run()?.result()?;
    serve(room, "a", 80)?;
    let [to_a, to_c] = [a.addresses()?, c.addresses()?];
    let ways = || {
        let way = |from, to: &[String; 2], open| Way { from: Some(from), to: to.clone(), port: None, open };
        let port = |from| Way { port: Some(8080), ..way(from, &HOST.map(str::to_owned), true) };
        [
            way("a", &outside(), true),
            way("c", &outside(), true),
            way("b", &to_a, true),
            way("a", &to_c, false),
            way("outside", &to_a, false),
            port("outside"),
            port("c"),
        ]
    };
    expect(room, "after ADD", &ways())?;
    a.call(room, "CHECK", &keys)?.silent()?;
    let opened = rules()?;
    a.call(room, "ADD", &keys)?.result()?;
    ensure!(rules()? == opened, "a second ADD changes rules: {}", rules()?);
    flush()?;
    reapply(room, "portmap")?;
    expect(room, "after reapply", &ways())?;
    room.attach("portmap", "DEL", &a.container).config(&ports).run()?.silent()?;
    [a, c].iter().try_for_each(|one| one.del(room))?;
    let left = rules()?;
    ensure!(left.contains("moor/net1") && !left.contains("moor/net2"), "{left}");
    b.del(room)?;
    ensure!(rules()? == before, "the firewall changed from\n{before}\nto\n{}", rules()?);
    Ok(())
}

/// A table that its owner keeps for itself.
fn owned(room: &Room) -> Result<()> {
    let mut nft = std::process::Command::new("nft");
    nft.arg("-i").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut owner = nft.spawn()?;
    let lines = "add table inet fw { flags owner; }\n\
                 add chain inet fw forward { type filter hook forward priority 0; policy drop; }\n";
    let stdin = owner.stdin.as_mut();
    std::io::Write::write_all(stdin.ok_or_else(|| anyhow::anyhow!("no standard input"))?, lines.as_bytes())?;
    let is_there = || Ok(ip::output("nft", &["list", "ruleset"])?.contains("hook forward"));
    harness::stage::lan::until("the chain", is_there)?;
    let a = Behind::open(room, "a", 1)?;
    let answer = a.call(room, "ADD", &json!({}))?;
    answer.result()?;
    let is_reported = answer.stderr.contains("net1") && answer.stderr.contains("could not be added");
    owner.kill()?;
    owner.wait()?;
    ensure!(is_reported, "standard error: {:?}", answer.stderr);
    a.del(room)
}
