//! ptp: CHECK, DEL and GC, and what the reference's ADD made.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, ptp, with};
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::{golden, ip, snapshot};
use serde_json::{Value, json};

use crate::ptp::{add, call, host_end, reference};

pub const CASES: &[Case] = &[
    Case::new("ptp/check_names_every_drift_at_both_ends", &["PT-4", "PT-B5"], drifts),
    Case::new("ptp/check_reports_forwarding_that_is_off_and_passes", &["PT-B5"], forwarding),
    Case::new("ptp/check_needs_prev_result", &["PT-4"], needs_previous),
    Case::new("ptp/del_matrix_leaves_nothing", &["PT-5", "PT-B2"], matrix),
    Case::new("ptp/del_keeps_other_attachments", &["PT-5"], others),
    Case::new("ptp/host_end_is_derived_and_a_killed_add_is_found_by_it", &["PT-R1"], derived),
    Case::new("ptp/gc_removes_links_and_rules_of_invalid_attachments", &["PT-R2"], gc),
    Case::new("ptp/check_and_del_take_what_the_reference_made", &["PT-R6"], migration)
        .needs(&[Need::Reference]),
    Case::new("ptp/del_takes_the_references_nftables_rules", &["PT-R6"], reference_nftables),
    Case::new("ptp/del_keeps_a_pair_that_is_not_provably_its_own", &["PT-R6"], foreign_pair),
];

/// With packet rules.
fn config() -> Value {
    with(&ptp(USUAL), json!({"ipMasq": true}))
}

fn drifts(room: &Room) -> Result<()> {
    let changes: [(&str, Option<&str>, &str); 10] = [
        ("10.1.2.2/24", Some("c1"), "addr del 10.1.2.2/24 dev eth0"),
        ("2001:db8:1::2/64", Some("c1"), "addr del 2001:db8:1::2/64 dev eth0"),
        ("0.0.0.0/0", Some("c1"), "route del default"),
        ("10.1.2.0/24", Some("c1"), "route del 10.1.2.0/24"),
        ("MAC address of eth0", Some("c1"), "link set eth0 address 02:00:00:00:00:77"),
        ("route 2001:db8:1::/64", Some("c1"), "-6 route del 2001:db8:1::/64 dev eth0"),
        ("10.1.2.1/32", None, "addr del 10.1.2.1/32 dev HOST"),
        ("the host's route to 10.1.2.2", None, "route del 10.1.2.2 dev HOST"),
        ("the host's route to 2001:db8:1::2", None, "-6 route del 2001:db8:1::2 dev HOST"),
        ("MTU of HOST", None, "link set HOST mtu 1300"),
    ];
    for (text, ns, change) in changes {
        let container = room.container("c1")?;
        let config = with(&config(), json!({"mtu": 1400}));
        let result = call(room, "ADD", &container, &config)?.result()?;
        let kept = with(&config, json!({"prevResult": result}));
        let host = host_end(&result)?;
        call(room, "CHECK", &container, &kept)?.silent().context("right after ADD")?;
        ip::script(ns, &change.replace("HOST", &host))?;
        call(room, "CHECK", &container, &kept)?
            .error_with(999, &text.replace("HOST", &host))
            .with_context(|| change.to_owned())?;
        call(room, "DEL", &container, &kept)?.silent()?;
        room.remove(&container)?;
        // The next container gets the same addresses.
        fs::remove_dir_all("/var/lib/cni/networks")?;
    }
    let (container, result) = add(room, "c2", &config())?;
    ip::run(&["link", "del", &host_end(&result)?])?;
    let kept = with(&config(), json!({"prevResult": result}));
    call(room, "CHECK", &container, &kept)?.error_with(999, "eth0").map(drop)
}

fn forwarding(room: &Room) -> Result<()> {
    let (container, result) = add(room, "c1", &ptp(USUAL))?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "0")?;
    let answer = call(room, "CHECK", &container, &with(&ptp(USUAL), json!({"prevResult": result})))?;
    answer.silent()?;
    ensure!(answer.stderr.contains("net/ipv4/ip_forward"), "{:?}", answer.stderr);
    ensure!(room.host_sysctl("net/ipv4/ip_forward")? == "0", "CHECK changed a parameter of the host");
    Ok(())
}

fn needs_previous(room: &Room) -> Result<()> {
    let (container, result) = add(room, "c1", &ptp(USUAL))?;
    call(room, "CHECK", &container, &ptp(USUAL))?.error_with(999, "Required prevResult missing")?;
    let mut other = result;
    other["interfaces"][1]["sandbox"] = "/run/netns/other".into();
    let kept = with(&ptp(USUAL), json!({"prevResult": other}));
    call(room, "CHECK", &container, &kept)?.error_with(999, "doesn't match configured netns").map(drop)
}

/// {namespace fine, empty, gone, a plain file} x {prevResult, none} x {other attachments, none},
/// twice each. The reference leaves the rules if the namespace is empty.
fn matrix(room: &Room) -> Result<()> {
    let config = || with(&config(), json!({"ipspoofchk": true}));
    for others in [false, true] {
        if others {
            add(room, "other", &config())?;
        }
        for (n, (netns, prev)) in ["fine", "empty", "gone", "file"]
            .into_iter()
            .flat_map(|netns| [(netns, true), (netns, false)])
            .enumerate()
        {
            let what = format!("others {others}, namespace {netns}, prevResult {prev}");
            let before = room.snapshot()?;
            let id = format!("c{n}-{others}");
            let (container, result) = add(room, &id, &config())?;
            let held = File::open(&container.path)?;
            if netns == "gone" || netns == "file" {
                room.remove(&container)?;
            }
            let plain = room.write("plain", "")?;
            let config = if prev { with(&config(), json!({"prevResult": result})) } else { config() };
            for time in ["once", "twice"] {
                let call = room.attach("ptp", "DEL", &container).config(&config);
                let call = match netns {
                    "empty" => call.env("CNI_NETNS", ""),
                    "file" => call.env("CNI_NETNS", &plain),
                    _ => call,
                };
                call.run()?.silent().with_context(|| format!("{what}, {time}"))?;
                room.ensure_nothing_left(&before, &[&id]).with_context(|| format!("{what}, {time}"))?;
            }
            drop(held);
        }
    }
    Ok(())
}

fn others(room: &Room) -> Result<()> {
    let (container, _) = add(room, "c1", &config())?;
    let before = room.snapshot()?;
    let del = || room.attach("ptp", "DEL", &container).config(&config()).env("CNI_NETNS", "");
    del().env("CNI_IFNAME", "eth1").run()?.silent()?;
    del().env("CNI_CONTAINERID", "c").run()?.silent()?;
    del().env("CNI_CONTAINERID", "c11").run()?.silent()?;
    // Another network with this interface of this container: its ADD was refused.
    let other = with(&config(), json!({"name": "other"}));
    call(room, "ADD", &container, &other)?.error_with(999, "already exists")?;
    call(room, "DEL", &container, &other)?.silent()?;
    room.ensure_nothing_left(&before, &[])?;
    room.reach("c1", "10.1.2.1")?;
    // DEL with a broken configuration still finds everything.
    let broken = with(&config(), json!({"mtu": "big", "ipMasqBackend": "x", "mac": 5}));
    call(room, "DEL", &container, &broken)?.silent()?;
    let rules = snapshot::rules()?;
    ensure!(rules.is_empty() && ip::links(Some("c1"))? == ["lo"], "left: {rules:#?}");
    Ok(())
}

fn derived(room: &Room) -> Result<()> {
    let (container, result) = add(room, "c1", &config())?;
    let first = host_end(&result)?;
    ensure!(golden::is_veth(&first), "{first}");
    let alias = ip::link(None, &first)?.context("no host end")?;
    ensure!(alias["ifalias"] == "moor/net/eth0/c1", "{alias}");
    call(room, "DEL", &container, &config())?.silent()?;
    let result = call(room, "ADD", &container, &config())?.result()?;
    ensure!(host_end(&result)? == first, "the same owner got another name: {result}");
    call(room, "DEL", &container, &config())?.silent()?;
    // What an ADD that was killed at once has left: no label, no address.
    let before = room.snapshot()?;
    ip::run(&["link", "add", &first, "type", "veth", "peer", "name", "eth0", "netns", "c1"])?;
    call(room, "DEL", &container, &config())?.silent()?;
    room.ensure_nothing_left(&before, &["c1"])
}

fn gc(room: &Room) -> Result<()> {
    let mut foreign = with(&config(), json!({"name": "other"}));
    foreign["ipam"]["ranges"] = json!([[{"subnet": "10.5.0.0/24"}]]);
    foreign["ipam"]["routes"] = json!([]);
    add(room, "foreign", &foreign)?;
    let config = with(&config(), json!({"cniVersion": "1.1.0"}));
    add(room, "c1", &config)?;
    let before = room.snapshot()?;
    for id in ["c2", "c3"] {
        add(room, id, &config)?;
    }
    let collect = |keys: Value| room.call("ptp", "GC").config(&with(&config, keys)).run()?.silent();
    let all = room.snapshot()?;
    collect(json!({}))?;
    room.ensure_unchanged(&all, "GC without a list removed something")?;
    collect(json!({"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}))?;
    room.ensure_nothing_left(&before, &["c2", "c3"])?;
    room.reach("c1", "10.1.2.1")?;
    collect(json!({"cni.dev/valid-attachments": []}))?;
    let rules = snapshot::rules()?.join("\n");
    ensure!(!rules.contains("moor/net/") && rules.contains("moor/other/eth0/foreign"), "{rules}");
    room.reach("foreign", "10.5.0.1")
}

/// Executables are replaced under running containers.
fn migration(room: &Room) -> Result<()> {
    let config = with(&config(), json!({"cniVersion": "1.0.0"}));
    for (id, netns, prev) in [
        ("c1", "fine", true),
        ("c2", "fine", false),
        ("c3", "empty", true),
        ("c4", "gone", true),
        ("c5", "gone", false),
    ] {
        let container = room.container(id)?;
        let before = ip::links(None)?;
        let result = reference(room, "ADD", &container, "eth0").config(&config).run()?.result()?;
        let kept = with(&config, json!({"prevResult": result}));
        call(room, "CHECK", &container, &kept)?.silent().with_context(|| format!("{id}: CHECK"))?;
        if netns == "gone" {
            room.remove(&container)?;
        }
        let del = room.attach("ptp", "DEL", &container).config(if prev { &kept } else { &config });
        let del = if netns == "empty" { del.env("CNI_NETNS", "") } else { del };
        del.run()?.silent().with_context(|| format!("{id}: DEL"))?;
        let rules = snapshot::rules()?.join("\n");
        ensure!(!rules.contains("CNI-"), "{id}: left: {rules}");
        ensure!(!Path::new("/var/lib/cni/networks/net/10.1.2.2").exists(), "{id}: left its lease");
        if netns == "empty" {
            // Without its label, a link is found only by the container.
            call(room, "DEL", &container, &kept)?.silent()?;
        }
        if netns != "gone" {
            let links = ip::links(None)?;
            ensure!(links == before, "{id}: left among {links:?}");
        }
        fs::remove_dir_all("/var/lib/cni/networks")?;
    }
    Ok(())
}

/// The nftables back end is newer than the reference that distributions package; this is its rule
/// for network `mynet`, `eth0` of `cid1`.
fn reference_nftables(room: &Room) -> Result<()> {
    let before = snapshot::rules()?;
    let script = "table inet cni_plugins_masquerade {
            chain masq_checks {
                ip saddr == 10.1.2.2 ip daddr != 10.1.2.0/24 masquerade comment \"d23676b4f2d9fe04-0b65a318f52e521b, net: mynet, if: eth0, id: cid1\"
            }
        }\n";
    let path = room.write("script.nft", script)?;
    ip::output("nft", &["-f", &path.display().to_string()])?;
    let container = Container { id: "cid1".into(), path: "/run/netns/gone".into() };
    call(room, "DEL", &container, &with(&config(), json!({"name": "mynet"})))?.silent()?;
    let rules = snapshot::rules()?.join("\n");
    ensure!(before.is_empty() && !rules.contains("cid1"), "left: {rules}");
    Ok(())
}

/// Pairs of other plugins and of administrators under the attachment's interface name.
fn foreign_pair(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    for (host, address) in [("veth12345678", "10.77.0.5/24"), ("people0", "10.1.2.5/24")] {
        ip::run(&["link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", "c1"])?;
        ip::run_in("c1", &["addr", "add", address, "dev", "eth0"])?;
        call(room, "DEL", &container, &config())?.silent()?;
        ensure!(ip::link(None, host)?.is_some(), "the pair of {host} is gone");
        ip::run(&["link", "del", host])?;
    }
    Ok(())
}
