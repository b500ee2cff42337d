//! `hostAccess` when the host's own address is removed and added again, as with DHCP, and when two
//! networks share one.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::with;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::lan::{add, addresses_of, check, lan, reaches, vlan_lan, vlan_outside};
use serde_json::{Value, json};

use crate::host_access::{delete, shims};

pub const CASES: &[Case] = &[
    Case::new("host_access/add_restores_lost_routes", &["MV-R6"], |room| lost(room, By::Add)),
    Case::new("host_access/check_restores_lost_routes", &["MV-R6"], |room| lost(room, By::Check)),
    Case::new("host_access/reapply_restores_lost_routes", &["MV-R6"], |room| lost(room, By::Reapply)),
    Case::new("host_access/del_keeps_the_shim_of_attachments_without_routes", &["MV-R6"], kept),
    Case::new("host_access/an_address_on_two_networks_is_reported", &["MV-R6"], twice),
    Case::new("parents/a_vlan_follows_its_masters_mtu", &["MV-R5"], follows).needs(&[Need::VlanLinks]),
];

/// The command that restores the routes.
#[derive(Clone, Copy)]
enum By {
    Add,
    Check,
    Reapply,
}

fn shared() -> Value {
    lan("macvlan", &json!({"hostAccess": true, "enabledad": false}))
}

/// Removes the host's addresses on its wire and adds them again.
fn renew() -> Result<()> {
    ip::script(
        None,
        "addr del 198.51.100.1/24 dev wan0
         -6 addr del 2001:db8:ff::1/64 dev wan0
         addr add 198.51.100.1/24 dev wan0
         -6 addr add 2001:db8:ff::1/64 dev wan0 nodad",
    )
}

fn lost(room: &Room, by: By) -> Result<()> {
    room.outside(&[])?;
    let before = room.snapshot()?;
    let config = shared();
    let (first, result) = add(room, "macvlan", "c1", &config)?;
    let one = addresses_of(&result)?;
    ensure!(reaches(room, None, &one)?, "the host does not reach the container");
    renew()?;
    let mut all = vec![first.clone()];
    match by {
        By::Add => all.push(add(room, "macvlan", "c2", &config)?.0),
        By::Check => check(room, "macvlan", &first, &config, &result)?.silent()?,
        By::Reapply => {
            let done = room.call("bridge", "").unset("CNI_COMMAND").argv(&["reapply"]).run()?;
            ensure!(done.succeeded(), "{}", done.summary());
        }
    }
    ensure!(reaches(room, None, &one)?, "the route to the first container is not restored");
    check(room, "macvlan", &first, &config, &result)?.silent()?;
    for container in &all {
        delete(room, "macvlan", container, &config)?;
    }
    room.ensure_nothing_left(&before, &["c1", "c2"])
}

fn kept(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = shared();
    let (first, result) = add(room, "macvlan", "c1", &config)?;
    let (second, _) = add(room, "macvlan", "c2", &config)?;
    renew()?;
    delete(room, "macvlan", &second, &config)?;
    ensure!(shims()?.len() == 1, "the DEL of another container removed the shim");
    check(room, "macvlan", &first, &config, &result)?.silent()?;
    ensure!(reaches(room, None, &addresses_of(&result)?)?, "the host does not reach the container");
    delete(room, "macvlan", &first, &config)?;
    ensure!(shims()?.is_empty(), "the unused shim is still there");
    Ok(())
}

fn twice(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let own = json!({"hostAddresses": ["198.51.100.3", "2001:db8:ff::3"]});
    let config = with(&shared(), own);
    let (first, result) = add(room, "macvlan", "c1", &config)?;
    let ipam = json!({
        "type": "host-local",
        "ranges": [[{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.50"}],
                   [{"subnet": "2001:db8:ff::/64", "rangeStart": "2001:db8:ff::50"}]],
    });
    let other = with(&config, json!({"name": "lan2", "ipam": ipam}));
    let container = room.container("c2")?;
    let answer = room.attach("macvlan", "ADD", &container).config(&other).run()?;
    answer.result()?;
    let shim = shims()?.into_iter().next().context("no shim")?;
    ensure!(answer.stderr.contains("198.51.100.3 is on"), "nothing on standard error: {}", answer.summary());
    ensure!(
        shims()?.iter().any(|name| answer.stderr.contains(name.as_str())),
        "{shim}: {}",
        answer.summary()
    );
    check(room, "macvlan", &first, &config, &result)?.silent()
}

fn follows(room: &Room) -> Result<()> {
    vlan_outside(room)?;
    let config = vlan_lan("macvlan", &json!({"vlan": 10, "enabledad": false}));
    let (first, result) = add(room, "macvlan", "c1", &config)?;
    let mtu = || -> Result<Value> { Ok(ip::link(None, "wan0.10")?.context("no wan0.10")?["mtu"].clone()) };
    for (now, by_check) in [(1400, false), (1500, false), (1300, true), (1450, true)] {
        ip::run(&["link", "set", "wan0", "mtu", &now.to_string()])?;
        if by_check {
            check(room, "macvlan", &first, &config, &result)?.silent()?;
        } else {
            add(room, "macvlan", &format!("c{now}"), &config)?;
        }
        ensure!(mtu()? == now, "wan0 has MTU {now}, its VLAN {}", mtu()?);
    }
    let (_, result) = add(room, "macvlan", "c9", &with(&config, json!({"mtu": 1450})))?;
    ensure!(result["ips"].is_array(), "{result}");
    Ok(())
}
