//! Packet rules and ports of several networks: another network's are kept, and a container does not
//! conflict with itself.

use std::fs;

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, bridge, with};
use harness::namespace::{Container, OUTSIDE};
use harness::need::Need;
use harness::room::Room;
use harness::stage::portmap::{HOST, expect, portmap, serve};
use harness::{ip, snapshot};
use serde_json::{Value, json};

pub const CASES: &[Case] = &[
    Case::new("rules/del_after_a_refused_add_keeps_the_living_networks_rules", &["BR-R10"], |room| {
        refused(room, "nftables")
    }),
    Case::new(
        "rules/del_after_a_refused_add_keeps_the_living_networks_rules_of_iptables",
        &["BR-R10"],
        |room| refused(room, "iptables"),
    )
    .needs(&[Need::Iptables]),
    Case::new("rules/networks_with_one_subnet_keep_their_own_rules", &["BR-R11", "PM-R10"], one_subnet),
    Case::new("portmap/a_container_has_its_ports_on_each_of_its_networks", &["PM-R11"], |room| {
        own_ports(room, "nftables", true)
    }),
    Case::new("portmap/a_container_has_its_ports_on_two_interfaces_of_one_network", &["PM-R11"], |room| {
        own_ports(room, "nftables", false)
    }),
    Case::new("portmap_iptables/a_container_has_its_ports_on_each_of_its_networks", &["PM-R11"], |room| {
        own_ports(room, "iptables", true)
    })
    .needs(&[Need::Iptables]),
    Case::new(
        "portmap_iptables/a_container_has_its_ports_on_two_interfaces_of_one_network",
        &["PM-R11"],
        |room| own_ports(room, "iptables", false),
    )
    .needs(&[Need::Iptables]),
];

/// A network on a bridge of its own.
fn network(name: &str, bridge_name: &str, subnet: &str, keys: Value) -> Value {
    let ipam = json!({"type": "host-local", "ranges": [[{"subnet": subnet}]]});
    with(&with(&bridge(USUAL), json!({"name": name, "bridge": bridge_name, "ipam": ipam})), keys)
}

fn ports(name: &str, mappings: Value, previous: &Value, backend: &str) -> Value {
    with(&portmap(mappings, previous), json!({"name": name, "backend": backend}))
}

/// All rules, and all records with their content.
fn state() -> Result<Vec<String>> {
    let mut lines = snapshot::rules()?;
    lines.retain(|line| !line.contains("counter"));
    for entry in fs::read_dir("/run/moor/intent")? {
        let path = entry?.path();
        lines.push(format!("{}: {}", path.display(), fs::read_to_string(&path)?));
    }
    lines.sort();
    Ok(lines)
}

fn refused(room: &Room, backend: &str) -> Result<()> {
    room.outside(&[])?;
    let container = room.container("c1")?;
    let keys = json!({"ipMasq": true, "ipMasqBackend": backend, "macspoofchk": true});
    let one = network("neta", "br0", "10.1.2.0/24", keys.clone());
    let two = network("netb", "br1", "10.1.3.0/24", keys);
    let call =
        |plugin: &str, verb: &str, config: &Value| room.attach(plugin, verb, &container).config(config);
    let previous = call("bridge", "ADD", &one).run()?.result()?;
    let mappings = json!([{"hostPort": 8080, "containerPort": 80}]);
    let published = ports("neta", mappings.clone(), &previous, backend);
    call("portmap", "ADD", &published).run()?.result()?;
    serve(room, "c1", 80)?;
    let before = state()?;
    call("bridge", "ADD", &two).run()?.error()?;
    ensure!(state()? == before, "the refused ADD changed {:#?}", state()?);
    // The DEL that the runtime sends then, with the result that it has.
    let of_two = json!({"cniVersion": USUAL, "name": "netb", "type": "portmap", "backend": backend,
        "runtimeConfig": {"portMappings": mappings}});
    for netns in [Some(&container.path), None] {
        for (plugin, config) in [("portmap", &of_two), ("bridge", &two)] {
            let del = call(plugin, "DEL", config);
            let del = if netns.is_none() { del.env("CNI_NETNS", "") } else { del };
            del.run()?.silent()?;
            ensure!(state()? == before, "DEL of {plugin} changed {:#?}", state()?);
        }
    }
    for (host, outside) in HOST.iter().zip(OUTSIDE).take(1) {
        expect(room, Some("outside"), host, 8080, &format!("c1:80 {outside}"))?;
    }
    call("portmap", "CHECK", &published).run()?.silent()?;
    call("bridge", "CHECK", &with(&one, json!({"prevResult": previous}))).run()?.silent()?;
    call("portmap", "DEL", &published).run()?.silent()?;
    call("bridge", "DEL", &one).run()?.silent()?;
    let left: Vec<String> = state()?.into_iter().filter(|line| line.contains("c1")).collect();
    ensure!(left.is_empty(), "left: {left:#?}");
    Ok(())
}

fn one_subnet(room: &Room) -> Result<()> {
    let [one, two] = [("neta", "br0"), ("netb", "br1")].map(|(name, on)| {
        network(name, on, "10.1.2.0/24", json!({"isDefaultGateway": false, "isGateway": false}))
    });
    let [c1, c2] = [room.container("c1")?, room.container("c2")?];
    let masquerade = |config: &Value| with(config, json!({"ipMasq": true}));
    let call = |plugin: &str, verb: &str, of: &Container, config: &Value| {
        room.attach(plugin, verb, of).config(config)
    };
    let mine = call("bridge", "ADD", &c1, &masquerade(&one)).run()?.result()?;
    let published = ports("neta", json!([{"hostPort": 8080, "containerPort": 80}]), &mine, "nftables");
    call("portmap", "ADD", &c1, &published).run()?.result()?;
    let before = state()?;
    // The same address again: masqueraded, with the same port, and with another one.
    let error = call("bridge", "ADD", &c2, &masquerade(&two)).run()?.error_with(999, "moor/neta/eth0/c1")?;
    ensure!(error.to_string().contains("10.1.2."), "the address is not named: {error}");
    call("bridge", "DEL", &c2, &masquerade(&two)).run()?.silent()?;
    ensure!(state()? == before, "it changed {:#?}", state()?);
    fs::remove_dir_all("/var/lib/cni/networks/netb").ok();
    let theirs = call("bridge", "ADD", &c2, &two).run()?.result()?;
    ensure!(theirs["ips"] == mine["ips"], "{theirs} has another address than {mine}");
    for port in [8080, 9090] {
        let config = ports("netb", json!([{"hostPort": port, "containerPort": 80}]), &theirs, "nftables");
        call("portmap", "ADD", &c2, &config).run()?.error_with(999, "moor/neta/eth0/c1")?;
        call("portmap", "DEL", &c2, &config).run()?.silent()?;
        ensure!(state()? == before, "port {port} changed {:#?}", state()?);
    }
    call("bridge", "DEL", &c2, &masquerade(&two)).run()?.silent()?;
    ensure!(state()? == before, "DEL changed {:#?}", state()?);
    call("portmap", "CHECK", &c1, &published).run()?.silent()?;
    call("bridge", "CHECK", &c1, &with(&masquerade(&one), json!({"prevResult": mine}))).run()?.silent()
}

/// As podman and nerdctl do: the container's ports are in the ADD of each of its networks. The
/// second attachment is on another network if `two`, otherwise another interface on the same one.
fn own_ports(room: &Room, backend: &str, two: bool) -> Result<()> {
    room.outside(&[])?;
    let first = network("neta", "br0", "10.1.2.0/24", json!({}));
    let second = match two {
        true => network("netb", "br1", "10.1.3.0/24", json!({"isDefaultGateway": false, "isGateway": true})),
        false => first.clone(),
    };
    let networks = [("eth0", &first), ("eth1", &second)];
    let mappings = json!([
        {"hostPort": 8080, "containerPort": 80},
        {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
        {"hostPort": 8081, "containerPort": 80, "hostIP": HOST[0]},
        {"hostPort": 3000, "hostPortEnd": 3099, "containerPort": 3000},
    ]);
    let (stranger, elsewhere) = (room.container("c2")?, network("netc", "br2", "10.1.4.0/24", json!({})));
    let foreign = room.attach("bridge", "ADD", &stranger).config(&elsewhere).run()?.result()?;
    // In either order.
    for (round, gone) in [0, 1].into_iter().enumerate() {
        let id = format!("c1-{round}");
        let container = room.container(&id)?;
        let call = |plugin: &str, verb: &str, at: usize, config: &Value| {
            room.attach(plugin, verb, &container).env("CNI_IFNAME", networks[at].0).config(config).run()
        };
        let mut published = Vec::new();
        for (at, (_, network)) in networks.iter().enumerate() {
            let previous = call("bridge", "ADD", at, network)?.result()?;
            let name = network["name"].as_str().context("no name")?;
            let config = ports(name, mappings.clone(), &previous, backend);
            call("portmap", "ADD", at, &config)?.result().with_context(|| format!("interface {at}"))?;
            published.push(config);
        }
        // The reply to a packet on eth1 may leave by another interface.
        serve(room, &id, 80)?;
        serve(room, &id, 3050)?;
        let answers = |when: &str| -> Result<()> {
            for (port, target) in [(8080, 80), (8081, 80), (3050, 3050)] {
                let answer = format!("{id}:{target} {}", OUTSIDE[0]);
                expect(room, Some("outside"), HOST[0], port, &answer).with_context(|| when.to_owned())?;
            }
            Ok(())
        };
        let refused = || -> Result<()> {
            for mapping in mappings.as_array().into_iter().flatten() {
                let config = ports("netc", json!([mapping]), &foreign, backend);
                let error = room.attach("portmap", "ADD", &stranger).config(&config).run()?.error()?;
                ensure!(error.msg.contains(&id), "the owner of {mapping} is not named: {error}");
            }
            Ok(())
        };
        for (at, config) in published.iter().enumerate() {
            call("portmap", "CHECK", at, config)?.silent().with_context(|| format!("interface {at}"))?;
        }
        answers("with both")?;
        refused()?;
        let stays = 1 - gone;
        call("portmap", "DEL", gone, &published[gone])?.silent()?;
        call("bridge", "DEL", gone, networks[gone].1)?.silent()?;
        call("portmap", "CHECK", stays, &published[stays])?.silent()?;
        // Two interfaces on one network answer for each other's address, and the host has cached
        // one of them.
        ip::run(&["neigh", "flush", "all"])?;
        // The default route may have been the deleted one.
        let gateway = gateway(&published[stays])?;
        ip::run_in(&id, &["route", "replace", "default", "via", &gateway])?;
        answers("with one")?;
        refused()?;
        call("portmap", "DEL", stays, &published[stays])?.silent()?;
        call("bridge", "DEL", stays, networks[stays].1)?.silent()?;
        let left: Vec<String> = snapshot::rules()?.into_iter().filter(|line| line.contains(&id)).collect();
        ensure!(left.is_empty(), "left: {left:#?}");
    }
    Ok(())
}

fn gateway(config: &Value) -> Result<String> {
    let gateway = config["prevResult"]["ips"][0]["gateway"].as_str().context("no gateway")?;
    Ok(gateway.to_owned())
}
