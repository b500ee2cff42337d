//! firewall: which packets pass under each policy.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::firewall::{Behind, Way, expect};
use harness::stage::lan::outside;
use harness::stage::portmap::{HOST, portmap, serve};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new(
        "firewall/each_policy_lets_pass_what_it_should",
        &["FW-K3", "FW-2", "FW-3", "FW-4", "FW-5", "FW-B3", "FW-B4"],
        |room| matrix(room, false),
    ),
    Case::new(
        "firewall/each_policy_lets_pass_what_it_should_with_br_netfilter",
        &["FW-K3", "FW-3", "FW-4", "FW-5", "FW-B3"],
        |room| matrix(room, true),
    )
    .needs(&[Need::BrNetfilter]),
    Case::new("firewall/an_open_network_is_reached_from_an_isolated_one", &["FW-3"], beside_an_open_one),
    Case::new("firewall/the_admin_chain_comes_first_and_stays", &["FW-R4"], admin),
    Case::new("firewall/a_packet_meets_the_same_rules_for_any_number_of_networks", &["FW-R2"], constant),
];

/// A policy as keys.
fn policy(name: &str) -> Value {
    json!({"ingressPolicy": name})
}

/// Switches br_netfilter, which is a setting of the room's namespace.
fn br_netfilter(on: bool) {
    for family in ["ip", "ip6"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}tables");
        // Absent without the module.
        fs::write(path, if on { "1" } else { "0" }).ok();
    }
}

/// Containers a and b of one network and c of another. Each policy is set by an ADD of the
/// containers that are there, so it also replaces the one before.
fn matrix(room: &Room, with_br_netfilter: bool) -> Result<()> {
    br_netfilter(with_br_netfilter);
    room.outside(&["10.1.0.0/16", "10.2.0.0/16", "2001:db8:1::/48", "2001:db8:2::/48"])?;
    let [a, b, c] = [Behind::open(room, "a", 1)?, Behind::open(room, "b", 1)?, Behind::open(room, "c", 2)?];
    let ports = with(
        &portmap(json!([{"hostPort": 8080, "containerPort": 80}]), &a.result),
        json!({"name": a.network()}),
    );
    room.attach("portmap", "ADD", &a.container).config(&ports).run()?.result()?;
    serve(room, "a", 80)?;
    let way = |from, to: &[String; 2], open| Way { from, to: to.clone(), port: None, open };
    let published = HOST.map(str::to_owned);
    for name in ["open", "isolated", "same-bridge"] {
        for container in [&a, &b, &c] {
            container.call(room, "ADD", &policy(name))?.result().context(name)?;
        }
        let (neighbours, networks) = (name != "isolated", name == "open");
        let [to_a, to_b, to_c] = [a.addresses()?, b.addresses()?, c.addresses()?];
        let port = |from, open| Way { port: Some(8080), ..way(from, &published, open) };
        let ways = [
            way(Some("a"), &to_b, neighbours),
            way(Some("b"), &to_a, neighbours),
            way(Some("a"), &to_c, networks),
            way(Some("c"), &to_b, networks),
            way(Some("c"), &outside(), true),
            way(Some("outside"), &to_a, true),
            way(None, &to_a, true),
            way(Some("a"), &["10.1.0.1".into(), "2001:db8:1::1".into()], true),
            port(Some("outside"), true),
            port(Some("c"), true),
            // With br_netfilter the frame is translated in the bridge, and is one between neighbours.
            port(Some("b"), neighbours || !with_br_netfilter),
        ];
        expect(room, name, &ways)?;
    }
    Ok(())
}

/// Isolation is between networks that ask for it.
fn beside_an_open_one(room: &Room) -> Result<()> {
    let a = Behind::add(room, "a", 1, &policy("same-bridge"))?;
    let b = Behind::add(room, "b", 2, &policy("isolated"))?;
    let c = Behind::add(room, "c", 3, &policy("open"))?;
    let way = |from, to: &Behind, open| -> Result<Way> {
        Ok(Way { from: Some(from), to: to.addresses()?, port: None, open })
    };
    let ways = [
        way("a", &b, false)?,
        way("b", &a, false)?,
        way("a", &c, true)?,
        way("c", &a, true)?,
        way("b", &c, true)?,
        way("c", &b, true)?,
    ];
    expect(room, "beside an open network", &ways)
}

fn admin(room: &Room) -> Result<()> {
    room.outside(&["10.1.0.0/16", "2001:db8:1::/48"])?;
    let a = Behind::add(room, "a", 1, &policy("open"))?;
    ip::output("nft", &["add rule inet moor admin ip daddr 198.51.100.2 drop comment \"mine\""])?;
    ip::output("nft", &["add rule inet moor admin ip6 daddr 2001:db8:ff::2 drop comment \"mine\""])?;
    let closed =
        |when: &str| expect(room, when, &[Way { from: Some("a"), to: outside(), port: None, open: false }]);
    closed("the administrator drops it")?;
    let b = Behind::add(room, "b", 1, &policy("isolated"))?;
    a.call(room, "CHECK", &policy("open"))?.silent()?;
    closed("after another ADD")?;
    a.del(room)?;
    b.del(room)?;
    let left = ip::output("nft", &["list", "table", "inet", "moor"])?;
    ensure!(left.matches("\"mine\"").count() == 2, "the administrator's rules are gone: {left}");
    ensure!(!left.contains("isolated") && !left.contains("hook forward"), "left behind: {left}");
    // And they are in force again with the next container.
    Behind::add(room, "a2", 1, &policy("open"))?;
    expect(room, "later", &[Way { from: Some("a2"), to: outside(), port: None, open: false }])
}

/// The rules of all chains that see forwarded packets, without the elements of sets.
fn rules() -> Result<Vec<String>> {
    let text = ip::output("nft", &["--terse", "list", "table", "inet", "moor"])?;
    Ok(text.lines().map(|line| line.trim().to_owned()).collect())
}

fn constant(room: &Room) -> Result<()> {
    Behind::add(room, "a", 1, &policy("same-bridge"))?;
    let first = rules()?;
    for number in 2..6 {
        let name = if number % 2 == 0 { "same-bridge" } else { "isolated" };
        Behind::add(room, &format!("c{number}"), number, &policy(name))?;
    }
    Behind::add(room, "b", 1, &policy("same-bridge"))?;
    let now = rules()?;
    ensure!(now == first, "the rules grew from {first:#?} to {now:#?}");
    Ok(())
}
