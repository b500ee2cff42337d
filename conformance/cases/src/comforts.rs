//! Conditions that pass by themselves are reported; ADD neither fails nor waits for them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge};
use harness::namespace::{Container, allow_ipv6};
use harness::need::Need;
use harness::patience::ensure_prompt;
use harness::room::Room;
use harness::room::call::Answer;
use harness::stage::lan::{check, lan, outside, reaches, until, vlan_gateway, vlan_lan, vlan_outside};
use harness::{ip, store};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("bridge/add_succeeds_at_once_under_spanning_tree", &["LK-2"], spanning_tree),
    Case::new("macvlan/add_succeeds_while_master_is_down", &["LK-2"], |room| {
        master_down(room, "macvlan", &json!({}))
    })
    .needs(&[Need::Macvlan]),
    Case::new("macvlan/host_access_succeeds_while_master_is_down", &["LK-2"], |room| {
        let keys = json!({"hostAccess": true, "hostAddresses": ["198.51.100.3", "2001:db8:ff::3"]});
        master_down(room, "macvlan", &keys)
    })
    .needs(&[Need::Macvlan]),
    Case::new("macvlan/add_succeeds_while_master_in_container_is_down", &["LK-2"], inside_down)
        .needs(&[Need::Macvlan]),
    Case::new("ipvlan/add_succeeds_while_master_is_down", &["LK-2"], |room| {
        master_down(room, "ipvlan", &json!({}))
    })
    .needs(&[Need::Ipvlan]),
    Case::new("parents/add_succeeds_while_the_link_below_a_vlan_is_down", &["LK-2"], base_down)
        .needs(&[Need::VlanLinks]),
];

/// An upper bound that excludes any wait of seconds.
const SOON: Duration = Duration::from_secs(2);
/// Longer than two forward delays of two seconds.
const FORWARDING: Duration = Duration::from_secs(15);

fn add(room: &Room, container: &Container, config: &Value) -> Result<(Value, Answer)> {
    let plugin = config["type"].as_str().context("no type")?;
    let answer = room.attach(plugin, "ADD", container).config(config).run()?;
    Ok((answer.result()?, answer))
}

fn checks(room: &Room, container: &Container, config: &Value, result: &Value) -> Result<Answer> {
    let plugin = config["type"].as_str().context("no type")?;
    let answer = check(room, plugin, container, config, result)?;
    ensure!(answer.succeeded(), "CHECK: {}", answer.summary());
    Ok(answer)
}

fn spanning_tree(room: &Room) -> Result<()> {
    // As NetworkManager creates bridges, except for the delay, which is 15 seconds there.
    ip::script(None, "link add br0 type bridge stp_state 1 forward_delay 200\n link set br0 up")?;
    allow_ipv6(&["br0"])?;
    let container = room.container("c1")?;
    let config = bridge(USUAL);
    let (result, added) = add(room, &container, &config)?;
    let checked = checks(room, &container, &config, &result)?;
    for answer in [added, checked] {
        ensure_prompt("ADD or CHECK", answer.took, SOON)?;
        ensure!(answer.stderr.contains("spanning tree"), "stderr was {:?}", answer.stderr);
    }
    let host = ["10.1.2.1".to_owned(), "2001:db8:1::1".to_owned()];
    let deadline = Instant::now() + FORWARDING;
    while !reaches(room, Some("c1"), &host).unwrap_or(false) {
        ensure!(Instant::now() < deadline, "after {FORWARDING:?} the host is not reached");
    }
    let checked = checks(room, &container, &config, &result)?;
    ensure!(checked.stderr.is_empty(), "stderr was {:?}", checked.stderr);
    room.attach("bridge", "DEL", &container).config(&config).run()?.silent()
}

fn reported(answer: &Answer, link: &str) -> Result<()> {
    let text = format!("master \"{link}\" is down");
    ensure!(answer.stderr.contains(&text), "stderr was {:?}", answer.stderr);
    Ok(())
}

fn master_down(room: &Room, plugin: &str, keys: &Value) -> Result<()> {
    room.outside(&[])?;
    ip::run(&["link", "set", "wan0", "down"])?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = lan(plugin, keys);
    let (result, answer) = add(room, &container, &config)?;
    reported(&answer, "wan0")?;
    reported(&checks(room, &container, &config, &result)?, "wan0")?;
    let wan0 = ip::link(None, "wan0")?.context("no wan0")?;
    ensure!(!wan0["flags"].to_string().contains("UP"), "an administrator's link was set up: {wan0}");
    ip::run(&["link", "set", "wan0", "up"])?;
    until("the outside is reached", || Ok(reaches(room, Some("c1"), &outside()).unwrap_or(false)))?;
    let checked = checks(room, &container, &config, &result)?;
    ensure!(checked.stderr.is_empty(), "stderr was {:?}", checked.stderr);
    ip::run(&["link", "set", "wan0", "down"])?;
    room.attach(plugin, "DEL", &container).config(&config).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn inside_down(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    ip::script(Some("c1"), "link add inner0 type veth peer name inner1\n link set inner1 up")?;
    let config = lan("macvlan", &json!({"master": "inner0", "linkInContainer": true}));
    let (result, answer) = add(room, &container, &config)?;
    reported(&answer, "inner0")?;
    reported(&checks(room, &container, &config, &result)?, "inner0")?;
    room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()?;
    ensure!(store::addresses("/var/lib/cni/networks/lan")?.is_empty(), "the lease stays");
    Ok(())
}

fn base_down(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    ip::run(&["link", "set", "wan0", "down"])?;
    let before = room.snapshot()?;
    let container = room.container("c1")?;
    let config = vlan_lan("macvlan", &json!({"vlan": 10}));
    let (result, answer) = add(room, &container, &config)?;
    reported(&answer, "wan0")?;
    reported(&checks(room, &container, &config, &result)?, "wan0")?;
    ip::run(&["link", "set", "wan0", "up"])?;
    until("the gateway is reached", || Ok(reaches(room, Some("c1"), &vlan_gateway(10)).unwrap_or(false)))?;
    let checked = checks(room, &container, &config, &result)?;
    ensure!(checked.stderr.is_empty(), "stderr was {:?}", checked.stderr);
    ip::run(&["link", "set", "wan0", "down"])?;
    room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}
