//! Router advertisements: the host's own router is kept, and a container is not accepted as one.

use std::fs;
use std::net::Ipv6Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, layer2, ptp, with};
use harness::namespace::allow_ipv6;
use harness::need::Need;
use harness::room::{Room, UPLINK};
use harness::stage::lan::{add, lan, until, vlan_lan, vlan_outside};
use harness::{frame, ip, socket};
use serde_json::{Value, json};

use crate::host_access::{delete, shims};

pub const CASES: &[Case] = &[
    Case::new("routers/a_container_on_a_bridge_is_not_accepted_as_router", &["BR-V2"], |room| {
        hostile(room, "bridge", &bridge(USUAL), &["br0"])
    }),
    Case::new("routers/a_container_without_a_gateway_is_not_accepted_as_router", &["BR-V2"], |room| {
        hostile(room, "bridge", &layer2(USUAL), &["br0"])
    }),
    Case::new("routers/a_container_on_a_routed_pair_is_not_accepted_as_router", &["PT-R4"], |room| {
        hostile(room, "ptp", &ptp(USUAL), &[])
    }),
    Case::new("routers/a_container_in_a_vlan_is_not_accepted_as_router", &["BR-V2"], |room| {
        hostile(room, "bridge", &with(&bridge(USUAL), json!({"vlan": 100})), &["br0", "br0.100"])
    })
    .needs(&[Need::BridgeVlanFiltering]),
    Case::new("routers/a_container_with_host_access_is_not_accepted_as_router", &["MV-R7"], |room| {
        room.outside(&[])?;
        hostile(room, "macvlan", &lan("macvlan", &json!({"hostAccess": true})), &[])
    })
    .needs(&[Need::Macvlan]),
    Case::new("routers/a_container_on_a_vlan_made_on_demand_is_not_accepted_as_router", &["MV-R7"], |room| {
        vlan_outside(room)?;
        hostile(room, "macvlan", &vlan_lan("macvlan", &json!({"vlan": 10})), &["wan0.10"])
    })
    .needs(&[Need::Macvlan, Need::VlanLinks]),
    Case::new("routers/a_container_on_an_internal_network_is_not_accepted_as_router", &["MV-R7"], |room| {
        hostile(room, "macvlan", &lan("macvlan", &json!({"master": null, "internal": true})), &[])
    })
    .needs(&[Need::Macvlan, Need::Dummy]),
    Case::new("routers/a_link_that_accepts_advertisements_is_not_set_up", &["BR-V2"], |room| {
        unprotected(room, "bridge", &bridge(USUAL), "br0")
    })
    .needs(&[Need::Strace]),
    Case::new("routers/a_shim_that_accepts_advertisements_is_not_set_up", &["MV-R7"], |room| {
        room.outside(&[])?;
        let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false}));
        let (container, _) = add(room, "macvlan", "c0", &config)?;
        let shim = shims()?.pop().context("no shim")?;
        delete(room, "macvlan", &container, &config)?;
        unprotected(room, "macvlan", &config, &shim)
    })
    .needs(&[Need::Macvlan, Need::Strace]),
    Case::new("routers/the_hosts_own_default_route_is_kept", &["BR-V2"], own_route),
    Case::new("routers/an_administrators_bridge_keeps_its_router", &["BR-V2"], others_bridge),
    Case::new("routers/ipv6_is_enabled_on_our_links_where_new_links_have_none", &["BR-V2"], off_by_default),
];

const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);

/// The kernel handles an advertisement on arrival; the timeout is for a busy machine.
const GRACE: Duration = Duration::from_millis(500);

fn set(key: &str, value: &str) -> Result<()> {
    fs::write(format!("/proc/sys/net/{key}"), value).with_context(|| format!("set {key}"))
}

/// Routes and addresses of the host that come from an advertisement, except those of a world's own
/// router.
fn learned() -> Result<Vec<String>> {
    let routes = ip::rows(None, &["-6", "route", "show", "table", "all"])?;
    let routes = routes.into_iter().filter(|row| row["protocol"] == "ra" && row["dev"] != UPLINK);
    let routes = routes.map(|row| row.to_string());
    let addresses = ip::rows(None, &["-6", "addr", "show"])?;
    let addresses = addresses.into_iter().filter(|row| row.to_string().contains("2001:db8:bad:"));
    Ok(routes.chain(addresses.map(|row| row.to_string())).collect())
}

fn hostile(room: &Room, plugin: &str, config: &Value, shared: &[&str]) -> Result<()> {
    // Only the links' own settings then block advertisements.
    set("ipv6/conf/default/accept_ra", "2")?;
    let before = ip::links(None)?;
    let container = room.container("c1")?;
    room.attach(plugin, "ADD", &container).config(config).run()?.result()?;
    let made: Vec<String> = ip::links(None)?.into_iter().filter(|link| !before.contains(link)).collect();
    for link in shared {
        ensure!(made.iter().any(|name| name == link), "{link} is not among {made:?}");
    }
    for link in &made {
        for key in
            ["ipv6/conf/{}/accept_ra", "ipv6/conf/{}/accept_redirects", "ipv4/conf/{}/accept_redirects"]
        {
            let key = format!("net/{}", key.replace("{}", link));
            ensure!(room.host_sysctl(&key)? == "0", "{key} is {}", room.host_sysctl(&key)?);
        }
    }
    if plugin == "bridge" && config["ipam"].is_null() {
        ip::run_in("c1", &["link", "set", "eth0", "up"])?;
    }
    let wire = room.wire(Some("c1"), "eth0")?;
    let all = frame::router_advertisement(wire.mac, PREFIX, 1800);
    wire.send(&all)?;
    // Past the bridge, to the port directly.
    for last in [0x03, 0x0e] {
        wire.send(&[&[0x01, 0x80, 0xc2, 0, 0, last], all.get(6..).unwrap_or_default()].concat())?;
    }
    std::thread::sleep(GRACE);
    ensure!(learned()?.is_empty(), "the host has learned {:?}", learned()?);
    Ok(())
}

/// Makes the kernel refuse the parameter that blocks advertisements on `link`.
fn unprotected(room: &Room, plugin: &str, config: &Value, link: &str) -> Result<()> {
    let (container, before) = (room.container("c1")?, room.snapshot()?);
    let path = format!("/proc/sys/net/ipv6/conf/{link}/accept_ra");
    let words =
        ["strace", "-f", "-qq", "-o", "/dev/null", "-P", &path, "-e", "inject=openat,?open:error=EACCES"];
    let call = room.attach(plugin, "ADD", &container).config(config).under(&words);
    let error = call.run()?.error()?;
    ensure!(error.to_string().contains("accept_ra"), "{error}");
    room.ensure_nothing_left(&before, &["c1"])?;
    room.attach(plugin, "ADD", &container).config(config).run()?.result().map(drop)
}

/// The outside is the host's router.
fn advertise(room: &Room) -> Result<()> {
    let wire = room.wire(Some("outside"), "eth0")?;
    wire.send(&frame::router_advertisement(wire.mac, PREFIX, 1800))
}

fn has_default(by: &str) -> Result<bool> {
    let routes = ip::rows(None, &["-6", "route", "show", "default"])?;
    Ok(routes.iter().any(|row| row["protocol"] == "ra" && row["dev"] == by))
}

fn own_route(room: &Room) -> Result<()> {
    room.outside(&["2001:db8:1::/64"])?;
    ip::script(None, "link add idle0 type veth peer name idle1\n link set idle0 up\n link set idle1 up")?;
    until("the host has its router's route", || {
        advertise(room)?;
        has_default("wan0")
    })?;
    let (container, config) = (room.container("c1")?, bridge(USUAL));
    room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    ensure!(room.host_sysctl("net/ipv6/conf/all/forwarding")? == "1", "the host does not forward");
    ensure!(has_default("wan0")?, "ADD has taken the host's default route: {:?}", learned()?);
    ensure!(room.host_sysctl("net/ipv6/conf/wan0/accept_ra")? == "2", "the route will expire");
    for link in ["idle0", "idle1"] {
        let key = format!("net/ipv6/conf/{link}/accept_ra");
        ensure!(room.host_sysctl(&key)? == "1", "{link} has learned nothing, and {key} was changed");
    }
    // And the route is renewed.
    ip::run(&["-6", "route", "flush", "proto", "ra", "dev", "wan0"])?;
    until("the router's next advertisement is received", || {
        advertise(room)?;
        has_default("wan0")
    })
}

fn others_bridge(room: &Room) -> Result<()> {
    let outside = room.outside(&[])?;
    ip::script(
        None,
        "link add br0 type bridge
         link set br0 up
         link set wan0 master br0",
    )?;
    allow_ipv6(&["br0"])?;
    until("the host has its router's route", || {
        advertise(room)?;
        has_default("br0")
    })?;
    let container = room.container("c1")?;
    let config = with(&bridge(USUAL), json!({"isDefaultGateway": false}));
    room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    for key in ["accept_ra", "accept_redirects"] {
        let key = format!("net/ipv6/conf/br0/{key}");
        ensure!(room.host_sysctl(&key)? == "1", "{key} of an administrator's bridge was changed");
    }
    drop(outside);
    let config = with(
        &bridge(USUAL),
        json!({"name": "net2", "ipam": {
        "type": "host-local", "ranges": [[{"subnet": "2001:db8:2::/64"}]]}}),
    );
    let container = room.container("c2")?;
    room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    ensure!(has_default("br0")?, "the host's route by its own bridge is gone");
    Ok(())
}

fn off_by_default(room: &Room) -> Result<()> {
    set("ipv6/conf/default/disable_ipv6", "1")?;
    let container = room.container("c1")?;
    room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    for from in [None, Some("c1")] {
        let (address, patience) = (if from.is_some() { "2001:db8:1::1" } else { "2001:db8:1::2" }, GRACE);
        let reach = || socket::reach(address.parse()?, patience);
        match from {
            Some(ns) => room.inside(ns, reach),
            None => reach(),
        }
        .with_context(|| format!("{from:?} to {address}"))?;
    }
    Ok(())
}
