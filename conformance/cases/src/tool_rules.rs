//! `moor rules`: what it names, packets confirm.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::room::Room;
use harness::stage::portmap::{HOST, expect, serve};
use serde_json::Value;

use crate::masquerade::{ensure_masqueraded, nft};
use crate::tool::case;
use crate::tool_gc::Network;

pub const CASES: &[Case] =
    &[case("tool/rules_name_for_each_owner_what_packets_confirm", &["T-006", "T-034"], confirmed)];

const FRONT: &str = r#"{"cniVersion": "1.0.0", "name": "front", "plugins": [
    {"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "macspoofchk": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.90.1.0/24"}], [{"subnet": "2001:db8:90::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;

fn confirmed(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let network = Network::new(room, FRONT, &room.suite)?;
    network.attach(&room.container("c1")?, 8080)?;
    network.attach(&room.container("c2")?, 0)?;
    nft("add table inet own; add chain inet own fw { type filter hook forward priority 5; policy drop; }; \
         add rule inet own fw accept")?;
    let dir = network.dir.display().to_string();
    let run = |words: &[&str]| -> Result<Vec<Value>> {
        let answer = room.tool(&[&["rules", "--json", "--dir", &dir], words].concat()).run()?;
        ensure!(answer.succeeded(), "{}", answer.summary());
        let document: Value = serde_json::from_slice(&answer.stdout)?;
        Ok(document["items"].as_array().context("no items")?.clone())
    };
    let before = room.snapshot()?;
    let items = run(&[])?;
    room.ensure_unchanged(&before, "rules")?;
    let of = |items: &[Value], owner: &str| {
        let item = items.iter().find(|item| item["owner"] == owner);
        item.map(|item| item["rules"].to_string()).unwrap_or_default()
    };
    let one = of(&items, "moor/front/eth0/c1");
    let mac =
        ip::link(Some("c1"), "eth0")?.context("no eth0")?["address"].as_str().unwrap_or_default().to_owned();
    for sentence in [
        "8080/tcp of any address of this host goes to 10.90.1.2:80".to_owned(),
        "what 10.90.1.2 sends to others than 10.90.1.0/24, 2001:db8:90::/64 is masqueraded".to_owned(),
        format!("are dropped unless their source is {mac}"),
    ] {
        ensure!(one.contains(&sentence), "{sentence:?} is not in {one}");
    }
    let two = of(&items, "moor/front/eth0/c2");
    ensure!(!two.contains("8080") && two.contains("what 10.90.1.3 sends"), "{two}");
    let only = run(&["c2"])?;
    ensure!(
        of(&only, "moor/front/eth0/c1").is_empty() && of(&only, "moor/front/eth0/c2") == two,
        "{only:#?}"
    );

    serve(room, "c1", 80)?;
    expect(room, Some("outside"), HOST[0], 8080, &format!("c1:80 {}", OUTSIDE[0]))?;
    ensure_masqueraded("c1")?;

    // A chain of another program, before and after it drops.
    let end = |items: &[Value]| {
        let chain = items.iter().find(|item| item["table"] == "inet own").map(|item| item["end"].clone());
        chain.context("the chain is not listed")
    };
    ensure!(end(&items)? == "accept (last rule)", "{items:#?}");
    nft("flush chain inet own fw")?;
    let items = run(&[])?;
    ensure!(end(&items)? == "drop (policy)", "{items:#?}");
    Ok(())
}
