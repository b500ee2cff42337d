//! bridge: ADD and DEL of attachments, checked with packets.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, layer2, with};
use harness::namespace::OUTSIDE;
use harness::room::Room;
use harness::{golden, ip, socket};
use serde_json::json;

pub const CASES: &[Case] = &[
    Case::new("bridge/first_packet_reaches_gateway_sibling_and_outside", &["C-040", "BR-8"], first_act),
    Case::new("bridge/first_packet_of_thirty_containers_is_never_lost", &["R-5", "BR-8"], first_packet),
    Case::new("bridge/ipv6_address_is_bindable_when_add_returns", &["BR-V1"], bind_at_once),
    Case::new("bridge/stale_neighbour_is_corrected_within_a_second", &["BR-R7"], stale_neighbour).alone(),
    Case::new("bridge/fifty_concurrent_first_adds_succeed", &["C-047", "BR-R4"], fifty),
    Case::new("bridge/several_interfaces_of_one_container", &["C-047", "BR-11"], several_interfaces),
    Case::new("bridge/existing_interface_is_refused_and_kept", &["C-040", "BR-7"], existing_interface),
    Case::new("bridge/failed_add_leaves_nothing", &["C-085", "BR-R1"], failed_add),
    Case::new("bridge/host_veth_name_is_derived", &["R-1", "BR-12"], derived_name),
    Case::new("bridge/prev_result_is_ignored_on_add", &["C-041", "BR-2"], prev_result),
    Case::new("bridge/status", &["C-044", "BR-6"], status),
    Case::new("bridge/isolated_ports_do_not_reach_each_other", &["BR-K16"], isolation),
];

fn first_act(room: &Room) -> Result<()> {
    room.outside(&["10.1.2.0/24", "2001:db8:1::/64"])?;
    let sibling = room.container("sibling")?;
    room.attach("bridge", "ADD", &sibling).config(&bridge(USUAL)).run()?.result()?;
    for (id, target) in [
        ("c1", "2001:db8:1::1"),
        ("c2", "2001:db8:1::2"),
        ("c3", OUTSIDE[1]),
        ("c4", "10.1.2.1"),
        ("c5", "10.1.2.2"),
        ("c6", OUTSIDE[0]),
    ] {
        let container = room.container(id)?;
        room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
        // The first packet: half a second is ample for a handshake and too short for duplicate
        // address detection.
        let took = room.inside(id, || socket::reach(target.parse()?, Duration::from_millis(500)))?;
        ensure!(took < Duration::from_millis(500), "{target} took {took:?}");
    }
    // The other direction: connections to a listener in a container, in both families.
    for address in ["10.1.2.3", "2001:db8:1::3"] {
        let (listener, at) = room.inside("c1", || socket::tcp_echo(address.parse()?))?;
        std::thread::scope(|scope| -> Result<()> {
            let served = scope.spawn(|| socket::serve_one(&listener));
            room.inside("outside", || socket::tcp_exchange(at))?;
            let from = served.join().map_err(|_| anyhow::anyhow!("the listener panicked"))??;
            let outside = OUTSIDE[usize::from(address.contains(':'))];
            ensure!(from.to_string() == outside, "{address} saw the outside as {from}, not {outside}");
            Ok(())
        })?;
    }
    Ok(())
}

fn first_packet(room: &Room) -> Result<()> {
    // Without IPv6 the only thing to wait for is the link itself: a packet sent before the link has
    // carrier is dropped, and the neighbour is queried again only after a second.
    let config = with(&bridge(USUAL), json!({"ipam": {"type": "host-local", "subnet": "10.1.2.0/24"}}));
    for n in 2..32 {
        let container = room.container(&format!("c{n}"))?;
        room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
        let outwards =
            room.inside(&container.id, || socket::reach("10.1.2.1".parse()?, Duration::from_millis(500)));
        outwards.with_context(|| format!("the first packet of container {n}"))?;
        let inwards = socket::reach(format!("10.1.2.{n}").parse()?, Duration::from_millis(500));
        inwards.with_context(|| format!("the first packet to container {n}"))?;
    }
    Ok(())
}

fn bind_at_once(room: &Room) -> Result<()> {
    for n in 2..7 {
        let container = room.container(&format!("c{n}"))?;
        room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
        let address = format!("2001:db8:1::{n}").parse()?;
        room.inside(&container.id, || socket::bind(address))?;
        ensure_settled(Some(&container.id), "eth0")?;
    }
    // The gateway's address must be usable too: the container's first packet needs it.
    ensure_settled(None, "br0")?;
    Ok(())
}

/// Every requested address is usable. (The kernel configures the link-local address later.)
fn ensure_settled(ns: Option<&str>, link: &str) -> Result<()> {
    let tentative = ip::tentative(ns, link)?;
    ensure!(tentative.is_empty(), "of {link} tentative after ADD: {tentative:?}");
    Ok(())
}

fn stale_neighbour(room: &Room) -> Result<()> {
    let sibling = room.container("sibling")?;
    room.attach("bridge", "ADD", &sibling).config(&bridge(USUAL)).run()?.result()?;
    // Host and sibling cache another MAC address for the address of the next container. An entry in
    // state REACHABLE would be used for half a minute.
    for (ns, dev) in [(None, "br0"), (Some("sibling"), "eth0")] {
        for address in ["10.1.2.3", "2001:db8:1::3"] {
            let words =
                ["neigh", "add", address, "lladdr", "0a:00:00:00:00:99", "dev", dev, "nud", "reachable"];
            match ns {
                Some(ns) => ip::run_in(ns, &words)?,
                None => ip::run(&words)?,
            }
        }
    }
    let container = room.container("c1")?;
    room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    for address in ["10.1.2.3", "2001:db8:1::3"] {
        let host = socket::reach(address.parse()?, Duration::from_secs(1));
        host.with_context(|| format!("the host's packets to {address} went to the old MAC"))?;
        let sibling = room.inside("sibling", || socket::reach(address.parse()?, Duration::from_secs(1)));
        sibling.with_context(|| format!("the sibling's packets to {address} went to the old MAC"))?;
    }
    Ok(())
}

fn fifty(room: &Room) -> Result<()> {
    const COUNT: usize = 50;
    let containers = (0..COUNT).map(|n| room.container(&format!("c{n}"))).collect::<Result<Vec<_>>>()?;
    let results = std::thread::scope(|scope| {
        let started: Vec<_> = containers
            .iter()
            .map(|container| {
                scope.spawn(|| room.attach("bridge", "ADD", container).config(&bridge(USUAL)).run()?.result())
            })
            .collect();
        let done = started
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?);
        done.collect::<Result<Vec<_>>>()
    })?;
    let mut addresses: Vec<String> =
        results.iter().map(|result| result["ips"][0]["address"].to_string()).collect();
    addresses.sort();
    addresses.dedup();
    ensure!(addresses.len() == COUNT, "{} different addresses for {COUNT} containers", addresses.len());
    let mut gateway = ip::addresses(None, "br0")?;
    gateway.sort();
    ensure!(gateway == ["10.1.2.1/24", "2001:db8:1::1/64"], "br0 has {gateway:?}");
    for (container, result) in containers.iter().zip(&results).step_by(10) {
        room.reach(&container.id, "10.1.2.1")?;
        let config = with(&bridge(USUAL), json!({"prevResult": result}));
        room.attach("bridge", "CHECK", container).config(&config).run()?.silent()?;
    }
    Ok(())
}

fn several_interfaces(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let names = ["eth0", "eth1", "net-1.x", "fifteen-bytes-x"];
    let config = with(&bridge(USUAL), json!({"isDefaultGateway": false, "isGateway": true}));
    for name in names {
        room.attach("bridge", "ADD", &container).env("CNI_IFNAME", name).config(&config).run()?.result()?;
    }
    room.attach("bridge", "DEL", &container).env("CNI_IFNAME", "eth1").config(&config).run()?.silent()?;
    let mut links = ip::links(Some("c1"))?;
    links.sort();
    ensure!(links == ["eth0", "fifteen-bytes-x", "lo", "net-1.x"], "{links:?}");
    let leases =
        room.files().into_iter().filter(|line| line.contains("/10.1.2.") && line.contains("c1")).count();
    ensure!(leases == 3, "{leases} IPv4 leases for three interfaces");
    Ok(())
}

fn existing_interface(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    room.attach("bridge", "ADD", &container).config(&bridge(USUAL)).run()?.result()?;
    let (before, inside) = (room.snapshot()?, harness::snapshot::network(Some("c1"))?);
    room.attach("bridge", "ADD", &container)
        .config(&bridge(USUAL))
        .run()?
        .error_with(999, "already exists")?;
    ensure!(
        harness::snapshot::network(Some("c1"))? == inside,
        "the second ADD changed the first's interface"
    );
    let left = room.changes_since(&before)?;
    let left: Vec<_> = left.into_iter().filter(|line| !line.contains("last_reserved_ip")).collect();
    ensure!(left.is_empty(), "the second ADD changed the first's state: {left:#?}");
    room.reach("c1", "10.1.2.1")?;
    // A foreign link with that name.
    let other = room.container("c2")?;
    ip::run(&["link", "add", "foreign0", "type", "veth", "peer", "name", "eth0", "netns", "c2"])?;
    room.attach("bridge", "ADD", &other).config(&bridge(USUAL)).run()?.error_with(999, "already exists")?;
    ensure!(ip::link(Some("c2"), "eth0")?.is_some(), "ADD deleted a foreign interface");
    Ok(())
}

fn failed_add(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let before = room.snapshot()?;
    for (what, ipam) in [
        ("unreachable next hop", json!({"routes": [{"dst": "10.20.0.0/16", "gw": "192.0.2.1"}]})),
        (
            "unreachable IPv6 next hop",
            json!({"routes": [{"dst": "2001:db8:20::/48", "gw": "2001:db8:99::1"}]}),
        ),
        ("bad route", json!({"routes": [{"dst": "10.20.0.0/33"}]})),
        (
            "overlapping ranges",
            json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.2.128/25"}]]}),
        ),
        ("host bits", json!({"ranges": [[{"subnet": "10.1.2.5/24"}]]})),
    ] {
        let mut config = bridge(USUAL);
        if let (Some(map), Some(keys)) = (config["ipam"].as_object_mut(), ipam.as_object()) {
            map.extend(keys.clone());
        }
        room.attach("bridge", "ADD", &container).config(&config).run()?.refused("").context(what)?;
        room.ensure_nothing_left(&before, &["c1"]).context(what)?;
        let links = ip::links(Some("c1"))?;
        ensure!(links == ["lo"], "{what}: the container has {links:?}");
    }
    Ok(())
}

fn derived_name(room: &Room) -> Result<()> {
    let name = |id: &str, ifname: &str, network: &str| -> Result<String> {
        let container = room.container(&format!("{id}-{ifname}-{network}"))?;
        let config = with(&layer2(USUAL), json!({"name": network}));
        let attach = |verb| {
            room.attach("bridge", verb, &container)
                .env("CNI_CONTAINERID", id)
                .env("CNI_IFNAME", ifname)
                .config(&config)
        };
        let result = attach("ADD").run()?.result()?;
        attach("DEL").run()?.silent()?;
        Ok(result["interfaces"][1]["name"].as_str().unwrap_or_default().to_owned())
    };
    let first = name("c1", "eth0", "net")?;
    ensure!(golden::is_veth(&first), "{first}");
    room.remove(&harness::namespace::Container {
        id: "c1-eth0-net".into(),
        path: "/run/netns/c1-eth0-net".into(),
    })?;
    ensure!(name("c1", "eth0", "net")? == first, "the same owner got another name");
    for (id, ifname, network) in [("c2", "eth0", "net"), ("c1", "eth1", "net"), ("c1", "eth0", "net2")] {
        ensure!(name(id, ifname, network)? != first, "{id} {ifname} {network} has the name of another owner");
    }
    Ok(())
}

fn prev_result(room: &Room) -> Result<()> {
    let container = room.container("c1")?;
    let prev =
        json!({"cniVersion": USUAL, "interfaces": [{"name": "x"}], "ips": [{"address": "10.9.9.9/24"}]});
    let config = with(&bridge(USUAL), json!({"prevResult": prev}));
    let result = room.attach("bridge", "ADD", &container).config(&config).run()?.result()?;
    ensure!(
        result["ips"][0]["address"] == "10.1.2.2/24"
            && result["ips"].as_array().is_some_and(|ips| ips.len() == 2),
        "{result}"
    );
    Ok(())
}

fn status(room: &Room) -> Result<()> {
    let before = room.snapshot()?;
    room.call("bridge", "STATUS").config(&bridge("1.1.0")).run()?.silent()?;
    room.call("bridge", "STATUS").config(&layer2("1.1.0")).run()?.silent()?;
    let config = with(&bridge("1.1.0"), json!({"ipam": {"type": "nope"}}));
    room.call("bridge", "STATUS")
        .config(&config)
        .run()?
        .error_with(999, "failed to find plugin \"nope\" in path [")?;
    room.ensure_nothing_left(&before, &[])
}

fn isolation(room: &Room) -> Result<()> {
    let config = with(&bridge(USUAL), json!({"portIsolation": true}));
    for id in ["c1", "c2"] {
        room.attach("bridge", "ADD", &room.container(id)?).config(&config).run()?.result()?;
    }
    room.reach("c1", "10.1.2.1")?;
    let sibling = "10.1.2.3".parse()?;
    let reached = room.inside("c1", || socket::reach(sibling, Duration::from_millis(300)));
    ensure!(reached.is_err(), "an isolated port reached another");
    Ok(())
}
