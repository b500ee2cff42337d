//! GC of many published ports: it succeeds beside other writers, and does not block them for long.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::USUAL;
use harness::ip;
use harness::patience::on_this_machine;
use harness::room::Room;
use harness::stage::portmap::portmap;
use serde_json::{Value, json};

use crate::portmap_life::one;
use crate::rules_busy::Noise;

pub const CASES: &[Case] =
    &[Case::new("portmap/gc_of_many_ports_succeeds_during_regular_rule_changes", &["PM-R2"], beside_changes)
        .alone()];

/// Attachments that their runtime has forgotten.
const STALE: u16 = 500;
/// On an idle machine: shorter than one dump of all rules, longer than one transaction of a bounded
/// size.
const BETWEEN_CHANGES: Duration = Duration::from_millis(60);

/// The result of a plugin before portmap, for a container with an address of its own.
fn previous(number: u16) -> Value {
    let address = format!("10.1.{}.{}/16", 100 + number / 200, 2 + number % 200);
    json!({"cniVersion": USUAL, "ips": [{"address": address}]})
}

fn beside_changes(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    for number in 0..STALE {
        let call = room.call("portmap", "ADD").env("CNI_CONTAINERID", format!("stale{number}"));
        let call = call.env("CNI_IFNAME", "eth0").env("CNI_NETNS", &container.path);
        call.config(&portmap(one(10_000 + number), &previous(number))).run()?.result()?;
    }
    let noise = Noise::every(on_this_machine(BETWEEN_CHANGES));
    let config =
        json!({"cniVersion": "1.1.0", "name": "net", "type": "portmap", "cni.dev/valid-attachments": []});
    room.call("portmap", "GC").config(&config).run()?.silent()?;
    noise.end()?;
    let rules = ip::output("nft", &["list", "ruleset"])?;
    ensure!(!rules.contains("stale"), "GC left rules: {rules}");
    Ok(())
}
