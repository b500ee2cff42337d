//! `hostAccess` over its lifetime: CHECK, GC, shared use, concurrency, failures.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{
    add, addresses_of, at_once, check, lan, one_goes_one_comes, reaches, refused, until,
};
use harness::strace::victim::Victim;
use serde_json::json;

use crate::host_access::{delete, shims};

pub const CASES: &[Case] = &[
    Case::new("host_access/check_names_every_drift", &["C-043", "LK-24"], drifts),
    Case::new("host_access/gc_removes_the_routes_of_dead_containers", &["C-045", "LK-25"], dead),
    Case::new("host_access/networks_do_not_disturb_each_other", &["C-047", "LK-26"], two_networks),
    Case::new("host_access/a_failed_add_leaves_nothing", &["C-085", "LK-27"], failed_add),
    Case::new("host_access/fifty_concurrent_adds_share_one_shim_and_leave_none", &["C-047", "LK-26"], fifty),
    Case::new("host_access/a_last_del_and_a_first_add_may_race", &["C-047", "LK-26"], |room| {
        room.outside(&[])?;
        let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false}));
        one_goes_one_comes(room, &config, || {
            ensure!(shims()?.is_empty(), "the shim is still there");
            Ok(())
        })
    })
    .needs(&[Need::Strace]),
    Case::new("host_access/a_kill_at_any_step_leaves_nothing", &["C-047", "LK-27"], |room| hit(room, true))
        .needs(&[Need::Strace]),
    Case::new("host_access/a_failure_at_any_step_leaves_nothing", &["C-085", "LK-27"], |room| {
        hit(room, false)
    })
    .needs(&[Need::Strace]),
];

fn drifts(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let keys = json!({"hostAccess": true, "hostAddresses": ["198.51.100.3"], "enabledad": false});
    let config = lan("macvlan", &keys);
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    let shim = shims()?.pop().context("no shim")?;
    let [v4, v6] = addresses_of(&result)?;
    // The host may lose its routes: CHECK restores them.
    for (family, address, route) in
        [("-4", &v4, format!("route del {v4}")), ("-6", &v6, format!("-6 route del {v6}"))]
    {
        ip::script(None, &route)?;
        check(room, "macvlan", &container, &config, &result)?.silent().with_context(|| route.clone())?;
        let there = ip::rows(None, &[family, "route", "show", address])?;
        ensure!(!there.is_empty(), "CHECK does not restore {route}");
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
    // DEL finds nothing, and prints nothing.
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
        ensure!(rows.is_empty(), "the dead container's route is still there: {rows:?}");
    }
    check(room, "macvlan", &alive, &config, &others)?.silent().context("GC broke a valid attachment")?;
    // DEL finds the routes without the namespace, without a result, and with an invalid
    // configuration.
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
    // The name exists, so this ADD fails; the DEL after it is for the same container and interface.
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
    // A foreign link has the name of ours: the last step of ADD fails.
    let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false}));
    let (container, _) = add(room, "macvlan", "c1", &config)?;
    let name = shims()?.pop().context("no shim")?;
    delete(room, "macvlan", &container, &config)?;
    ip::run(&["link", "add", &name, "type", "bridge"])?;
    refused(room, "macvlan", &container, &config, "failed to give the host access")?;
    delete(room, "macvlan", &container, &config)?;
    let theirs = ip::link(None, &name)?.context("the foreign link is gone")?;
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
