//! Gateways outside the container's subnet: ADD succeeds only if both ends can route to each other.

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::fake::Fake;
use harness::ip;
use harness::namespace::OUTSIDE;
use harness::need::Need;
use harness::room::Room;
use harness::stage::dns::{Named, expect};
use harness::stage::lan::{self, addresses_of, until};
use harness::stage::portmap::{ask, portmap, serve};
use serde_json::{Value, json};

use crate::bridge_keys::add;

pub const CASES: &[Case] = &[
    Case::new("bridge/gateways_outside_the_subnet_work_both_ways", &["BR-V3"], |room| {
        there_and_back(room, "10.9.9.1", "2001:db8:9::1")
    }),
    Case::new("bridge/link_local_gateways_work_both_ways", &["BR-V3"], |room| {
        there_and_back(room, "169.254.1.1", "fe80::1")
    }),
    Case::new("bridge/addresses_without_a_subnet_have_a_gateway", &["BR-V3"], without_subnet),
    Case::new("bridge/an_outside_gateway_without_a_default_route_is_reachable", &["BR-V3"], only_gateway),
    Case::new("bridge/gc_deletes_routes_to_dead_containers", &["BR-V3"], dead),
    Case::new("portmap/a_container_with_an_outside_gateway_is_reachable", &["BR-V3"], published),
    Case::new("dns/a_gateway_outside_of_the_subnet_answers", &["BR-V3"], named),
    Case::new("macvlan/a_gateway_outside_the_subnet_is_used", &["MV-V1"], |room| on_the_lan(room, "macvlan"))
        .needs(&[Need::Macvlan]),
    Case::new("ipvlan/a_gateway_outside_the_subnet_is_used", &["MV-V1"], |room| on_the_lan(room, "ipvlan"))
        .needs(&[Need::Ipvlan]),
];

fn outside_of_subnet(v4: &str, v6: &str) -> Value {
    let ranges =
        json!([[{"subnet": "10.1.2.0/24", "gateway": v4}], [{"subnet": "2001:db8:1::/64", "gateway": v6}]]);
    with(&bridge(USUAL), json!({"ipam": {"type": "host-local", "ranges": ranges}}))
}

/// Both directions between host, container, sibling and outside.
fn ensure_reached(room: &Room, id: &str, own: &[String; 2], others: &[&str]) -> Result<()> {
    for address in own {
        room.reach("outside", address)?;
        harness::socket::reach(address.parse()?, harness::socket::patience())
            .with_context(|| format!("the host to {address}"))?;
    }
    others.iter().try_for_each(|address| room.reach(id, address))
}

fn there_and_back(room: &Room, v4: &str, v6: &str) -> Result<()> {
    room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
    let before = room.snapshot()?;
    let config = outside_of_subnet(v4, v6);
    let (first, second) = (room.container("c1")?, room.container("c2")?);
    let result = add(room, &first, &config)?;
    let other = add(room, &second, &config)?;
    let one = addresses_of(&result)?;
    let two = addresses_of(&other)?;
    let mut others = vec![v4, OUTSIDE[0], OUTSIDE[1], &two[0], &two[1]];
    others.extend(Some(v6).filter(|v6| !v6.starts_with("fe80:")));
    ensure_reached(room, "c1", &one, &others)?;
    let checked = with(&config, json!({"prevResult": result}));
    let check = || room.attach("bridge", "CHECK", &first).config(&checked).run()?.silent();
    check()?;
    // The host may lose the route: CHECK restores it.
    ip::run(&["route", "del", &one[0]])?;
    check()?;
    room.reach("outside", &one[0])?;
    room.attach("bridge", "DEL", &first).config(&config).run()?.silent()?;
    ensure_reached(room, "c2", &two, &[v4])?;
    room.attach("bridge", "DEL", &second).config(&config).run()?.silent()?;
    room.ensure_nothing_left(&before, &["c1", "c2"])?;
    let left = ip::rows(None, &["-N", "route", "show", "proto", "109", "table", "all"])?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// An IPAM plugin that returns one address of each family, without a subnet.
fn single(room: &Room, gateways: bool) -> Result<Fake> {
    let ip = |address: &str, gateway: &str| match gateways {
        true => json!({"address": address, "gateway": gateway}),
        false => json!({"address": address}),
    };
    let result = json!({"cniVersion": USUAL, "ips": [
        ip("10.1.2.5/32", "10.9.9.1"), ip("2001:db8:1::5/128", "2001:db8:9::1")]});
    Fake::new(room, "single", &format!("[ \"$CNI_COMMAND\" = ADD ] && echo '{result}'; exit 0"))
}

fn without_subnet(room: &Room) -> Result<()> {
    room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
    let config = with(&bridge(USUAL), json!({"ipam": {"type": "single"}}));
    let bare = single(room, false)?;
    let container = room.container("c0")?;
    let call = room.attach("bridge", "ADD", &container).config(&config).path_first(&bare.dir);
    call.run()?.error_with(999, "without a gateway")?;
    let ipam = single(room, true)?;
    let container = room.container("c1")?;
    let call = |verb| room.attach("bridge", verb, &container).config(&config).path_first(&ipam.dir);
    let result = call("ADD").run()?.result()?;
    ensure_reached(
        room,
        "c1",
        &addresses_of(&result)?,
        &["10.9.9.1", "2001:db8:9::1", OUTSIDE[0], OUTSIDE[1]],
    )?;
    call("DEL").run()?.silent()
}

fn only_gateway(room: &Room) -> Result<()> {
    let config = with(
        &outside_of_subnet("10.9.9.1", "2001:db8:9::1"),
        json!({"isDefaultGateway": false, "isGateway": true}),
    );
    add(room, &room.container("c1")?, &config)?;
    for gateway in ["10.9.9.1", "2001:db8:9::1"] {
        room.reach("c1", gateway)?;
    }
    // The host gets no route for the subnet around the gateway.
    let routes = ip::rows(None, &["route", "show", "10.9.9.0/24"])?;
    ensure!(routes.is_empty(), "{routes:?}");
    Ok(())
}

fn dead(room: &Room) -> Result<()> {
    let config = outside_of_subnet("10.9.9.1", "2001:db8:9::1");
    let (first, second) = (room.container("c1")?, room.container("c2")?);
    add(room, &first, &config)?;
    add(room, &second, &config)?;
    room.remove(&first)?;
    let ours = || ip::rows(None, &["route", "show", "proto", "109"]);
    ensure!(ours()?.len() == 2, "{:?}", ours()?);
    until("the dead container's link is gone", || {
        Ok(ip::links(None)?.iter().filter(|link| link.starts_with("veth")).count() == 1)
    })?;
    let valid = json!([{"containerID": "c2", "ifname": "eth0"}]);
    let config = with(&config, json!({"cniVersion": "1.1.0", "cni.dev/valid-attachments": valid}));
    room.call("bridge", "GC").config(&config).run()?.silent()?;
    ensure!(ours()?.len() == 1, "{:?}", ours()?);
    room.reach("c2", "10.9.9.1")
}

fn published(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let config = outside_of_subnet("10.9.9.1", "2001:db8:9::1");
    let container = room.container("c1")?;
    let result = add(room, &container, &config)?;
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    room.attach("portmap", "ADD", &container).config(&portmap(ports, &result)).run()?.result()?;
    serve(room, "c1", 80)?;
    for address in ["198.51.100.1", "2001:db8:ff::1"] {
        let reply = ask(room, Some("outside"), address, 8080)?;
        ensure!(reply.starts_with("c1:80"), "{address} answered {reply:?}");
    }
    Ok(())
}

fn named(room: &Room) -> Result<()> {
    let config = outside_of_subnet("10.9.9.1", "2001:db8:9::1");
    let web = Named::behind(room, "c1", "web", &config, json!({}))?;
    let client = Named::behind(room, "c2", "client", &config, json!({}))?;
    for gateway in ["10.9.9.1", "2001:db8:9::1"] {
        expect(room, Some("c2"), gateway, "web", &[&web.address(false)])?;
    }
    web.verb(room, "CHECK")?.silent()?;
    [web, client].iter().try_for_each(|named| named.del(room))
}

fn on_the_lan(room: &Room, plugin: &str) -> Result<()> {
    room.outside(&[])?;
    ip::script(
        Some("outside"),
        "addr add 10.9.9.1/32 dev eth0
         -6 addr add 2001:db8:9::1/128 dev eth0 nodad
         route add 10.1.2.0/24 dev eth0
         -6 route add 2001:db8:1::/64 dev eth0",
    )?;
    let ranges = json!([[{"subnet": "10.1.2.0/24", "gateway": "10.9.9.1"}],
        [{"subnet": "2001:db8:1::/64", "gateway": "2001:db8:9::1"}]]);
    let routes = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let keys =
        json!({"enabledad": false, "ipam": {"type": "host-local", "ranges": ranges, "routes": routes}});
    let config = lan::lan(plugin, &keys);
    let (container, result) = lan::add(room, plugin, "c1", &config)?;
    for address in ["10.9.9.1", "2001:db8:9::1", OUTSIDE[0], OUTSIDE[1]] {
        room.reach("c1", address)?;
    }
    lan::check(room, plugin, &container, &config, &result)?.silent()
}
