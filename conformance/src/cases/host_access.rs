//! `hostAccess` of macvlan and ipvlan: host and containers reach each other, and nobody else notices (issue 4).

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::lan::{
    add, addresses_of, at_once, check, lan, one_goes_one_comes, outside, reaches, refused, until,
    vlan_gateway, vlan_lan, vlan_outside,
};
use super::with;
use crate::case::Case;
use crate::faults::steps::Victim;
use crate::ip;
use crate::need::Need;
use crate::room::Room;
use crate::room::netns::Container;

pub const CASES: &[Case] = &[
    Case::new(
        "host_access/macvlan_and_host_reach_each_other",
        &["issue 4", "NEEDS 36", "macvlan 10"],
        |room| {
            room.outside(&[])?;
            both_ways(room, "macvlan", &json!({}))
        },
    ),
    Case::new("host_access/ipvlan_l2_and_host_reach_each_other", &["issue 4"], |room| {
        room.outside(&[])?;
        both_ways(room, "ipvlan", &json!({"mode": "l2"}))
    })
    .needs(&[Need::Ipvlan]),
    Case::new("host_access/ipvlan_l3_and_host_reach_each_other", &["issue 4"], |room| routed(room, "l3"))
        .needs(&[Need::Ipvlan]),
    Case::new("host_access/ipvlan_l3s_and_host_reach_each_other", &["issue 4"], |room| routed(room, "l3s"))
        .needs(&[Need::Ipvlan]),
    Case::new("host_access/macvlan_on_a_vlan_by_addresses_of_its_own", &["issue 4"], |room| {
        own_addresses(room, "macvlan")
    })
    .needs(&[Need::VlanLinks]),
    Case::new("host_access/ipvlan_on_a_vlan_by_addresses_of_its_own", &["issue 4"], |room| {
        own_addresses(room, "ipvlan")
    })
    .needs(&[Need::VlanLinks, Need::Ipvlan]),
    Case::new("host_access/internal_by_addresses_of_its_own", &["issue 4"], internal).needs(&[Need::Dummy]),
    Case::new("host_access/neighbours_know_the_host_where_it_was", &["issue 4"], neighbours),
    Case::new("host_access/a_reused_address_is_reached_at_once", &["issue 4", "NEEDS 16"], reused),
    Case::new("host_access/check_names_every_drift", &["issue 4", "C-043"], drifts),
    Case::new("host_access/gc_takes_the_routes_of_the_dead", &["issue 4", "C-045"], dead),
    Case::new("host_access/networks_do_not_disturb_each_other", &["issue 4", "C-047"], two_networks),
    Case::new("host_access/a_failed_add_leaves_nothing", &["issue 4", "C-085"], failed_add),
    Case::new("host_access/fifty_at_once_have_one_shim_and_leave_none", &["issue 4", "C-047"], fifty),
    Case::new("host_access/the_last_goes_as_the_next_comes", &["issue 4", "C-047"], |room| {
        room.outside(&[])?;
        let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false}));
        one_goes_one_comes(room, &config, || {
            ensure!(shims()?.is_empty(), "the shim is still there");
            Ok(())
        })
    })
    .needs(&[Need::Strace]),
    Case::new("host_access/killed_at_any_step_nothing_is_left", &["issue 4", "C-047"], |room| {
        hit(room, true)
    })
    .needs(&[Need::Strace]),
    Case::new("host_access/failed_at_any_step_nothing_is_left", &["issue 4", "C-085"], |room| {
        hit(room, false)
    })
    .needs(&[Need::Strace]),
    Case::new("host_access/faults_are_refused_before_anything", &["issue 4"], faults),
    Case::new("host_access/strict_filtering_is_told_of", &["issue 4"], strict).needs(&[Need::Ipvlan]),
];

/// The host's addresses on `wan0`.
fn host() -> [String; 2] {
    ["198.51.100.1".to_owned(), "2001:db8:ff::1".to_owned()]
}

fn delete(room: &Room, plugin: &str, container: &Container, config: &Value) -> Result<()> {
    room.attach(plugin, "DEL", container).config(config).run()?.silent()
}

/// The links of the host that are there for `hostAccess`.
fn shims() -> Result<Vec<String>> {
    let rows = ip::rows(None, &["-d", "link", "show"])?;
    let shims = rows
        .iter()
        .filter(|row| row["ifalias"].as_str().is_some_and(|alias| alias.starts_with("moor:shim:")));
    Ok(shims.filter_map(|row| Some(row["ifname"].as_str()?.to_owned())).collect())
}

fn both_ways(room: &Room, plugin: &str, keys: &Value) -> Result<()> {
    let before = room.snapshot()?;
    let config = lan(plugin, &with(keys, json!({"hostAccess": true})));
    let (first, result) = add(room, plugin, "c1", &config)?;
    let (second, others) = add(room, plugin, "c2", &config)?;
    let (one, two) = (addresses_of(&result)?, addresses_of(&others)?);
    for (from, to) in [
        (None, &one),
        (None, &two),
        (Some("c1"), &host()),
        (Some("c2"), &host()),
        (Some("c1"), &two),
        (Some("c1"), &outside()),
        (Some("outside"), &one),
        (Some("outside"), &host()),
        (None, &outside()),
    ] {
        ensure!(reaches(room, from, to)?, "{from:?} cannot reach {to:?}");
    }
    ensure!(shims()?.len() == 1, "{:?}", shims()?);
    check(room, plugin, &first, &config, &result)?.silent()?;
    delete(room, plugin, &first, &config)?;
    ensure!(
        reaches(room, None, &two)? && reaches(room, Some("c2"), &host())?,
        "another's DEL took the way away"
    );
    delete(room, plugin, &second, &config)?;
    room.ensure_nothing_left(&before, &["c1", "c2"])?;
    // And without the key the host does not, as ever.
    let (_, third) = add(room, plugin, "c3", &lan(plugin, keys))?;
    ensure!(!reaches(room, None, &addresses_of(&third)?)?, "without hostAccess the host reaches a container");
    Ok(())
}

fn routed(room: &Room, mode: &str) -> Result<()> {
    room.outside(&["10.7.0.0/24", "2001:db8:7::/64"])?;
    let before = room.snapshot()?;
    // No routes: in these modes there are default routes without.
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "10.7.0.0/24", "rangeStart": "10.7.0.10"}],
                   [{"subnet": "2001:db8:7::/64", "rangeStart": "2001:db8:7::10"}]],
    });
    let config = lan("ipvlan", &json!({"mode": mode, "ipam": ipam, "hostAccess": true}));
    let (first, result) = add(room, "ipvlan", "c1", &config)?;
    let (second, others) = add(room, "ipvlan", "c2", &config)?;
    ensure!(result["routes"].as_array().is_none_or(Vec::is_empty), "{result}");
    let (one, two) = (addresses_of(&result)?, addresses_of(&others)?);
    for (from, to) in [
        (None, &one),
        (Some("c1"), &host()),
        (Some("c1"), &two),
        (Some("c1"), &outside()),
        (Some("outside"), &two),
    ] {
        ensure!(reaches(room, from, to)?, "mode {mode}: {from:?} cannot reach {to:?}");
    }
    check(room, "ipvlan", &first, &config, &result)?.silent()?;
    ip::script(Some("c1"), "route del default")?;
    let error = check(room, "ipvlan", &first, &config, &result)?.error()?;
    ensure!(error.msg.contains("route 0.0.0.0/0 on eth0: expected on link, actual missing"), "{error}");
    delete(room, "ipvlan", &first, &config)?;
    delete(room, "ipvlan", &second, &config)?;
    room.ensure_nothing_left(&before, &["c1", "c2"])?;
    let (_, _) = add(room, "ipvlan", "c3", &with(&config, json!({"defaultRoute": false})))?;
    ensure!(
        ip::rows(Some("c3"), &["route", "show", "default"])?.is_empty(),
        "a default route nobody asked for"
    );
    Ok(())
}

fn own_addresses(room: &Room, plugin: &str) -> Result<()> {
    vlan_outside(room)?;
    let before = room.snapshot()?;
    let container = room.container("c0")?;
    let bare = vlan_lan(plugin, &json!({"vlan": 10, "hostAccess": true}));
    refused(room, plugin, &container, &bare, "the host has no IPv4 address on \"wan0.10\"")?;
    let own = ["10.10.10.3".to_owned(), "fd00:10::3".to_owned()];
    let config = with(&bare, json!({"hostAddresses": own}));
    let (first, result) = add(room, plugin, "c1", &config)?;
    let (second, others) = add(room, plugin, "c2", &config)?;
    let (one, two) = (addresses_of(&result)?, addresses_of(&others)?);
    for (from, to) in
        [(None, &one), (None, &two), (Some("c1"), &own), (Some("c2"), &own), (Some("c1"), &vlan_gateway(10))]
    {
        ensure!(reaches(room, from, to)?, "{from:?} cannot reach {to:?}");
    }
    check(room, plugin, &first, &config, &result)?.silent()?;
    delete(room, plugin, &first, &config)?;
    ensure!(reaches(room, None, &two)?, "another's DEL took the way away");
    delete(room, plugin, &second, &config)?;
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

fn internal(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.10"}],
                   [{"subnet": "fd00:77::/64", "rangeStart": "fd00:77::10"}]],
    });
    let own = ["10.77.0.3".to_owned(), "fd00:77::3".to_owned()];
    let keys = json!({"master": null, "internal": true, "enabledad": false, "ipam": ipam});
    let config = lan("macvlan", &with(&keys, json!({"hostAccess": true, "hostAddresses": own})));
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    ensure!(reaches(room, None, &addresses_of(&result)?)? && reaches(room, Some("c1"), &own)?);
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    // The shim goes first, then what it was on.
    delete(room, "macvlan", &container, &config)?;
    room.ensure_nothing_left(&before, &["c1"])
}

/// The host has one more link on the wire. Whoever asks for the host's addresses must hear of the one they are on.
fn neighbours(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"hostAccess": true}));
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    ensure!(reaches(room, None, &addresses_of(&result)?)?);
    let wan = ip::link(None, "wan0")?.context("no wan0")?;
    for round in 0..5 {
        ip::script(Some("outside"), "neigh flush all")?;
        ensure!(reaches(room, Some("outside"), &host())?, "round {round}");
        for address in host() {
            let rows = ip::rows(Some("outside"), &["neigh", "show", &address])?;
            ensure!(
                rows.iter().all(|row| row["lladdr"] == wan["address"]),
                "round {round}: {rows:?}, not {wan}"
            );
        }
    }
    delete(room, "macvlan", &container, &config)?;
    ensure!(reaches(room, Some("outside"), &host())?, "the host is lost with its link");
    Ok(())
}

fn reused(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10", "rangeEnd": "198.51.100.10"}],
                   [{"subnet": "2001:db8:ff::/64", "rangeStart": "2001:db8:ff::10", "rangeEnd": "2001:db8:ff::10"}]],
    });
    let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false, "ipam": ipam}));
    // Somebody else keeps the link there.
    add(
        room,
        "macvlan",
        "other",
        &lan(
            "macvlan",
            &json!({"hostAccess": true, "enabledad": false, "ipam": {
        "type": "host-local", "dataDir": "/var/lib/cni/other", "subnet": "198.51.100.0/24", "rangeStart": "198.51.100.99"}}),
        ),
    )?;
    for nth in 0..3 {
        let (container, result) = add(room, "macvlan", &format!("c{nth}"), &config)?;
        ensure!(reaches(room, None, &addresses_of(&result)?)?, "the {nth}th holder is not reached");
        delete(room, "macvlan", &container, &config)?;
    }
    Ok(())
}

fn drifts(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let keys = json!({"hostAccess": true, "hostAddresses": ["198.51.100.3"], "enabledad": false});
    let config = lan("macvlan", &keys);
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    let shim = shims()?.pop().context("no shim")?;
    let [v4, v6] = addresses_of(&result)?;
    let there = ip::rows(None, &["route", "show", &v4])?;
    let metric = &there.first().context("no route")?["metric"];
    let renewed = |route: &str| format!("{route} dev {shim} proto 109 metric {metric}");
    for (change, back, text) in [
        (
            format!("route del {v4}"),
            renewed(&format!("route add {v4}/32 src 198.51.100.3 scope link")),
            format!("the host's route to {v4}: expected from 198.51.100.3, actual missing"),
        ),
        (
            format!("-6 route del {v6}"),
            renewed(&format!("-6 route add {v6}/128 src 2001:db8:ff::1")),
            format!("the host's route to {v6}: expected from 2001:db8:ff::1, actual missing"),
        ),
    ] {
        ip::script(None, &change)?;
        let error = check(room, "macvlan", &container, &config, &result)?.error()?;
        ensure!(error.msg.contains(&text), "{change}: expected {text:?} in {error}");
        ip::script(None, &back)?;
        check(room, "macvlan", &container, &config, &result)?.silent().with_context(|| back.clone())?;
    }
    ip::script(Some("c1"), "-6 route del 2001:db8:ff::1")?;
    let error = check(room, "macvlan", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("route 2001:db8:ff::1/128 on eth0: expected via fe80:"), "{error}");
    ip::run(&["addr", "del", "198.51.100.3/32", "dev", &shim])?;
    let error = check(room, "macvlan", &container, &config, &result)?.error()?;
    ensure!(
        error.msg.contains(&format!("address of {shim}: expected 198.51.100.3/32, actual missing")),
        "{error}"
    );
    ip::run(&["link", "set", &shim, "down"])?;
    let error = check(room, "macvlan", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains(&format!("state of {shim}: expected up, actual down")), "{error}");
    ip::run(&["link", "del", &shim])?;
    let error = check(room, "macvlan", &container, &config, &result)?.error()?;
    ensure!(
        error.msg.contains(&format!("the host's interface {shim}: expected present, actual missing")),
        "{error}"
    );
    // A DEL finds nothing, and says nothing.
    delete(room, "macvlan", &container, &config)
}

fn dead(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false, "cniVersion": "1.1.0"}));
    let (gone, result) = add(room, "macvlan", "c1", &config)?;
    let (alive, others) = add(room, "macvlan", "c2", &config)?;
    let [v4, v6] = addresses_of(&result)?;
    room.remove(&gone)?;
    let gc = |ids: &[&str]| {
        let list: Vec<_> = ids.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        let config = with(&config, json!({"cni.dev/valid-attachments": list}));
        room.call("macvlan", "GC").config(&config).run()?.silent()
    };
    gc(&["c2"])?;
    for (family, address) in [("-4", &v4), ("-6", &v6)] {
        let rows = ip::rows(None, &[family, "route", "show", address])?;
        ensure!(rows.is_empty(), "the route of the dead is still there: {rows:?}");
    }
    check(room, "macvlan", &alive, &config, &others)?.silent().context("GC broke a valid attachment")?;
    // DEL too finds the routes without the namespace, without a result, with a broken configuration.
    room.remove(&alive)?;
    let broken = with(&config, json!({"mode": "no such", "hostAccess": 5, "master": 5, "vlan": "x"}));
    delete(room, "macvlan", &alive, &broken)?;
    until("the shim is gone", || Ok(shims()?.is_empty()))?;
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

fn two_networks(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let network = |name: &str, start: &str| {
        let ipam = json!({"type": "host-local", "subnet": "198.51.100.0/24", "rangeStart": start});
        let keys = json!({"name": name, "ipam": ipam, "hostAccess": true, "cniVersion": "1.1.0"});
        lan("macvlan", &keys)
    };
    let (one, two) = (network("one", "198.51.100.50"), network("two", "198.51.100.90"));
    let (first, result) = add(room, "macvlan", "c1", &one)?;
    let (second, others) = add(room, "macvlan", "c2", &two)?;
    // The name is taken, so this ADD fails; the DEL after it is of the same container and interface.
    refused(room, "macvlan", &first, &two, "file exists")?;
    delete(room, "macvlan", &first, &two)?;
    check(room, "macvlan", &first, &one, &result)?.silent().context("another network's DEL")?;
    let none = with(&two, json!({"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}));
    room.call("macvlan", "GC").config(&none).run()?.silent()?;
    check(room, "macvlan", &first, &one, &result)?.silent().context("another network's GC")?;
    delete(room, "macvlan", &first, &one)?;
    check(room, "macvlan", &second, &two, &others)?.silent()?;
    delete(room, "macvlan", &second, &two)?;
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

fn failed_add(room: &Room) -> Result<()> {
    room.outside(&[])?;
    // Somebody's link has the name of ours: the last step of ADD fails.
    let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false}));
    let (container, _) = add(room, "macvlan", "c1", &config)?;
    let name = shims()?.pop().context("no shim")?;
    delete(room, "macvlan", &container, &config)?;
    ip::run(&["link", "add", &name, "type", "bridge"])?;
    refused(room, "macvlan", &container, &config, "failed to give the host access")?;
    delete(room, "macvlan", &container, &config)?;
    let theirs = ip::link(None, &name)?.context("somebody else's link is gone")?;
    ensure!(theirs["linkinfo"]["info_kind"] == "bridge", "{theirs}");
    Ok(())
}

fn hit(room: &Room, kill: bool) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false}));
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let nothing_left = || {
        ensure!(ip::link(Some("c1"), "eth0")?.is_none(), "the container's link is left");
        room.ensure_nothing_left(&before, &["c1"])
    };
    for verb in ["ADD", "DEL"] {
        let victim = Victim { room, plugin: "macvlan", verb, container: &container, config: &config };
        let steps =
            if kill { victim.killed_at_each(nothing_left) } else { victim.failed_at_each(nothing_left) }?;
        ensure!(steps > 10, "only {steps} steps of {verb} were tried");
    }
    Ok(())
}

fn fifty(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false}));
    let before = room.snapshot()?;
    let containers: Vec<Container> =
        (0..50).map(|nth| room.container(&format!("many{nth}"))).collect::<Result<_>>()?;
    let results = at_once(room, "ADD", &containers, &config)?;
    ensure!(shims()?.len() == 1, "{:?}", shims()?);
    for answer in [results.first(), results.last()].into_iter().flatten() {
        let to = addresses_of(&answer.result()?)?;
        ensure!(reaches(room, None, &to)?, "the host cannot reach {to:?}");
    }
    for answer in at_once(room, "DEL", &containers, &config)? {
        answer.silent()?;
    }
    room.ensure_nothing_left(&before, &["many"])
}

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::script(None, "link add bare0 type veth peer name bare1\n link set bare0 up\n link set bare1 up")?;
    let container = room.container("c1")?;
    for (plugin, keys, text) in [
        ("macvlan", json!({"mode": "private"}), "hostAccess needs mode bridge"),
        ("macvlan", json!({"mode": "passthru"}), "hostAccess needs mode bridge"),
        ("macvlan", json!({"ipam": null}), "hostAccess needs ipam"),
        ("macvlan", json!({"linkInContainer": true}), "hostAccess is for a master of the host"),
        (
            "macvlan",
            json!({"hostAddresses": ["10.0.0.1/24"]}),
            "invalid address \"10.0.0.1/24\" in hostAddresses",
        ),
        (
            "macvlan",
            json!({"hostAccess": false, "hostAddresses": ["10.0.0.1"]}),
            "hostAddresses needs hostAccess",
        ),
        ("macvlan", json!({"master": "bare0"}), "hostAccess: the host has no IPv4 address on \"bare0\""),
        ("ipvlan", json!({"flag": "private"}), "hostAccess needs flag bridge"),
        ("ipvlan", json!({"flag": "vepa"}), "hostAccess needs flag bridge"),
    ] {
        let config = lan(plugin, &with(&json!({"hostAccess": true}), keys));
        refused(room, plugin, &container, &config, text).with_context(|| config.to_string())?;
    }
    Ok(())
}

fn strict(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let path = "/proc/sys/net/ipv4/conf/wan0/rp_filter";
    std::fs::write(path, "1")?;
    let container = room.container("c0")?;
    let config = lan("ipvlan", &json!({"hostAccess": true}));
    refused(room, "ipvlan", &container, &config, "net.ipv4.conf.wan0.rp_filter is 1")?;
    // An address of its own is on the way that the answers take.
    let own = ["198.51.100.3".to_owned(), "2001:db8:ff::3".to_owned()];
    let config = with(&config, json!({"hostAddresses": own}));
    let (first, result) = add(room, "ipvlan", "c1", &config)?;
    ensure!(reaches(room, None, &addresses_of(&result)?)? && reaches(room, Some("c1"), &own)?);
    delete(room, "ipvlan", &first, &config)
}
