//! Links that attachments share: DEL keeps those that an administrator created or uses.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{add, lan, vlan_lan, vlan_outside};
use serde_json::{Value, json};

use crate::host_access::{delete, shims};

pub const CASES: &[Case] = &[
    Case::new("parents/foreign_links_in_the_group_are_kept", &["MV-L2"], |room| {
        in_the_group(
            room,
            "link add people0 type bridge
             link add people1 type veth peer name people2
             link add link wan0 name people3 type macvlan mode bridge
             link add link wan0 name moorh0000000000 type macvlan mode bridge",
        )
    }),
    Case::new("parents/a_foreign_dummy_in_the_group_is_kept", &["MV-L2"], |room| {
        in_the_group(
            room,
            "link add people0 type dummy
             link add moord0000000000 type dummy
             link add link wan0 name wan0.77 type vlan id 77",
        )
    })
    .needs(&[Need::Dummy, Need::VlanLinks]),
    Case::new("host_access/a_link_that_an_administrator_uses_is_kept", &["MV-L2"], used_shim),
    Case::new("parents/a_vlan_that_an_administrator_configured_is_kept", &["MV-L2"], used_vlan)
        .needs(&[Need::VlanLinks]),
];

/// The number of our link group.
const GROUP: &str = "1836019570";

/// Others may use the same number.
fn in_the_group(room: &Room, script: &str) -> Result<()> {
    room.outside(&[])?;
    ip::script(None, script)?;
    let made = |name: &String| ["people", "moor", "wan0."].iter().any(|start| name.starts_with(start));
    let people: Vec<String> = ip::links(None)?.into_iter().filter(made).collect();
    for name in &people {
        ip::run(&["link", "set", name, "group", GROUP])?;
        if name.starts_with("moor") || name.starts_with("wan0.") {
            ip::run(&["link", "set", name, "up"])?;
        }
    }
    let config = lan("macvlan", &json!({"hostAccess": true}));
    let (container, _) = add(room, "macvlan", "c1", &config)?;
    delete(room, "macvlan", &container, &config)?;
    let gc = harness::config::with(&config, json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}));
    room.call("macvlan", "GC").config(&gc).run()?.silent()?;
    let left = ip::links(None)?;
    let gone: Vec<_> = people.iter().filter(|name| !left.contains(name)).collect();
    ensure!(gone.is_empty(), "{gone:?} are gone");
    Ok(())
}

/// The last DEL keeps a link that is in use, and reports it; the next DEL after that use deletes
/// it.
fn stays_while_used(
    room: &Room,
    container: &Container,
    config: &Value,
    link: &str,
    used: (&str, &[&str], &[&str]),
) -> Result<()> {
    let (program, begin, end) = used;
    ip::output(program, begin)?;
    let answer = room.attach("macvlan", "DEL", container).config(config).run()?;
    answer.silent()?;
    ensure!(ip::link(None, link)?.is_some(), "{link} is gone in spite of {begin:?}");
    let words = &answer.stderr;
    ensure!(words.contains(link), "{begin:?}: standard error does not report it: {words:?}");
    ip::output(program, end)?;
    delete(room, "macvlan", container, config)?;
    ensure!(ip::link(None, link)?.is_none(), "{link} stays without {begin:?}");
    Ok(())
}

fn used_shim(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = lan("macvlan", &json!({"hostAccess": true}));
    for n in 0..2 {
        let (container, _) = add(room, "macvlan", &format!("c{n}"), &config)?;
        let shim = shims()?.pop().context("the host has no link")?;
        let used: (&str, &[&str], &[&str]) = match n {
            0 => (
                "ip",
                &["route", "add", "203.0.113.0/24", "dev", &shim],
                &["route", "del", "203.0.113.0/24", "dev", &shim],
            ),
            _ => (
                "tc",
                &["qdisc", "add", "dev", &shim, "root", "handle", "7:", "pfifo"],
                &["qdisc", "del", "dev", &shim, "root"],
            ),
        };
        stays_while_used(room, &container, &config, &shim, used)?;
    }
    Ok(())
}

fn used_vlan(room: &Room) -> Result<()> {
    const VLAN: &str = "wan0.10";
    vlan_outside(room)?;
    let config = vlan_lan("macvlan", &json!({"vlan": 10, "enabledad": false}));
    let uses: [(&str, &[&str], &[&str]); 4] = [
        (
            "ip",
            &["route", "add", "203.0.113.0/24", "dev", VLAN],
            &["route", "del", "203.0.113.0/24", "dev", VLAN],
        ),
        (
            "tc",
            &["qdisc", "add", "dev", VLAN, "root", "handle", "7:", "pfifo"],
            &["qdisc", "del", "dev", VLAN, "root"],
        ),
        (
            "ip",
            &["neigh", "add", "203.0.113.9", "lladdr", "02:00:00:00:00:09", "dev", VLAN],
            &["neigh", "del", "203.0.113.9", "dev", VLAN],
        ),
        (
            "ip",
            &["addr", "add", "203.0.113.1/24", "dev", VLAN],
            &["addr", "del", "203.0.113.1/24", "dev", VLAN],
        ),
    ];
    for (n, used) in uses.into_iter().enumerate() {
        let (container, _) = add(room, "macvlan", &format!("c{n}"), &config)?;
        stays_while_used(room, &container, &config, VLAN, used)?;
    }
    Ok(())
}
