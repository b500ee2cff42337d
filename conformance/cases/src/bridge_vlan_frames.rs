//! bridge: who hears which broadcast, by VLAN. VLAN 1 once leaked into the reference's tagged ports.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, layer2, with};
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::socket::patience;
use serde_json::json;

use crate::bridge_vlan::add;

pub const CASES: &[Case] = &[
    Case::new("bridge/vlan_broadcasts_stay_in_their_vlan", &["BR-B11"], broadcasts)
        .needs(&[Need::BridgeVlanFiltering]),
    Case::new("bridge/vlan_trunk_carries_tagged_frames", &["BR-K11"], trunk)
        .needs(&[Need::BridgeVlanFiltering, Need::VlanLinks]),
];

/// Where broadcasts go to.
const PORT: u16 = 7777;

/// How long a frame may take that should not come, once all that should have come are there.
const GRACE: Duration = Duration::from_millis(200);

/// Who must hear whom.
type Matrix = BTreeMap<&'static str, BTreeSet<String>>;

fn matrix<const N: usize>(rows: [(&'static str, &[&str]); N]) -> Matrix {
    rows.into_iter().map(|(ear, voices)| (ear, voices.iter().map(|&voice| voice.into()).collect())).collect()
}

/// Lets that link of a namespace (of the host, without one) send broadcasts.
fn give_voice(ns: Option<&str>, link: &str, last: u8) -> Result<()> {
    ip::script(
        ns,
        &format!(
            "addr add 192.0.2.{last}/24 dev {link}
             route replace 255.255.255.255 dev {link}"
        ),
    )
}

/// Sends one broadcast frame that says who sent it.
fn say(name: &str) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_broadcast(true)?;
    socket
        .send_to(name.as_bytes(), (Ipv4Addr::BROADCAST, PORT))
        .with_context(|| format!("{name} says its name"))?;
    Ok(())
}

/// Whoever is in the matrix listens from here on.
fn ears(room: &Room, matrix: &Matrix) -> Result<BTreeMap<&'static str, UdpSocket>> {
    let ear = |&name: &&'static str| {
        let socket = room.inside(name, || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
        Ok((name, socket))
    };
    matrix.keys().map(ear).collect()
}

/// What each ear has heard must be what the matrix says, its own voice aside.
fn compare(ears: &BTreeMap<&'static str, UdpSocket>, matrix: &Matrix) -> Result<()> {
    for (name, ear) in ears {
        let wanted = matrix.get(name).context("an ear without a row")?;
        let mut heard = BTreeSet::new();
        let mut deadline = Instant::now() + patience();
        let mut complete = false;
        loop {
            if !complete && wanted.is_subset(&heard) {
                (complete, deadline) = (true, Instant::now() + GRACE);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            ear.set_read_timeout(Some(left))?;
            let mut word = [0; 64];
            match ear.recv(&mut word) {
                Ok(length) => drop(
                    heard
                        .insert(String::from_utf8_lossy(word.get(..length).unwrap_or_default()).into_owned()),
                ),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(error).context("listen"),
            }
        }
        heard.retain(|voice| voice.split(' ').next() != Some(name));
        ensure!(heard == *wanted, "{name} must hear {wanted:?}, and heard {heard:?}");
    }
    Ok(())
}

/// Two containers in VLAN 100, one in 200, one in none, one in 100 that kept VLAN 1, and the host on its bridge.
fn broadcasts(room: &Room) -> Result<()> {
    for (last, id, keys) in [
        (1, "red1", json!({"vlan": 100})),
        (2, "red2", json!({"vlan": 100})),
        (3, "blue", json!({"vlan": 200})),
        (4, "plain", json!({})),
        (5, "leaky", json!({"vlan": 100, "preserveDefaultVlan": true})),
    ] {
        add(room, id, &with(&layer2(USUAL), keys))?;
        give_voice(Some(id), "eth0", last)?;
    }
    give_voice(None, "br0", 254)?;
    let matrix = matrix([
        ("red1", &["red2", "leaky"]),
        ("red2", &["red1", "leaky"]),
        ("blue", &[]),
        // Untagged frames belong to VLAN 1 here, and the host's do.
        ("plain", &["host"]),
        // Which is what it asked for, and proves that VLAN 1's frames were there to be heard.
        ("leaky", &["red1", "red2", "plain", "host"]),
    ]);
    let ears = ears(room, &matrix)?;
    for voice in matrix.keys() {
        room.inside(voice, || say(voice))?;
    }
    say("host")?;
    compare(&ears, &matrix)
}

/// A container with a trunk and links in its VLANs: what it sends there is heard in that VLAN and nowhere else.
fn trunk(room: &Room) -> Result<()> {
    for (last, id, keys) in [
        (1, "red", json!({"vlan": 100})),
        (2, "blue", json!({"vlan": 200})),
        (3, "green", json!({"vlan": 300})),
        (4, "plain", json!({})),
        (5, "trunk", json!({"vlanTrunk": [{"id": 100}, {"minID": 200, "maxID": 210}]})),
    ] {
        add(room, id, &with(&layer2(USUAL), keys))?;
        give_voice(Some(id), "eth0", last)?;
    }
    let matrix = matrix([
        ("red", &["trunk eth0.100"]),
        ("blue", &["trunk eth0.200"]),
        ("green", &[]),
        ("plain", &["trunk eth0"]),
        ("trunk", &["red", "blue", "plain"]),
    ]);
    for vlan in ["100", "200", "300"] {
        let link = format!("eth0.{vlan}");
        ip::run_in("trunk", &["link", "add", "link", "eth0", "name", &link, "type", "vlan", "id", vlan])?;
        ip::run_in("trunk", &["link", "set", &link, "up"])?;
    }
    let ears = ears(room, &matrix)?;
    for voice in matrix.keys().filter(|voice| **voice != "trunk") {
        room.inside(voice, || say(voice))?;
    }
    for link in ["eth0", "eth0.100", "eth0.200", "eth0.300"] {
        ip::run_in("trunk", &["route", "replace", "255.255.255.255", "dev", link])?;
        room.inside("trunk", || say(&format!("trunk {link}")))?;
    }
    compare(&ears, &matrix)
}
