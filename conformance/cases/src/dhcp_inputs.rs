//! dhcp: results in every version, what is provided and routed, and sockets of systemd.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::config::{USUAL, VERSIONS, with};
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::stage::dhcp::{Offer, ROUTER, ReferenceDaemon, Server, Software, SuiteDaemon};
use harness::stage::lan::{add, until};
use serde_json::{Value, json};

const SERVERS: &[Need] = &[Need::DhcpServers, Need::Macvlan];

pub const CASES: &[Case] = &[
    Case::new("dhcp/results_in_every_version", &["C-060", "C-063", "DH-S8"], versions).needs(SERVERS),
    Case::new("dhcp/static_routes_precede_the_default_route", &["DH-S9"], classful).needs(SERVERS),
    Case::new("dhcp/a_second_add_returns_the_same_lease", &["DH-S10"], second).needs(SERVERS),
    Case::new("dhcp/the_last_value_of_an_option_is_provided", &["DH-S11"], provided).needs(SERVERS),
    Case::new("dhcp/one_socket_of_systemd_is_taken_over", &["DH-S12"], systemd).needs(SERVERS),
];

fn config(ipam: &Value) -> Value {
    let ipam = with(&json!({"type": "dhcp"}), ipam.clone());
    json!({"cniVersion": USUAL, "name": "lan", "type": "macvlan", "master": "wan0", "ipam": ipam})
}

fn dnsmasq(room: &Room, offer: &Offer) -> Result<Server> {
    room.outside(&[])?;
    room.dhcp_server(Software::Dnsmasq, offer)
}

fn released(server: &Server) -> Result<()> {
    until("the lease is free", || Ok(server.leases()?.is_empty())).with_context(|| server.log())
}

fn versions(room: &Room) -> Result<()> {
    let server = dnsmasq(room, &Offer::default())?;
    let _daemon = SuiteDaemon::start(room, &[])?;
    for (nth, version) in VERSIONS.into_iter().enumerate() {
        let config = with(&config(&json!({})), json!({"cniVersion": version}));
        let (container, result) = add(room, "macvlan", &format!("c{nth}"), &config)?;
        let address = server.addresses()?.pop().context("no lease")? + "/24";
        let (ip, routes) = match version {
            "0.1.0" | "0.2.0" => (json!({"ip": address, "gateway": ROUTER}), result["ip4"]["routes"].clone()),
            "1.0.0" | "1.1.0" => {
                (json!({"interface": 0, "address": address, "gateway": ROUTER}), result["routes"].clone())
            }
            _ => {
                let ip = json!({"version": "4", "interface": 0, "address": address, "gateway": ROUTER});
                (ip, result["routes"].clone())
            }
        };
        let mut found = result.get("ip4").unwrap_or(&result["ips"][0]).clone();
        if let Some(keys) = found.as_object_mut() {
            keys.remove("routes");
        }
        ensure!(found == ip, "{version}: expected {ip}, got {result}");
        ensure!(routes == json!([{"dst": "0.0.0.0/0", "gw": ROUTER}]), "{version}: {result}");
        room.attach("macvlan", "DEL", &container).config(&config).run()?.silent()?;
        released(&server).context(version)?;
    }
    Ok(())
}

fn classful(room: &Room) -> Result<()> {
    let classful = vec![("10.0.0.0", "198.51.100.9"), ("172.16.0.0", "198.51.100.8")];
    let server = dnsmasq(room, &Offer { classful, ..Offer::default() })?;
    let _daemon = SuiteDaemon::start(room, &[])?;
    let ask = json!({"request": [{"option": "33"}]});
    let (container, result) = add(room, "macvlan", "c1", &config(&ask))?;
    let expected = json!([
        {"dst": "10.0.0.0/8", "gw": "198.51.100.9"},
        {"dst": "172.16.0.0/16", "gw": "198.51.100.8"},
        {"dst": "0.0.0.0/0", "gw": ROUTER},
    ]);
    ensure!(result["routes"] == expected, "{result}: {}", server.log());
    let routes = ip::output("ip", &["-n", "c1", "route", "show", "10.0.0.0/8"])?;
    ensure!(routes.contains("via 198.51.100.9 dev eth0"), "{routes}");
    room.attach("macvlan", "DEL", &container).config(&config(&ask)).run()?.silent()
}

fn second(room: &Room) -> Result<()> {
    let server = dnsmasq(room, &Offer::default())?;
    let _daemon = SuiteDaemon::start(room, &[])?;
    let container = room.container("c1")?;
    let link = "link add link wan0 name eth0 netns c1 type macvlan mode bridge";
    ip::script(None, link)?;
    let config = json!({"cniVersion": USUAL, "name": "lan", "type": "dhcp", "ipam": {"type": "dhcp"}});
    let call = |verb: &str| room.attach("dhcp", verb, &container).config(&config).run();
    let first = call("ADD")?.result().with_context(|| server.log())?;
    let again = call("ADD")?.result().with_context(|| server.log())?;
    ensure!(first["ips"] == again["ips"], "first {first}, then {again}");
    ensure!(server.addresses()?.len() == 1, "{:?}", server.addresses()?);
    call("DEL")?.silent()?;
    released(&server)
}

fn provided(room: &Room) -> Result<()> {
    let server = dnsmasq(room, &Offer::default())?;
    let _daemon = SuiteDaemon::start(room, &[])?;
    let options = json!({"provide": [
        {"option": "host-name", "value": "first"},
        {"option": "12", "value": "last"},
        {"option": "dhcp-client-identifier", "value": "own-id"},
    ]});
    let (container, _) = add(room, "macvlan", "c1", &config(&options))?;
    let log = server.log();
    ensure!(log.contains("client provides name: last") && !log.contains("name: first"), "{log}");
    let id: Vec<String> = b"own-id".iter().map(|byte| format!("{byte:02x}")).collect();
    let leases = server.text()?;
    ensure!(leases.contains(&id.join(":")), "{leases}");
    room.attach("macvlan", "DEL", &container).config(&config(&options)).run()?.silent()?;
    released(&server)?;
    let long = config(&json!({"provide": [{"option": "12", "value": "x".repeat(256)}]}));
    let container = room.container("c2")?;
    room.attach("macvlan", "ADD", &container).config(&long).run()?.refused("255")?;
    ensure!(ip::links(Some("c2"))? == ["lo"], "a refused ADD left its link");
    Ok(())
}

/// The suite's daemon with a listening socket as systemd passes it: descriptor 3.
fn activated(room: &Room, listener: &UnixListener, count: &str) -> Result<Child> {
    let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=$1 exec \"$0\" daemon";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(room.suite.join("dhcp")).arg(count);
    command.stdin(OwnedFd::from(listener.try_clone()?)).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("start a daemon as systemd does")
}

fn systemd(room: &Room) -> Result<()> {
    let server = dnsmasq(room, &Offer::default())?;
    let socket = Path::new(ReferenceDaemon::SOCKET);
    fs::create_dir_all(socket.parent().context("a socket has a directory")?)?;
    let listener = UnixListener::bind(socket)?;
    let mut refused = activated(room, &listener, "2")?;
    ensure!(!refused.wait()?.success(), "two sockets are accepted");
    let mut daemon = activated(room, &listener, "1")?;
    let outcome = (|| {
        let (container, _) = add(room, "macvlan", "c1", &config(&json!({})))?;
        ensure!(server.addresses()?.len() == 1, "{:?}", server.addresses()?);
        ensure!(daemon.try_wait()?.is_none(), "the daemon ended");
        room.attach("macvlan", "DEL", &container).config(&config(&json!({}))).run()?.silent()?;
        released(&server)
    })();
    let _ = daemon.kill().and_then(|()| daemon.wait());
    outcome
}
