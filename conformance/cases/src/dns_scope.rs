//! dns: which clients see which names.

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge};
use harness::dns_client::{Question, kind, rcode};
use harness::ip;
use harness::room::Room;
use harness::stage::dns::{
    GATEWAYS, Named, OTHER_GATEWAY, ask, expect, expect_silence, other_bridge, resolve,
};
use harness::stage::upstream::outside;
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("dns/a_container_on_two_networks_sees_both", &["D-025"], two_networks),
    Case::new("dns/an_unregistered_container_sees_its_bridges_network", &["D-026"], stranger),
    Case::new("dns/hosts_outside_get_no_answer", &["D-050"], from_outside),
    Case::new("dns/another_networks_gateway_does_not_answer", &["D-051"], other_gateway),
];

/// Nothing is forwarded, so unknown names stay unknown.
const INTERNAL: fn() -> serde_json::Value = || json!({"internal": true});

fn two_networks(room: &Room) -> Result<()> {
    let shared = |alias: &str| json!({"internal": true, "runtimeConfig": {"aliases": ["shared", alias]}});
    let one = Named::add(room, "one", "web", shared("a"))?;
    let two = Named::behind(room, "two", "db", &other_bridge(), shared("b"))?;
    let first = Named::add(room, "both", "both", INTERNAL())?;
    let second = Named::of(room, first.container.clone(), "eth1", "both", &other_bridge(), INTERNAL())?;
    let [one, two] = [one.address(false), two.address(false)];
    for (server, own, shared) in [(GATEWAYS[0], &first, &one), (OTHER_GATEWAY, &second, &two)] {
        for (name, address) in [
            ("web", &one),
            ("a.net", &one),
            ("db", &two),
            ("b.other", &two),
            ("shared", shared),
            ("both", &own.address(false)),
        ] {
            expect(room, Some("both"), server, name, &[address])?;
        }
    }
    // A container on one network does not see the other.
    for (from, server, hidden) in
        [("one", GATEWAYS[0], ["db", "b.other"]), ("two", OTHER_GATEWAY, ["web", "a.net"])]
    {
        for name in hidden {
            let reply = ask(room, Some(from), server, &Question::new(name, kind::A))?;
            ensure!(
                reply.rcode() != rcode::NOERROR && reply.answers.is_empty(),
                "{from} sees {name}: {reply:?}"
            );
        }
    }
    expect(room, Some("one"), GATEWAYS[0], "shared", &[&one])?;
    second.del(room)?;
    ensure!(resolve(room, Some("both"), GATEWAYS[0], "db")?.is_empty(), "it is no longer on the network");
    expect(room, Some("both"), GATEWAYS[0], "web", &[&one])
}

fn stranger(room: &Room) -> Result<()> {
    let web = Named::add(room, "one", "web", INTERNAL())?;
    let _db = Named::behind(room, "two", "db", &other_bridge(), INTERNAL())?;
    // On the network, but not registered.
    let stranger = room.container("stranger")?;
    room.attach("bridge", "ADD", &stranger).config(&bridge(USUAL)).run()?.result()?;
    expect(room, Some("stranger"), GATEWAYS[0], "web", &[&web.address(false)])?;
    for name in ["db", "db.other"] {
        ensure!(resolve(room, Some("stranger"), GATEWAYS[0], name)?.is_empty(), "it sees {name}");
    }
    Ok(())
}

fn from_outside(room: &Room) -> Result<()> {
    outside(room)?;
    ip::script(
        Some("outside"),
        "route add 10.1.2.0/24 via 198.51.100.1
         -6 route add 2001:db8:1::/64 via 2001:db8:ff::1",
    )?;
    let web = Named::add(room, "c1", "web", json!({}))?;
    for server in GATEWAYS {
        // Packets get there: the host has the address.
        room.reach("outside", server)?;
        expect_silence(room, "outside", server)?;
        expect(room, None, server, "web", &[&web.address(false)])?;
    }
    Ok(())
}

fn other_gateway(room: &Room) -> Result<()> {
    let web = Named::add(room, "one", "web", INTERNAL())?;
    let db = Named::behind(room, "two", "db", &other_bridge(), INTERNAL())?;
    ip::run_in("two", &["route", "add", "10.1.2.0/24", "via", OTHER_GATEWAY])?;
    room.reach("two", GATEWAYS[0])?;
    expect_silence(room, "two", GATEWAYS[0])?;
    expect(room, Some("two"), OTHER_GATEWAY, "db", &[&db.address(false)])?;
    expect(room, Some("one"), GATEWAYS[0], "web", &[&web.address(false)])
}
