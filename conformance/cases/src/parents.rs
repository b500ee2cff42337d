//! Parents that are created on demand: a VLAN on a link of the host, and the wire of an internal
//! network.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{
    add, addresses_of, at_once, check, lan, one_goes_one_comes, reaches, refused, until, vlan_gateway,
    vlan_lan, vlan_outside,
};
use harness::strace::victim::Victim;
use serde_json::{Value, json};

const VLAN: &[Need] = &[Need::VlanLinks];
const IPVLAN: &[Need] = &[Need::VlanLinks, Need::Ipvlan];

pub const CASES: &[Case] = &[
    Case::new("parents/the_first_add_creates_the_vlan_and_the_last_del_removes_it", &["MV-R5"], |room| {
        first_and_last(room, "macvlan")
    })
    .needs(VLAN),
    Case::new("parents/the_first_ipvlan_creates_the_vlan_and_the_last_removes_it", &["IV-R3"], |room| {
        first_and_last(room, "ipvlan")
    })
    .needs(IPVLAN),
    Case::new("parents/networks_share_a_vlan", &["LK-30"], shared).needs(VLAN),
    Case::new("parents/an_existing_vlan_is_used_and_kept", &["MV-L2"], existing).needs(VLAN),
    Case::new("parents/a_vlan_in_use_by_others_is_kept", &["MV-L2"], used_by_others).needs(VLAN),
    Case::new("parents/vlans_do_not_reach_each_other", &["LK-31"], other_vlan).needs(VLAN),
    Case::new("parents/gc_removes_the_vlan_of_dead_containers", &["C-045", "LK-34"], dead).needs(VLAN),
    Case::new("parents/a_lost_run_directory_breaks_no_attachment", &["LK-32"], lost_run).needs(VLAN),
    Case::new("parents/a_failed_add_leaves_no_vlan", &["C-085", "LK-35"], failed_add).needs(VLAN),
    Case::new("parents/check_and_status_inspect_the_vlan", &["C-043", "C-044", "LK-36"], drifts).needs(VLAN),
    Case::new("parents/fifty_concurrent_adds_share_one_vlan_and_leave_none", &["C-046", "LK-30"], fifty)
        .needs(VLAN),
    Case::new("parents/a_last_del_and_a_first_add_may_race", &["C-047", "LK-30"], |room| {
        vlan_outside(room)?;
        let config =
            json!({"cniVersion": harness::config::USUAL, "name": "lan", "type": "macvlan", "master": PARENT});
        one_goes_one_comes(room, &config, || ensure_gone(PARENT))
    })
    .needs(&[Need::VlanLinks, Need::Strace]),
    Case::new("parents/add_killed_at_any_step_leaves_no_vlan", &["C-047", "R-1", "LK-35"], |room| {
        killed(room, "ADD")
    })
    .needs(&[Need::VlanLinks, Need::Strace]),
    Case::new("parents/del_killed_at_any_step_leaves_no_vlan", &["C-047", "R-1", "LK-35"], |room| {
        killed(room, "DEL")
    })
    .needs(&[Need::VlanLinks, Need::Strace]),
    Case::new("parents/internal_macvlan_reaches_siblings_only", &["MV-R5"], |room| {
        internal(room, "macvlan", &json!({}))
    })
    .needs(&[Need::Dummy]),
    Case::new("parents/internal_ipvlan_reaches_siblings_only", &["IV-R3"], |room| {
        internal(room, "ipvlan", &json!({"mode": "l2"}))?;
        internal(room, "ipvlan", &json!({"mode": "l3"}))
    })
    .needs(&[Need::Dummy, Need::Ipvlan]),
    Case::new("parents/invalid_config_is_refused_before_any_change", &["LK-33"], faults),
];

const PARENT: &str = "wan0.10";

fn delete(room: &Room, plugin: &str, container: &Container, config: &Value) -> Result<()> {
    room.attach(plugin, "DEL", container).config(config).run()?.silent()
}

fn ensure_gone(name: &str) -> Result<()> {
    ensure!(ip::link(None, name)?.is_none(), "{name} is still there");
    Ok(())
}

fn first_and_last(room: &Room, plugin: &str) -> Result<()> {
    vlan_outside(room)?;
    for (nth, keys) in [json!({"master": PARENT}), json!({"vlan": 10, "enabledad": false})].iter().enumerate()
    {
        let config = vlan_lan(plugin, keys);
        let before = room.snapshot()?;
        let (first, result) = add(room, plugin, &format!("a{nth}"), &config)?;
        let (second, others) = add(room, plugin, &format!("b{nth}"), &config)?;
        let link = ip::link(None, PARENT)?.context("no VLAN link")?;
        ensure!(link["linkinfo"]["info_data"]["id"] == 10 && link["link"] == "wan0", "{link}");
        ensure!(link["ifalias"] == "moor:parent", "{link}");
        ensure!(ip::addresses(None, PARENT)?.is_empty(), "the host has an address in the containers' VLAN");
        let (one, two, outside) = (addresses_of(&result)?, addresses_of(&others)?, vlan_gateway(10));
        for (from, to) in [(&*first.id, &outside), ("outside", &one), (&*first.id, &two), (&*second.id, &one)]
        {
            ensure!(reaches(room, Some(from), to)?, "{from} cannot reach {to:?}");
        }
        check(room, plugin, &first, &config, &result)?.silent()?;
        delete(room, plugin, &first, &config)?;
        ensure!(ip::link(None, PARENT)?.is_some(), "the VLAN went before the last container");
        ensure!(
            reaches(room, Some(&second.id), &outside)?,
            "another container's DEL cut off the second container"
        );
        delete(room, plugin, &second, &config)?;
        ensure_gone(PARENT)?;
        delete(room, plugin, &second, &config)?;
        room.ensure_nothing_left(&before, &[&first.id, &second.id])?;
    }
    Ok(())
}

fn shared(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let layer2 = |name: &str, keys: Value| {
        let config = json!({"cniVersion": harness::config::USUAL, "name": name, "type": "macvlan"});
        with(&config, keys)
    };
    let one = layer2("one", json!({"master": PARENT}));
    let two = layer2("two", json!({"master": "wan0", "vlan": 10}));
    let (first, _) = add(room, "macvlan", "c1", &one)?;
    let (second, result) = add(room, "macvlan", "c2", &two)?;
    let vlans = ip::rows(None, &["-d", "link", "show", "type", "vlan"])?;
    ensure!(vlans.len() == 1, "{vlans:?}");
    delete(room, "macvlan", &first, &one)?;
    check(room, "macvlan", &second, &two, &result)?.silent()?;
    delete(room, "macvlan", &second, &two)?;
    ensure_gone(PARENT)
}

fn existing(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    ip::script(None, "link add link wan0 name people type vlan id 10\n link set people up")?;
    let before = room.snapshot()?;
    for keys in [json!({"vlan": 10}), json!({"master": PARENT})] {
        let config = vlan_lan("macvlan", &with(&keys, json!({"enabledad": false})));
        let container = room.container("c1")?;
        let result = room.attach("macvlan", "ADD", &container).config(&config).run()?.result()?;
        ensure!(ip::link(None, PARENT)?.is_none(), "a second link of VLAN 10");
        check(room, "macvlan", &container, &config, &result)?.silent()?;
        delete(room, "macvlan", &container, &config)?;
        room.ensure_nothing_left(&before, &["c1"]).with_context(|| keys.to_string())?;
        room.remove(&container)?;
    }
    // ADD does not set up a link that an administrator set down.
    ip::run(&["link", "set", "people", "down"])?;
    let (container, _) = add(room, "macvlan", "c2", &vlan_lan("macvlan", &json!({"vlan": 10})))?;
    let people = ip::link(None, "people")?.context("no link people")?;
    ensure!(!people["flags"].to_string().contains("UP"), "it was set up: {people}");
    delete(room, "macvlan", &container, &vlan_lan("macvlan", &json!({"vlan": 10})))
}

fn used_by_others(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let config = vlan_lan("macvlan", &json!({"vlan": 10, "enabledad": false}));
    for (use_it, leave_it) in [
        ("addr add 203.0.113.1/24 dev wan0.10", "addr del 203.0.113.1/24 dev wan0.10"),
        ("link add link wan0.10 name theirs type vlan id 5", "link del theirs"),
    ] {
        let (container, _) = add(room, "macvlan", "c1", &config)?;
        ip::script(None, use_it)?;
        delete(room, "macvlan", &container, &config)?;
        ensure!(ip::link(None, PARENT)?.is_some(), "gone in spite of: {use_it}");
        ip::script(None, leave_it)?;
        delete(room, "macvlan", &container, &config)?;
        ensure_gone(PARENT)?;
        room.remove(&container)?;
    }
    Ok(())
}

fn other_vlan(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let on = |vlan: u64| vlan_lan("macvlan", &json!({"vlan": vlan, "name": format!("lan{vlan}")}));
    let (_, first) = add(room, "macvlan", "c1", &on(10))?;
    let (_, second) = add(room, "macvlan", "c2", &on(20))?;
    // The addresses are in different subnets, so the container gets a route to the other's on its
    // link.
    let other = addresses_of(&second)?;
    ip::script(
        Some("c1"),
        &format!("route add {}/32 dev eth0\n -6 route add {}/128 dev eth0", other[0], other[1]),
    )?;
    ensure!(!reaches(room, Some("c1"), &other)?, "VLAN 10 reaches VLAN 20");
    ensure!(!reaches(room, None, &addresses_of(&first)?)?, "the host reaches VLAN 10");
    Ok(())
}

fn dead(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let config = vlan_lan("macvlan", &json!({"vlan": 10, "enabledad": false, "cniVersion": "1.1.0"}));
    let before = room.snapshot()?;
    let (gone, _) = add(room, "macvlan", "c1", &config)?;
    let (alive, result) = add(room, "macvlan", "c2", &config)?;
    room.remove(&gone)?;
    let valid = |ids: &[&str]| {
        let list: Vec<_> = ids.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        with(&config, json!({"cni.dev/valid-attachments": list}))
    };
    room.call("macvlan", "GC").config(&valid(&["c2"])).run()?.silent()?;
    check(room, "macvlan", &alive, &config, &result)?.silent()?;
    room.remove(&alive)?;
    // The kernel deletes a namespace asynchronously, and only then is the parent unused.
    until("the VLAN is gone after GC", || {
        room.call("macvlan", "GC").config(&valid(&[])).run()?.silent()?;
        Ok(ip::link(None, PARENT)?.is_none())
    })?;
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

/// Whether a link is in use is known from the kernel: it does not depend on files.
fn lost_run(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let config = vlan_lan("macvlan", &json!({"vlan": 10, "enabledad": false}));
    let (first, _) = add(room, "macvlan", "c1", &config)?;
    let (second, result) = add(room, "macvlan", "c2", &config)?;
    std::fs::remove_dir_all("/run/moor")?;
    delete(room, "macvlan", &first, &config)?;
    check(room, "macvlan", &second, &config, &result)?.silent()?;
    std::fs::remove_dir_all("/run/moor").ok();
    delete(room, "macvlan", &second, &config)?;
    ensure_gone(PARENT)
}

fn failed_add(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let container = room.container("c1")?;
    let ipam = json!({
        "type": "host-local", "subnet": "10.10.10.0/24", "routes": [{"dst": "192.0.2.0/24", "gw": "203.0.113.1"}],
    });
    let config = vlan_lan("macvlan", &json!({"vlan": 10, "ipam": ipam, "enabledad": false}));
    refused(room, "macvlan", &container, &config, "failed to add route")?;
    // While others use it, it is kept.
    let good = vlan_lan("macvlan", &json!({"vlan": 10, "enabledad": false}));
    let (other, result) = add(room, "macvlan", "c2", &good)?;
    refused(room, "macvlan", &container, &config, "failed to add route")?;
    check(room, "macvlan", &other, &good, &result)?.silent()
}

fn drifts(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let config = vlan_lan("macvlan", &json!({"vlan": 10, "enabledad": false, "cniVersion": "1.1.0"}));
    let status = || room.call("macvlan", "STATUS").config(&config).run();
    status()?.silent()?;
    ensure_gone(PARENT).context("STATUS created the VLAN")?;
    let (container, result) = add(room, "macvlan", "c1", &config)?;
    status()?.silent()?;
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    ip::run(&["link", "set", PARENT, "down"])?;
    let error = check(room, "macvlan", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("state of wan0.10: expected up, actual down"), "{error}");
    // Another ADD restores it.
    let (second, _) = add(room, "macvlan", "c2", &config)?;
    check(room, "macvlan", &container, &config, &result)?.silent()?;
    delete(room, "macvlan", &second, &config)?;
    ip::run(&["link", "del", PARENT])?;
    let error = check(room, "macvlan", &container, &config, &result)?.error()?;
    ensure!(error.msg.contains("master wan0.10: expected present, actual missing"), "{error}");
    delete(room, "macvlan", &container, &config)?;
    ip::run(&["link", "set", "wan0", "down"])?;
    status()?.error_with(50, "master \"wan0\" is down").map(drop)
}

fn fifty(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let config =
        json!({"cniVersion": harness::config::USUAL, "name": "lan", "type": "macvlan", "master": PARENT});
    let before = room.snapshot()?;
    let containers: Vec<Container> =
        (0..50).map(|nth| room.container(&format!("c{nth}"))).collect::<Result<_>>()?;
    for answer in at_once(room, "ADD", &containers, &config)? {
        answer.result()?;
    }
    let vlans = ip::rows(None, &["-d", "link", "show", "type", "vlan"])?;
    ensure!(vlans.len() == 1 && vlans[0]["ifname"] == PARENT, "{vlans:?}");
    for container in &containers {
        ensure!(ip::link(Some(&container.id), "eth0")?.is_some(), "no eth0 in {}", container.id);
    }
    for answer in at_once(room, "DEL", &containers, &config)? {
        answer.silent()?;
    }
    ensure_gone(PARENT)?;
    room.ensure_nothing_left(&before, &[])
}

fn killed(room: &Room, verb: &'static str) -> Result<()> {
    vlan_outside(room)?;
    let config =
        json!({"cniVersion": harness::config::USUAL, "name": "lan", "type": "macvlan", "master": PARENT});
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    let links = ip::links(None)?;
    let victim = Victim { room, plugin: "macvlan", verb, container: &container, config: &config };
    let steps = victim.killed_at_each(|| {
        let now = ip::links(None)?;
        ensure!(now == links, "links of the host: {links:?} before, {now:?} now");
        Ok(())
    })?;
    ensure!(steps > 10, "only {steps} steps of {verb} were tried");
    room.ensure_nothing_left(&before, &["c1"])
}

fn internal(room: &Room, plugin: &str, keys: &Value) -> Result<()> {
    let before = room.snapshot()?;
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "10.77.0.0/24", "rangeStart": "10.77.0.10"}],
                   [{"subnet": "fd00:77::/64", "rangeStart": "fd00:77::10"}]],
    });
    let own = json!({"master": null, "internal": true, "ipam": ipam, "enabledad": false});
    let config = with(&lan(plugin, &own), keys.clone());
    let mode = keys["mode"].as_str().unwrap_or("bridge");
    let (first, result) = add(room, plugin, &format!("{mode}1"), &config)?;
    let (second, others) = add(room, plugin, &format!("{mode}2"), &config)?;
    let dummies = ip::rows(None, &["-d", "link", "show", "type", "dummy"])?;
    ensure!(dummies.len() == 1 && dummies[0]["ifalias"] == "moor:internal:lan", "{dummies:?}");
    let parent = dummies[0]["ifname"].as_str().context("no name")?.to_owned();
    ensure!(ip::addresses(None, &parent)?.is_empty(), "the host has an address on the containers' wire");
    if plugin == "ipvlan" {
        ensure!(result["interfaces"][0]["mac"] == dummies[0]["address"], "{result} on {dummies:?}");
    }
    let (one, two) = (addresses_of(&result)?, addresses_of(&others)?);
    ensure!(
        reaches(room, Some(&first.id), &two)? && reaches(room, Some(&second.id), &one)?,
        "not each other"
    );
    ensure!(!reaches(room, None, &one)?, "the host reaches the containers");
    // Another network has another wire.
    let other = with(&config, json!({"name": "other"}));
    let (third, _) = add(room, plugin, &format!("{mode}3"), &other)?;
    let dummies = ip::rows(None, &["-d", "link", "show", "type", "dummy"])?;
    ensure!(dummies.len() == 2, "{dummies:?}");
    check(room, plugin, &first, &config, &result)?.silent()?;
    for (container, config) in [(&first, &config), (&third, &other), (&second, &config)] {
        delete(room, plugin, container, config)?;
    }
    room.ensure_nothing_left(&before, &[&first.id, &second.id, &third.id])?;
    ensure_gone(&parent)
}

fn faults(room: &Room) -> Result<()> {
    room.outside(&[])?;
    ip::script(
        None,
        "link add abcdefghijklmno type bridge
         link set abcdefghijklmno up",
    )?;
    let container = room.container("c1")?;
    for plugin in ["macvlan", "ipvlan"] {
        for (code, keys, text) in [
            (7, json!({"vlan": 0}), "invalid VLAN ID 0"),
            (7, json!({"vlan": 4095}), "invalid VLAN ID 4095"),
            (7, json!({"vlan": -1}), "invalid VLAN ID -1"),
            (999, json!({"vlan": "x"}), "failed to load netconf"),
            (7, json!({"master": "wan0.0"}), "master \"wan0.0\": invalid VLAN ID 0"),
            (7, json!({"master": "wan0.4095"}), "master \"wan0.4095\": invalid VLAN ID 4095"),
            (999, json!({"master": "wan0.x"}), "failed to lookup master \"wan0.x\": Link not found"),
            (999, json!({"master": "none0.10"}), "failed to lookup master \"none0.10\": Link not found"),
            (
                999,
                json!({"master": "none0", "vlan": 10}),
                "failed to lookup master \"none0\": Link not found",
            ),
            (7, json!({"master": "abcdefghijklmno.10"}), "would have 18 bytes, and 15 are the most"),
            (7, json!({"master": "abcdefghijklmno", "vlan": 10}), "would have 18 bytes, and 15 are the most"),
            (7, json!({"master": "lo.10"}), "master \"lo\" is loopback"),
            (7, json!({"internal": true}), "an internal network has no master"),
            (7, json!({"internal": true, "master": null, "vlan": 10}), "an internal network has no VLAN"),
            (7, json!({"vlan": 10, "linkInContainer": true}), "a VLAN is made on links of the host"),
            (7, json!({"vlan": 10, "mtu": 1501}), "invalid MTU 1501, must be [0, master MTU(1500)]"),
        ] {
            let config = lan(plugin, &keys);
            refused(room, plugin, &container, &config, text).with_context(|| format!("{plugin} {keys}"))?;
            let error = room.attach(plugin, "ADD", &container).config(&config).run()?.error()?;
            ensure!(error.code == code, "{plugin} {keys}: {error}");
            // None of this makes DEL fail.
            delete(room, plugin, &container, &config).with_context(|| format!("{plugin} {keys}: DEL"))?;
        }
    }
    Ok(())
}
