//! `moor check`: attachments as their records say, and mending them.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::reapply::rules;
use serde_json::Value;

use crate::masquerade::nft;
use crate::tool::case;
use crate::tool_gc::Network;

pub const CASES: &[Case] = &[
    case("tool/check_names_each_drift_and_fix_mends_the_mild_ones", &["T-006", "T-050", "T-051"], drifts),
    case("tool/check_names_flushed_rules_and_makes_none", &["T-050", "T-052"], flushed),
    case("tool/check_compares_attachments_of_the_reference", &["T-050"], of_reference)
        .needs(&[Need::Tool, Need::Reference]),
    case("tool/check_attaches_a_container_again_with_its_address", &["T-051"], again),
];

const FRONT: &str = r#"{"cniVersion": "1.0.0", "name": "front", "plugins": [
    {"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true, "macspoofchk": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.90.1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
const PLAIN: &str = r#"{"cniVersion": "1.0.0", "name": "front", "plugins": [
    {"type": "bridge", "bridge": "br0", "isGateway": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.90.1.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}"#;

fn check(room: &Room, network: &Network, words: &[&str]) -> Result<(Value, Option<i32>)> {
    let dir = network.dir.display().to_string();
    let args = [&["check", "--json", "--dir", &dir], words].concat();
    let plugins = network.runtime.cni_path.first().context("a path")?;
    let answer = room.tool(&args).env("CNI_PATH", plugins).run()?;
    let document: Value = serde_json::from_slice(&answer.stdout).with_context(|| answer.summary())?;
    ensure!(document["kind"] == "check", "{document:#}");
    Ok((document, answer.status.code()))
}

/// The first attachment's item.
fn item(document: &Value) -> &Value {
    &document["items"][0]
}

fn sane(room: &Room, network: &Network, when: &str) -> Result<()> {
    let (document, status) = check(room, network, &[])?;
    ensure!(status == Some(0) && item(&document)["state"] == "ok", "{when}: exit {status:?}: {document:#}");
    Ok(())
}

/// What a shell command makes, the drift that names it, and whether `--fix` mends it.
struct Fault {
    what: &'static str,
    is_mild: bool,
    seed: &'static str,
    undo: &'static str,
}

const fn fault(what: &'static str, seed: &'static str, undo: &'static str) -> Fault {
    Fault { what, is_mild: undo.is_empty(), seed, undo }
}

const FAULTS: [Fault; 11] = [
    fault(
        "address",
        "ip -n c1 addr del 10.90.1.2/24 dev eth0",
        "ip -n c1 addr add 10.90.1.2/24 dev eth0; ip -n c1 route add default via 10.90.1.1",
    ),
    fault("route", "ip -n c1 route del default", "ip -n c1 route add default via 10.90.1.1"),
    fault("mac", "ip -n c1 link set eth0 address 02:00:00:00:00:99", "ip -n c1 link set eth0 address $MAC"),
    fault(
        "link state",
        "ip -n c1 link set eth0 down",
        "ip -n c1 link set eth0 up; ip -n c1 route add default via 10.90.1.1",
    ),
    fault("host link", "ip link set $HOST down", ""),
    fault("bridge", "ip link set $HOST nomaster", ""),
    fault("gateway", "ip addr del 10.90.1.1/24 dev br0", "ip addr add 10.90.1.1/24 dev br0"),
    fault("bridge", "ip link set br0 down", "ip link set br0 up"),
    fault("forwarding", "sysctl -qw net/ipv4/ip_forward=0", "sysctl -qw net/ipv4/ip_forward=1"),
    fault("lease", "rm /var/lib/cni/networks/front/10.90.1.2", ""),
    fault(
        "lease",
        "printf 'c9\\r\\neth0' > /var/lib/cni/networks/front/10.90.1.2",
        "printf 'c1\\r\\neth0' > /var/lib/cni/networks/front/10.90.1.2",
    ),
];

/// The room's state. The kernel reports the carrier of a bridge up to a second after its ports'.
fn without_carrier(room: &Room) -> Result<Vec<String>> {
    Ok(room
        .snapshot()?
        .into_iter()
        .map(|line| line.replace(" LOWER_UP", "").replace("LOWER_UP ", ""))
        .collect())
}

/// Runs the faults; the plugins' CHECK passes at the end.
fn run(room: &Room, network: &Network, fixes: bool) -> Result<()> {
    let container = room.container("c1")?;
    let attached = network.attach(&container, 0)?;
    sane(room, network, "without a fault")?;
    let link = ip::link(Some("c1"), "eth0")?.context("no eth0")?;
    let mac = link["address"].as_str().context("a MAC address")?.to_owned();
    let index = &link["link_index"];
    let host = ip::rows(None, &["link", "show"])?.into_iter().find(|host| host["ifindex"] == *index);
    let host = host.context("no host link")?["ifname"].as_str().context("a name")?.to_owned();
    let shell = |command: &str| {
        let command = command.replace("$MAC", &mac).replace("$HOST", &host);
        ip::output("sh", &["-ec", &command]).with_context(|| command.clone())
    };
    for Fault { what, is_mild, seed, undo } in FAULTS {
        shell(seed)?;
        let before = without_carrier(room)?;
        let (document, status) = check(room, network, &[])?;
        let after = without_carrier(room)?;
        ensure!(before == after, "check without --fix has changed {before:#?} to {after:#?}");
        let drift = item(&document)["drift"].as_array().cloned().unwrap_or_default();
        let named = drift.iter().find(|drift| drift["what"] == what);
        let named = named.with_context(|| format!("{seed}: {document:#}"))?;
        ensure!(status == Some(1) && named["expected"] != named["actual"], "{seed}: {document:#}");
        ensure!(item(&document)["containerId"] == "c1", "{document:#}");
        if is_mild && fixes {
            let (document, status) = check(room, network, &["--fix"])?;
            ensure!(status == Some(0), "{seed}: --fix: exit {status:?}: {document:#}");
            ensure!(item(&document)["fixed"].is_array(), "{seed}: --fix does not name it: {document:#}");
            network.check(&attached)?;
        } else if is_mild {
            shell(&format!(
                "ip link set {host} master br0 up; printf 'c1\\r\\neth0' > /var/lib/cni/networks/front/10.90.1.2"
            ))?;
        } else {
            shell(undo)?;
        }
        sane(room, network, seed)?;
    }
    network.check(&attached)
}

fn drifts(room: &Room) -> Result<()> {
    let network = Network::new(room, FRONT, &room.suite)?;
    run(room, &network, true)?;
    // The list has changed since; that is no drift.
    fs::write(network.dir.join("front.conflist"), PLAIN)?;
    let (document, status) = check(room, &network, &["front"])?;
    ensure!(status == Some(0) && item(&document)["conflist"] == "changed", "exit {status:?}: {document:#}");
    Ok(())
}

fn of_reference(room: &Room) -> Result<()> {
    let network = Network::new(room, PLAIN, &room.reference)?;
    run(room, &network, false)
}

fn flushed(room: &Room) -> Result<()> {
    let network = Network::new(room, FRONT, &room.suite)?;
    let attached = network.attach(&room.container("c1")?, 8080)?;
    sane(room, &network, "before")?;
    let whole = rules()?;
    nft("flush ruleset")?;
    let (document, status) = check(room, &network, &["c1"])?;
    ensure!(status == Some(1), "exit {status:?}: {document:#}");
    let named = item(&document)["plugins"].as_array().cloned().unwrap_or_default();
    let types: Vec<_> = named.iter().map(|fault| fault["type"].clone()).collect();
    ensure!(types == ["bridge", "portmap"], "{document:#}");
    ensure!(rules()?.is_empty(), "check made rules: {:#?}", rules()?);
    let (document, status) = check(room, &network, &["c1", "--fix"])?;
    ensure!(status == Some(0), "--fix: exit {status:?}: {document:#}");
    ensure!(item(&document)["fixed"].to_string().contains("again"), "{document:#}");
    let changes = harness::diff::lines(&whole, &rules()?);
    ensure!(changes.is_empty(), "after --fix: {}", harness::diff::shown(&changes));
    network.check(&attached)
}

fn again(room: &Room) -> Result<()> {
    let network = Network::new(room, FRONT, &room.suite)?;
    // The address is not the next that would be given.
    network.attach(&room.container("c0")?, 0)?;
    let attached = network.attach(&room.container("c1")?, 8080)?;
    network.attach(&room.container("c2")?, 0)?;
    ip::run_in("c1", &["link", "del", "eth0"])?;
    let (document, status) = check(room, &network, &["c1", "--fix"])?;
    ensure!(status == Some(1), "--fix attaches nothing: exit {status:?}: {document:#}");
    let all = room.tool(&["check", "--fix=readd"]).run()?;
    ensure!(all.status.code() == Some(2), "--fix=readd of all: {}", all.summary());
    let (document, status) = check(room, &network, &["c1", "--fix=readd"])?;
    ensure!(status == Some(0), "--fix=readd: exit {status:?}: {document:#}");
    let addresses = ip::addresses(Some("c1"), "eth0")?;
    ensure!(addresses.iter().any(|address| address.starts_with("10.90.1.3")), "{addresses:?}");
    network.check(&attached)
}
