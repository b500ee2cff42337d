//! IPv6 works when ADD returns, even under kernel load: the first packet arrives.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, ptp, with};
use harness::namespace::{Container, OUTSIDE};
use harness::need::Need;
use harness::room::Room;
use harness::room::company::Busy;
use harness::stage::lan::{addresses_of, lan, vlan_outside};
use harness::{ip, socket};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("settled/bridge_ipv6_works_at_once_beside_many_namespaces", &["BR-V1"], |room| {
        room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
        beside_many(room, "bridge", &bridge(USUAL), "2001:db8:1::1", true)
    })
    .alone(),
    Case::new("settled/ptp_ipv6_works_at_once_beside_many_namespaces", &["PT-R3"], |room| {
        room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
        beside_many(room, "ptp", &ptp(USUAL), "2001:db8:1::1", true)
    })
    .alone(),
    Case::new("settled/bridge_ipv6_works_at_once_with_duplicate_detection_on_all_links", &["BR-V1"], strict),
    Case::new("settled/first_connections_succeed_over_many_adds", &["BR-V1"], first_of_many).alone(),
    Case::new("settled/macvlan_ipv6_works_at_once_beside_many_namespaces", &["MV-R1"], |room| {
        room.outside(&[])?;
        beside_many(room, "macvlan", &lan("macvlan", &json!({"enabledad": false})), OUTSIDE[1], false)
    })
    .needs(&[Need::Macvlan])
    .alone(),
    Case::new("settled/host_access_ipv6_works_at_once_beside_many_namespaces", &["MV-R1"], |room| {
        room.outside(&[])?;
        let config = lan("macvlan", &json!({"hostAccess": true, "enabledad": false}));
        beside_many(room, "macvlan", &config, "2001:db8:ff::1", false)
    })
    .needs(&[Need::Macvlan])
    .alone(),
    Case::new("settled/ipvlan_ipv6_works_at_once_beside_many_namespaces", &["IV-R5"], |room| {
        room.outside(&[])?;
        beside_many(room, "ipvlan", &lan("ipvlan", &json!({"enabledad": false})), OUTSIDE[1], false)
    })
    .needs(&[Need::Ipvlan])
    .alone(),
    Case::new("settled/vlan_gateway_ipv6_works_at_once_beside_many_namespaces", &["BR-V1"], |room| {
        vlan_outside(room)?;
        let config = with(&bridge(USUAL), json!({"vlan": 100}));
        beside_many(room, "bridge", &config, "2001:db8:1::1", false)
    })
    .needs(&[Need::BridgeVlanFiltering, Need::VlanLinks])
    .alone(),
    Case::new("settled/duplicates_are_detected_beside_many_namespaces", &["BR-K14"], with_detection).alone(),
];

/// The kernel repeats a neighbour solicitation after a second: an earlier answer is one to the
/// first solicitation.
const AT_ONCE: Duration = Duration::from_millis(700);

/// Creates and deletes namespaces, so many that the kernel's work queue is long.
fn busy(room: &Room) -> Busy {
    let busy = room.busy_rtnl(8);
    let deadline = Instant::now() + Duration::from_secs(5);
    while busy.made() < 100 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    busy
}

fn add(room: &Room, plugin: &str, id: &str, config: &Value) -> Result<(Container, Value)> {
    let container = room.container(id)?;
    let result = room.attach(plugin, "ADD", &container).config(config).run()?.result()?;
    Ok((container, result))
}

/// The first packet of a container reaches `gateway`, and the first one from outside reaches the
/// container.
fn beside_many(room: &Room, plugin: &str, config: &Value, gateway: &str, from_outside: bool) -> Result<()> {
    let busy = busy(room);
    for n in 0..12 {
        let id = format!("c{n}");
        let (_, result) = add(room, plugin, &id, config)?;
        let [_, own] = addresses_of(&result)?;
        if from_outside && n % 2 == 1 {
            let reached = room.inside("outside", || socket::reach(own.parse()?, AT_ONCE));
            reached.with_context(|| format!("ADD {n}: the outside's first packet to {own}"))?;
        }
        let reached = room.inside(&id, || {
            socket::bind(own.parse()?)?;
            socket::reach(gateway.parse()?, AT_ONCE)
        });
        reached.with_context(|| format!("ADD {n}: the first packet to {gateway}"))?;
    }
    drop(busy);
    Ok(())
}

fn strict(room: &Room) -> Result<()> {
    std::fs::write("/proc/sys/net/ipv6/conf/all/accept_dad", "1")?;
    room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
    let (_, result) = add(room, "bridge", "c1", &bridge(USUAL))?;
    let [_, own] = addresses_of(&result)?;
    room.inside("outside", || socket::reach(own.parse()?, AT_ONCE)).context("the outside's first packet")?;
    room.inside("c1", || socket::reach("2001:db8:1::1".parse()?, AT_ONCE)).map(drop)
}

/// Each on a bridge of its own, so that each is the first one there.
fn first_of_many(room: &Room) -> Result<()> {
    room.outside(&["2001:db8:1::/64"])?;
    let busy = busy(room);
    for n in 0..8 {
        let ranges = json!([[{"subnet": format!("2001:db8:1:0:{n:x}::/80")}]]);
        let config = with(
            &bridge(USUAL),
            json!({"name": format!("n{n}"), "bridge": format!("br{n}"), "ipam": {"type": "host-local", "ranges": ranges}}),
        );
        let (_, result) = add(room, "bridge", &format!("c{n}"), &config)?;
        let own = result["ips"][0]["address"].as_str().and_then(|text| text.split_once('/'));
        let own = own.context("no address")?.0;
        let reached = room.inside("outside", || socket::reach(own.parse()?, AT_ONCE));
        reached.with_context(|| format!("ADD {n}: the outside's first packet to {own}"))?;
    }
    drop(busy);
    Ok(())
}

fn with_detection(room: &Room) -> Result<()> {
    let busy = busy(room);
    let config = with(&bridge(USUAL), json!({"enabledad": true}));
    for n in 0..5 {
        let id = format!("c{n}");
        add(room, "bridge", &id, &config).with_context(|| format!("ADD {n}"))?;
        let tentative = ip::tentative(Some(&id), "eth0")?;
        ensure!(tentative.is_empty(), "tentative after ADD {n}: {tentative:?}");
    }
    drop(busy);
    Ok(())
}
