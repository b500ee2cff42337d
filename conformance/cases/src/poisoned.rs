//! macspoofchk: no frame of a container makes the bridge send a neighbour's traffic to it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::namespace::allow_ipv6;
use harness::need::Need;
use harness::room::Room;
use harness::{frame, ip, socket};
use serde_json::json;

use crate::bridge_keys::add;

pub const CASES: &[Case] = &[
    Case::new("macspoofchk/a_link_local_frame_diverts_no_traffic", &["BR-K13"], |room| {
        takes_nothing(room, false)
    }),
    Case::new("macspoofchk/a_link_local_frame_diverts_no_traffic_on_a_foreign_bridge", &["BR-K13"], |room| {
        ip::script(None, "link add br0 type bridge\n link set br0 up")?;
        allow_ipv6(&["br0"])?;
        takes_nothing(room, false)
    }),
    Case::new(
        "macspoofchk/a_link_local_frame_diverts_no_traffic_in_a_vlan_of_a_foreign_bridge",
        &["BR-K13"],
        |room| {
            ip::script(None, "link add br0 type bridge vlan_filtering 1\n link set br0 up")?;
            allow_ipv6(&["br0"])?;
            takes_nothing(room, true)
        },
    )
    .needs(&[Need::BridgeVlanFiltering]),
];

/// The groups that bridges do not forward (IEEE 802.1Q, table 8-1), except that of pause frames.
const GROUPS: [u8; 4] = [0x03, 0x0d, 0x0e, 0x0f];

fn takes_nothing(room: &Room, vlan: bool) -> Result<()> {
    let mut config = bridge(USUAL);
    if vlan {
        config = with(&config, json!({"vlan": 100}));
    }
    // The neighbour has no macspoofchk.
    add(room, &room.container("victim")?, &config)?;
    let guarded = with(&config, json!({"macspoofchk": true}));
    let attacker = room.container("attacker")?;
    let result = add(room, &attacker, &guarded)?;
    let victim = ip::link(Some("victim"), "eth0")?.context("no link")?;
    let source = frame::mac(victim["address"].as_str().unwrap_or_default())?;
    let wire = room.wire(Some("attacker"), "eth0")?;
    for last in GROUPS {
        // The bridge has learned the victim's port, and the host its MAC address.
        room.reach("victim", "10.1.2.1")?;
        wire.send(&frame::lldp(last, source))?;
        socket::reach("10.1.2.2".parse()?, Duration::from_millis(400)).with_context(|| {
            format!("the victim's traffic is lost to a frame to 01:80:c2:00:00:{last:02x}")
        })?;
    }
    // Other containers are not affected, and CHECK passes.
    room.reach("attacker", "10.1.2.2")?;
    room.reach("victim", "10.1.2.3")?;
    socket::reach("10.1.2.3".parse()?, Duration::from_millis(400)).context("the guarded container")?;
    let checked = with(&guarded, json!({"prevResult": result}));
    room.attach("bridge", "CHECK", &attacker).config(&checked).run()?.silent()?;
    ensure!(ip::links(None)?.iter().any(|link| link == "br0"), "no bridge");
    Ok(())
}
