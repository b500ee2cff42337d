//! dns: containers that query their own namespace.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::dns_client::{Question, kind};
use harness::ip;
use harness::room::Room;
use harness::stage::dns::{INSIDE, ask_tcp, call, dns, expect, kill_responder, resolve, until};
use harness::stage::upstream::Upstream;
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/containers_without_a_gateway_query_inside", &["D-073"], inside),
    Case::new("dns/del_releases_the_namespace", &["D-074"], namespace_ends),
];

const NAMES: [&str; 2] = ["c1", "c2"];

/// With macvlan, the host has no address that its containers can reach.
fn inside(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let upstream = Upstream::start(room, Some("outside"), "198.51.100.2", "203.0.113.9")?;
    let mut addresses = vec![];
    let mut configs = vec![];
    for (id, name) in NAMES.into_iter().zip(["web", "db"]) {
        let lan = harness::stage::lan::lan("macvlan", &json!({}));
        let (container, previous) = harness::stage::lan::add(room, "macvlan", id, &lan)?;
        let config = dns(
            &previous,
            json!({"name": "lan", "domainName": "example.org", "upstreams": ["198.51.100.2"]}),
        );
        let result = call(room, "ADD", &container, name, &config).run()?.result()?;
        ensure!(result["dns"]["nameservers"] == json!([INSIDE]), "{}", result["dns"]);
        addresses.push(harness::stage::portmap::address(&config, false));
        configs.push((container, with(&config, json!({"prevResult": result}))));
    }
    let all_answer = || -> Result<()> {
        for id in NAMES {
            expect(room, Some(id), INSIDE, "web", &[&addresses[0]])?;
            let reply = ask_tcp(room, Some(id), INSIDE, &Question::new("db.lan", kind::A))?;
            ensure!(reply.texts() == [&addresses[1]], "{reply:?}");
        }
        Ok(())
    };
    all_answer()?;
    expect(room, Some("c1"), INSIDE, "www.moor.test", &["203.0.113.9"])?;
    ensure!(upstream.asked() == ["www.moor.test"], "{:?}", upstream.asked());
    // A server of the container may bind port 53 on all its addresses.
    let own = room.inside("c1", || Ok(UdpSocket::bind("0.0.0.0:53")?))?;
    all_answer()?;
    drop(own);
    let check = |at: usize| call(room, "CHECK", &configs[at].0, ["web", "db"][at], &configs[at].1).run();
    check(0)?.silent()?;
    // The sockets closed with the responder: the next call reopens all of them.
    kill_responder()?;
    check(1)?.silent()?;
    all_answer()?;
    call(room, "DEL", &configs[0].0, "", &configs[0].1).run()?.silent()?;
    ensure!(resolve(room, Some("c2"), INSIDE, "web.example.org")?.is_empty(), "web is still found");
    let rules = room.inside("c1", || ip::output("nft", &["list", "ruleset"]))?;
    ensure!(rules.trim().is_empty(), "left in the container: {rules}");
    Ok(())
}

fn namespace_ends(room: &Room) -> Result<()> {
    let lan = harness::stage::lan::lan("macvlan", &json!({}));
    room.outside(&[])?;
    let (container, previous) = harness::stage::lan::add(room, "macvlan", "c1", &lan)?;
    let config = dns(&previous, json!({"name": "lan"}));
    call(room, "ADD", &container, "web", &config).run()?.result()?;
    // The parent counts its children's lower addresses only while they exist.
    let address = harness::stage::portmap::address(&config, false);
    let answers =
        || room.inside("outside", || harness::socket::reach(address.parse()?, Duration::from_millis(200)));
    room.reach("outside", &address)?;
    call(room, "DEL", &container, "", &config).run()?.silent()?;
    room.remove(&container)?;
    until(Duration::from_secs(1), "the namespace is gone with its macvlan", || answers().is_err())
}
