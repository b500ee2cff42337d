//! `moor doctor` and `moor reapply`: what is wrong with a host, and rules that somebody flushed.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::room::Room;
use harness::stage::reapply::{records, rules};
use serde_json::{Value, json};

use crate::masquerade::{masquerade, nft};
use crate::tool::case;

pub const CASES: &[Case] = &[
    case("tool/doctor_finds_faults_and_its_fixes_mend_them", &["T-085"], faults),
    case("tool/reapply_makes_flushed_rules_again", &["T-052"], reapply),
];

const FRONT: &str = r#"{"cniVersion": "1.0.0", "name": "front", "plugins": [
    {"type": "bridge", "bridge": "br0", "isGateway": true, "ipMasq": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.90.1.0/24"}], [{"subnet": "fd00:90::/64"}]]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
const LAN: &str = r#"{"cniVersion": "1.0.0", "name": "lan", "plugins": [
    {"type": "ipvlan", "master": "wan0", "hostAccess": true, "ipam": {"type": "host-local", "subnet": "10.7.0.0/24"}}]}"#;
const NAMES: &str = r#"{"cniVersion": "1.0.0", "name": "names", "plugins": [
    {"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": {"type": "host-local", "subnet": "10.90.1.0/24"}},
    {"type": "dns"}]}"#;

/// A fault that a shell command makes: what doctor calls it, and whether it prints a fix.
struct Fault {
    id: &'static str,
    status: &'static str,
    seed: &'static str,
}

const fn fault(id: &'static str, status: &'static str, seed: &'static str) -> Fault {
    Fault { id, status, seed }
}

/// `$D` is the configuration directory, `$B` the directory of plugins.
const FAULTS: [Fault; 14] = [
    fault("forwarding", "fail", "sysctl -qw net/ipv4/ip_forward=0"),
    fault("forwarding", "fail", "sysctl -qw net/ipv4/conf/br0/forwarding=0"),
    fault("forwarding", "fail", "sysctl -qw net/ipv6/conf/all/forwarding=0"),
    fault(
        "forwarding",
        "fail",
        "sysctl -qw net/ipv6/conf/wan0/accept_ra=1; ip -6 route add default via fe80::1 dev wan0 proto ra",
    ),
    fault(
        "filter",
        "fail",
        "nft 'table inet own { chain fw { type filter hook forward priority 0; policy drop; }; }'",
    ),
    fault("filter", "fail", "iptables-nft -P FORWARD DROP"),
    fault(
        "filter",
        "fail",
        "nft 'table ip closed { chain fw { type filter hook forward priority 5; ct state established accept; \
         counter reject; }; }'",
    ),
    fault("mtu", "warn", "ip link set dev wan0 mtu 1400"),
    fault("files", "fail", "echo '{' > $D/00-broken.conflist"),
    fault("plugins", "fail", "chmod -x $B/bridge"),
    fault("plugins", "fail", "rm $B/portmap"),
    fault("plugins", "fail", "mount -o remount,noexec $B"),
    fault("rp_filter", "fail", "cp lan $D/lan.conflist; sysctl -qw net/ipv4/conf/wan0/rp_filter=1"),
    fault("ipv6", "fail", "sysctl -qw net/ipv6/conf/all/disable_ipv6=1"),
];

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::run(&["route", "add", "default", "via", OUTSIDE[0]])?;
    let (dir, bin) = (room.scratch("net.d"), room.scratch("plugins"));
    fs::create_dir_all(&dir)?;
    fs::write(dir.join("front.conflist"), FRONT)?;
    fs::write(room.scratch("lan"), LAN)?;
    executables(&bin)?;
    let list: Value = serde_json::from_str(FRONT)?;
    let bridge = with(&list["plugins"][0], json!({"name": "front", "cniVersion": "1.0.0"}));
    room.attach("bridge", "ADD", &room.container("c1")?).config(&bridge).run()?.result()?;

    let before = room.snapshot()?;
    let (findings, status) = doctor(room, &dir, &bin)?;
    ensure!(status == Some(0), "a sane host: exit {status:?}: {findings:#}");
    ensure!(worst(&findings, None).is_none(), "a sane host: {findings:#}");
    room.ensure_unchanged(&before, "doctor")?;

    let shell = |command: &str| {
        let (dir, bin) = (dir.display().to_string(), bin.display().to_string());
        let command = command.replace("$D", &dir).replace("$B", &bin);
        ip::output("sh", &["-ec", &command]).with_context(|| command.clone())
    };
    for Fault { id, status, seed } in FAULTS {
        shell(seed)?;
        let (findings, exit) = doctor(room, &dir, &bin)?;
        let found =
            worst(&findings, Some(id)).with_context(|| format!("{seed}: no finding: {findings:#}"))?;
        ensure!(found["status"] == status, "{seed}: {found:#}");
        ensure!(status != "fail" || exit == Some(1), "{seed}: exit {exit:?}");
        let all = items(&findings).filter(|finding| finding["id"] == id && is_bad(finding));
        for fix in all.filter_map(|finding| finding["fix"].as_array()).flatten() {
            shell(fix.as_str().context("a fix that is no text")?)?;
        }
        let (after, _) = doctor(room, &dir, &bin)?;
        ensure!(worst(&after, Some(id)).is_none(), "{seed}, after the fix {found:#}: {after:#}");
    }

    fs::write(dir.join("names.conflist"), NAMES)?;
    let _socket = UdpSocket::bind("0.0.0.0:53")?;
    let (findings, _) = doctor(room, &dir, &bin)?;
    let taken = worst(&findings, Some("dns")).context("port 53 is taken")?;
    ensure!(taken["status"] == "fail" && taken["text"].to_string().contains("port 53"), "{taken:#}");
    Ok(())
}

/// A directory of its own file system, with the names of plugins. Nothing in it is executed.
fn executables(bin: &Path) -> Result<()> {
    fs::create_dir_all(bin)?;
    ip::output("mount", &["-t", "tmpfs", "tmpfs", &bin.display().to_string()])?;
    for name in ["bridge", "dns", "host-local", "ipvlan", "portmap"] {
        fs::write(bin.join(name), "")?;
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn doctor(room: &Room, dir: &Path, bin: &Path) -> Result<(Value, Option<i32>)> {
    let dir = dir.display().to_string();
    let answer = room.tool(&["doctor", "--json", "--dir", &dir]).env("CNI_PATH", bin).run()?;
    let document: Value = serde_json::from_slice(&answer.stdout).with_context(|| answer.summary())?;
    ensure!(document["kind"] == "doctor", "{document:#}");
    Ok((document, answer.status.code()))
}

fn items(document: &Value) -> impl Iterator<Item = &Value> {
    document["items"].as_array().into_iter().flatten()
}

fn is_bad(finding: &Value) -> bool {
    finding["status"] == "fail" || finding["status"] == "warn"
}

/// The worst finding that is no praise: of this id, or a fail of any.
fn worst<'d>(document: &'d Value, id: Option<&str>) -> Option<&'d Value> {
    let of_id = |finding: &&Value| match id {
        Some(id) => finding["id"] == id && is_bad(finding),
        None => finding["status"] == "fail",
    };
    items(document).filter(of_id).max_by_key(|finding| finding["status"] == "fail")
}

fn reapply(room: &Room) -> Result<()> {
    let run = |words: &[&str]| -> Result<String> {
        let answer = room.tool(words).run()?;
        ensure!(answer.succeeded() && answer.stderr.is_empty(), "{words:?}: {}", answer.summary());
        Ok(String::from_utf8_lossy(&answer.stdout).into_owned())
    };
    let printed = run(&["reapply"])?;
    ensure!(printed.starts_with("0 records"), "with nothing on record: {printed:?}");
    let container = room.container("c1")?;
    let bridge = with(&masquerade(), json!({"macspoofchk": true}));
    let result = room.attach("bridge", "ADD", &container).config(&bridge).run()?.result()?;
    let before = rules()?;
    nft("flush ruleset")?;
    let document: Value = serde_json::from_str(&run(&["reapply", "--json"])?)?;
    let item = &document["items"][0];
    ensure!(item["records"] == 1 && item["owners"] == json!(["moor/net/eth0/c1"]), "{document:#}");
    let changes = harness::diff::lines(&before, &rules()?);
    ensure!(changes.is_empty(), "after reapply: {}", harness::diff::shown(&changes));
    // With handles: a rule that was made anew would have another one.
    let handles = || ip::output("nft", &["-a", "list", "ruleset"]);
    let listed = handles()?;
    let printed = run(&["reapply"])?;
    ensure!(printed.contains("everything is there"), "the second time: {printed:?}");
    ensure!(handles()? == listed, "a reapply with all rules present changed them");
    let bridge = with(&bridge, json!({"prevResult": result}));
    room.attach("bridge", "DEL", &container).config(&bridge).run()?.silent()?;
    ensure!(records()?.is_empty(), "records are left: {:?}", records()?);
    Ok(())
}
