//! bridge: which ports receive which broadcasts, by VLAN. The reference once leaked VLAN 1 into
//! tagged ports.

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

/// The destination of broadcasts.
const PORT: u16 = 7777;

/// How long to wait for unexpected frames after all expected ones have arrived.
const GRACE: Duration = Duration::from_millis(200);

/// Each listener with the senders that it must receive.
type Matrix = BTreeMap<&'static str, BTreeSet<String>>;

fn matrix<const N: usize>(rows: [(&'static str, &[&str]); N]) -> Matrix {
    rows.into_iter().map(|(ear, voices)| (ear, voices.iter().map(|&voice| voice.into()).collect())).collect()
}

/// Allows that link of a namespace (of the host if there is none) to send broadcasts.
fn give_voice(ns: Option<&str>, link: &str, last: u8) -> Result<()> {
    ip::script(
        ns,
        &format!(
            "addr add 192.0.2.{last}/24 dev {link}
             route replace 255.255.255.255 dev {link}"
        ),
    )
}

/// Sends one broadcast frame that contains the sender's name.
fn broadcast(name: &str) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_broadcast(true)?;
    socket
        .send_to(name.as_bytes(), (Ipv4Addr::BROADCAST, PORT))
        .with_context(|| format!("{name} sends its name"))?;
    Ok(())
}

/// Starts to listen on every link in the matrix.
fn ears(room: &Room, matrix: &Matrix) -> Result<BTreeMap<&'static str, UdpSocket>> {
    let ear = |&name: &&'static str| {
        let socket = room.inside(name, || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
        Ok((name, socket))
    };
    matrix.keys().map(ear).collect()
}

/// Compares the senders that each listener received with the matrix, except for its own.
fn compare(ears: &BTreeMap<&'static str, UdpSocket>, matrix: &Matrix) -> Result<()> {
    for (name, ear) in ears {
        let wanted = matrix.get(name).context("a listener without a row")?;
        let mut received = BTreeSet::new();
        let mut deadline = Instant::now() + patience();
        let mut complete = false;
        loop {
            if !complete && wanted.is_subset(&received) {
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
                    received
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
        received.retain(|voice| voice.split(' ').next() != Some(name));
        ensure!(received == *wanted, "{name} must receive {wanted:?}, and received {received:?}");
    }
    Ok(())
}

/// Two containers in VLAN 100, one in 200, one in none, one in 100 that kept VLAN 1, and the host
/// on its bridge.
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
        // Untagged frames belong to VLAN 1 here, and so do the host's.
        ("plain", &["host"]),
        // It was configured to receive VLAN 1, which proves that the host's frames were sent.
        ("leaky", &["red1", "red2", "plain", "host"]),
    ]);
    let ears = ears(room, &matrix)?;
    for voice in matrix.keys() {
        room.inside(voice, || broadcast(voice))?;
    }
    broadcast("host")?;
    compare(&ears, &matrix)
}

/// A container with a trunk and links in its VLANs: what it sends in a VLAN arrives in that VLAN
/// only.
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
        room.inside(voice, || broadcast(voice))?;
    }
    for link in ["eth0", "eth0.100", "eth0.200", "eth0.300"] {
        ip::run_in("trunk", &["route", "replace", "255.255.255.255", "dev", link])?;
        room.inside("trunk", || broadcast(&format!("trunk {link}")))?;
    }
    compare(&ears, &matrix)
}
