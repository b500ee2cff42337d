//! firewall, `backend: iptables`: many at once, faults, and legacy tables.

use std::os::unix::fs::symlink;

use anyhow::{Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::portmap::{at_once, bridged};
use harness::strace::victim::Victim;
use serde_json::json;

use crate::firewall_iptables::{BOTH, add, firewall, own, path_with, saved, saved_by, silent};
use crate::portmap_del::uncounted;
use crate::portmap_iptables::reference;

pub const CASES: &[Case] = &[
    Case::new("firewall_iptables/twenty_at_once_lose_nothing", &["FW-52"], twenty).needs(&[Need::Iptables]),
    Case::new("firewall_iptables/a_kill_or_a_failure_at_any_step_leaves_nothing", &["FW-53", "FW-54"], hit)
        .needs(&[Need::Iptables, Need::Strace]),
    Case::new("firewall_iptables/legacy_tables_are_served_and_cleaned_up", &["FW-54"], old_tables).needs(&[
        Need::Iptables,
        Need::IptablesLegacy,
        Need::Reference,
    ]),
];

fn twenty(room: &Room) -> Result<()> {
    let attached = (0..20).map(|n| {
        let container = room.container(&format!("c{n}"))?;
        let [v4, v6] = [format!("10.1.2.{}/24", n + 2), format!("2001:db8:1::{}/64", n + 2)];
        Ok((container, firewall("iptables", &[&v4, &v6])))
    });
    let attached = attached.collect::<Result<Vec<_>>>()?;
    at_once(room, "ADD", &attached)?;
    let made = saved()?;
    ensure!(made.matches("-j ACCEPT").count() == 80, "made: {made}");
    ensure!(made.matches("-j CNI-FORWARD").count() == 2, "made: {made}");
    at_once(room, "CHECK", &attached)?;
    at_once(room, "DEL", &attached)?;
    ensure!(own()?.is_empty(), "left: {:?}", own()?);
    Ok(())
}

/// The programs that it runs are atomic by themselves.
fn hit(room: &Room) -> Result<()> {
    // The shared chains exist, so that only objects of the container can be left over.
    let first = room.container("c0")?;
    add(room, &first, &firewall("iptables", &["10.1.2.9/24", "2001:db8:1::9/64"]))?;
    let container = room.container("c1")?;
    let config = firewall("iptables", &BOTH);
    add(room, &container, &config)?;
    silent(room, "DEL", &container, &config)?;
    let before = uncounted()?;
    let nothing_left = || {
        let after = uncounted()?;
        ensure!(after == before, "the rules were {before} and are {after}");
        Ok(())
    };
    for verb in ["ADD", "DEL"] {
        let victim = Victim { room, plugin: "firewall", verb, container: &container, config: &config };
        let steps = victim.killed_at_each(nothing_left)? + victim.failed_at_each(nothing_left)?;
        ensure!(steps > 5, "only {steps} steps of {verb} were tried");
    }
    Ok(())
}

/// A host with legacy iptables at ADD, and either kind at DEL.
fn old_tables(room: &Room) -> Result<()> {
    let bin = room.scratch("bin");
    std::fs::create_dir_all(&bin)?;
    for program in ["iptables", "ip6tables"] {
        for what in ["", "-save", "-restore"] {
            let path = ip::output("sh", &["-c", &format!("command -v {program}-legacy{what}")])?;
            symlink(path.trim(), bin.join(format!("{program}{what}")))?;
        }
    }
    let (container, previous) = bridged(room, "c1")?;
    let config = with(&firewall("iptables", &[]), json!({"prevResult": previous}));
    let old = || saved_by("-legacy");
    let call = reference(room, "firewall", "ADD", &container).config(&config).env("PATH", path_with(&bin));
    call.run()?.result()?;
    let theirs = old()?;
    silent(room, "DEL", &container, &with(&config, json!({"backend": "nftables"})))?;
    ensure!(!old()?.contains("-j ACCEPT"), "left of the reference's: {}", old()?);
    for of_del in [&config, &json!({"cniVersion": USUAL, "name": "net", "type": "firewall"})] {
        for verb in ["ADD", "ADD", "CHECK"] {
            let call = room.attach("firewall", verb, &container).config(&config).env("PATH", path_with(&bin));
            ensure!(call.run()?.succeeded(), "{verb} failed");
        }
        ensure!(old()? == theirs, "ours are {}, theirs {theirs}", old()?);
        ensure!(!saved()?.contains("CNI-FORWARD"), "ADD used the newer kind");
        silent(room, "DEL", &container, of_del)?;
        ensure!(!old()?.contains("-j ACCEPT"), "left: {}", old()?);
    }
    Ok(())
}
