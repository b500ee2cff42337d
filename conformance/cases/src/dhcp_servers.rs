//! dhcp beside the servers that people run: many containers, short leases, a server that goes
//! away, a daemon that is killed. The daemon is started by hand, so that the reference's takes part.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use harness::case::Case;
use harness::config::{USUAL, with};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::patience::on_this_machine;
use harness::room::Room;
use harness::stage::dhcp::{Offer, Server, Software, SuiteDaemon};
use harness::stage::lan::{add, at_once, check, until};
use serde_json::{Value, json};

const SERVERS: &[Need] = &[Need::DhcpServers, Need::Macvlan];

pub const CASES: &[Case] = &[
    Case::new("dhcp/fifty_containers_at_once_beside_dnsmasq", &["DH-S1"], |room| {
        fifty(room, Software::Dnsmasq)
    })
    .needs(SERVERS),
    Case::new("dhcp/fifty_containers_at_once_beside_kea", &["DH-S1"], |room| fifty(room, Software::Kea))
        .needs(SERVERS),
    Case::new("dhcp/fifty_containers_at_once_beside_isc_dhcp_server", &["DH-S1"], |room| {
        fifty(room, Software::Isc)
    })
    .needs(SERVERS),
    Case::new("dhcp/leases_of_two_seconds_are_renewed_for_a_minute", &["DH-S2"], renewed).needs(SERVERS),
    Case::new("dhcp/a_server_that_is_away_for_20_s_finds_its_leases_in_use", &["DH-S3"], away).needs(SERVERS),
    Case::new("dhcp/an_expired_address_is_not_used_and_comes_back_with_the_server", &["DH-S3"], expired)
        .needs(SERVERS),
    Case::new("dhcp/a_daemon_killed_ten_times_loses_no_lease", &["DH-S4"], killed).needs(SERVERS),
    Case::new("dhcp/an_address_that_the_server_changes_changes_on_the_link", &["DH-S5"], changed)
        .needs(SERVERS),
    Case::new("dhcp/an_attachment_is_added_again_after_its_link_was_deleted", &["DH-S7"], again)
        .needs(SERVERS),
    Case::new("dhcp/a_container_on_a_bridge_has_a_lease_of_the_lan", &["DH-S6"], bridged)
        .needs(&[Need::DhcpServers]),
];

/// The longest pause between two messages of the daemon: a server that is back is found soon.
const FLAGS: &[&str] = &["-resendmax=2s"];

/// A server counts in whole seconds, and a busy machine delays packets and the daemon.
const MARGIN: Duration = Duration::from_secs(5);

fn config() -> Value {
    json!({"cniVersion": USUAL, "name": "lan", "type": "macvlan", "master": "wan0", "ipam": {"type": "dhcp"}})
}

/// The IPv4 addresses on a container's link; none while it is down.
fn on_link(id: &str) -> Result<Vec<String>> {
    let rows = ip::rows(Some(id), &["-4", "addr", "show", "up", "dev", "eth0"])?;
    let infos = rows.iter().filter_map(|row| row["addr_info"].as_array()).flatten();
    Ok(infos.filter_map(|info| Some(info["local"].as_str()?.to_owned())).collect())
}

/// The end of what a server logged.
fn last_words(server: &Server) -> String {
    let log = server.log();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

fn address_of(result: &Value) -> Result<String> {
    let address = result["ips"][0]["address"].as_str().and_then(|text| text.split_once('/'));
    Ok(address.with_context(|| format!("no address in {result}"))?.0.to_owned())
}

/// Attaches containers one after another; returns each with its address.
fn attached(room: &Room, count: usize) -> Result<Vec<(Container, String)>> {
    let one = |nth| {
        let (container, result) = add(room, "macvlan", &format!("c{nth}"), &config())?;
        let address = address_of(&result)?;
        Ok((container, address))
    };
    (0..count).map(one).collect()
}

/// Detaches them; the server must have no lease then.
fn detach(room: &Room, containers: &[(Container, String)], server: &Server) -> Result<()> {
    for (container, _) in containers {
        room.attach("macvlan", "DEL", container).config(&config()).run()?.silent()?;
    }
    none_leased(server)
}

fn none_leased(server: &Server) -> Result<()> {
    until("every lease is free", || Ok(server.leases()?.is_empty()))
        .with_context(|| format!("leaked: {:?}: {}", server.addresses(), last_words(server)))
}

fn fifty(room: &Room, software: Software) -> Result<()> {
    room.outside(&[])?;
    let server = room.dhcp_server(software, &Offer { lease: 600, ..Offer::default() })?;
    let _daemon = SuiteDaemon::start(room, FLAGS)?;
    let before = room.snapshot()?;
    let ids: Vec<String> = (0..50).map(|nth| format!("c{nth}")).collect();
    let containers = ids.iter().map(|id| room.container(id)).collect::<Result<Vec<_>>>()?;
    let mut given = BTreeSet::new();
    for (container, answer) in containers.iter().zip(at_once(room, "ADD", &containers, &config())?) {
        let result = answer.result().with_context(|| format!("{}: {}", container.id, last_words(&server)))?;
        let address = address_of(&result)?;
        ensure!(on_link(&container.id)? == [address.clone()], "{}: {result}", container.id);
        ensure!(given.insert(address.parse::<IpAddr>()?), "{address} is given twice");
    }
    let leased: BTreeSet<IpAddr> = server.leases()?.into_iter().map(|lease| lease.address).collect();
    ensure!(leased == given, "the containers have {given:?}, the server leased {leased:?}");
    for (container, answer) in containers.iter().zip(at_once(room, "DEL", &containers, &config())?) {
        answer.silent().with_context(|| container.id.clone())?;
    }
    none_leased(&server)?;
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    room.ensure_nothing_left(&before, &ids)
}

/// How often a container was seen, and how often without its address.
struct Seen {
    looks: usize,
    without: usize,
}

/// Looks at the containers until `end`. Within a margin, the address is on the link exactly while it
/// is leased: a busy machine can miss a renewal, and then the address goes and comes back.
fn watch(containers: &[(Container, String)], server: &Server, end: Instant) -> Result<Seen> {
    let mut seen = Seen { looks: 0, without: 0 };
    let mut agreed = vec![Instant::now(); containers.len()];
    while Instant::now() < end {
        for ((container, address), agreed) in containers.iter().zip(&mut agreed) {
            let (on_link, leased) = (on_link(&container.id)?, server.addresses()?);
            let is_on_link = !on_link.is_empty();
            ensure!(!is_on_link || on_link == [address.clone()], "{}: {on_link:?}", container.id);
            if is_on_link == leased.contains(address) {
                *agreed = Instant::now();
            }
            ensure!(
                agreed.elapsed() < on_this_machine(MARGIN),
                "for {:?}, {} has {on_link:?} on its link, while the leases are {leased:?}: {}",
                agreed.elapsed(),
                container.id,
                last_words(server)
            );
            seen.looks += 1;
            seen.without += usize::from(!is_on_link);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(seen)
}

impl Seen {
    /// Nearly always, since a lease of two seconds ends when a busy machine stalls for one.
    fn ensure_kept(&self) -> Result<()> {
        let (looks, without) = (self.looks, self.without);
        ensure!(without * 20 <= looks, "in {without} of {looks} looks the address was not on its link");
        Ok(())
    }
}

/// By Kea and by ISC's server at once, each on a wire of its own.
fn renewed(room: &Room) -> Result<()> {
    room.outside(&[])?;
    room.beyond()?;
    let offer = Offer { lease: 2, ..Offer::default() };
    let kea = room.dhcp_server(Software::Kea, &offer)?;
    let isc = room.dhcp_server_beyond(Software::Isc, &offer)?;
    let _daemon = SuiteDaemon::start(room, FLAGS)?;
    let end = Instant::now() + Duration::from_secs(60);
    let of = |prefix: &str, master: &str, server: &Server| -> Result<()> {
        let config = with(&config(), json!({"master": master}));
        let one = |nth| {
            let (container, result) = add(room, "macvlan", &format!("{prefix}{nth}"), &config)?;
            let address = address_of(&result)?;
            Ok((container, address))
        };
        let containers = (0..2).map(one).collect::<Result<Vec<_>>>()?;
        watch(&containers, server, end)?.ensure_kept()?;
        detach(room, &containers, server)
    };
    std::thread::scope(|scope| {
        let beyond = scope.spawn(|| of("d", "wan1", &isc).context("isc-dhcp-server"));
        let outside = of("c", "wan0", &kea).context("kea");
        let beyond = beyond.join().map_err(|_| anyhow!("a thread panicked"))?;
        outside.and(beyond)
    })
}

fn away(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mut server = room.dhcp_server(Software::Kea, &Offer { lease: 30, ..Offer::default() })?;
    let _daemon = SuiteDaemon::start(room, FLAGS)?;
    let containers = attached(room, 3)?;
    server.stop();
    // Over the time of the first renewal, and before the end of the lease.
    watch(&containers, &server, Instant::now() + Duration::from_secs(20))?.ensure_kept()?;
    server.start()?;
    // Over the end of the first lease.
    watch(&containers, &server, Instant::now() + Duration::from_secs(15))?.ensure_kept()?;
    for (container, address) in &containers {
        ensure!(server.addresses()?.contains(address), "{} of {} is not renewed", address, container.id);
    }
    detach(room, &containers, &server)
}

fn expired(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mut server = room.dhcp_server(Software::Kea, &Offer { lease: 6, ..Offer::default() })?;
    let _daemon = SuiteDaemon::start(room, FLAGS)?;
    let containers = attached(room, 3)?;
    server.stop();
    let seen = watch(&containers, &server, Instant::now() + Duration::from_secs(20))?;
    ensure!(seen.without > 0, "the addresses are still on the links");
    server.start()?;
    until_after(Duration::from_secs(10), "every container has its address again", || {
        for (container, address) in &containers {
            if on_link(&container.id)? != [address.clone()] {
                return Ok(false);
            }
        }
        Ok(true)
    })
    .with_context(|| last_words(&server))?;
    room.reach("c0", "198.51.100.2")?;
    detach(room, &containers, &server)
}

/// As [`until`], within a longer time.
fn until_after(limit: Duration, what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + on_this_machine(limit);
    while !holds()? {
        ensure!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn killed(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let server = room.dhcp_server(Software::Kea, &Offer { lease: 8, ..Offer::default() })?;
    let mut daemon = SuiteDaemon::start(room, FLAGS)?;
    let containers = attached(room, 3)?;
    for _ in 0..10 {
        drop(daemon);
        std::thread::sleep(Duration::from_millis(500));
        daemon = SuiteDaemon::start(room, FLAGS)?;
        watch(&containers, &server, Instant::now() + Duration::from_millis(1500))?.ensure_kept()?;
    }
    for (container, address) in &containers {
        ensure!(server.addresses()?.contains(address), "{} of {} is not renewed", address, container.id);
    }
    detach(room, &containers, &server)
}

fn changed(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let mut server = room.dhcp_server(Software::Isc, &Offer { lease: 6, ..Offer::default() })?;
    let _daemon = SuiteDaemon::start(room, FLAGS)?;
    let (container, result) = add(room, "macvlan", "c1", &config())?;
    let first = address_of(&result)?;
    server.replace(&Offer { lease: 6, range: (10, 20), ..Offer::default() })?;
    until_after(Duration::from_secs(10), "the other server's address is on the link", || {
        let on_link = on_link("c1")?;
        Ok(on_link.len() == 1 && on_link[0] != first && server.addresses()? == on_link)
    })
    .with_context(|| format!("{:?}: {}", on_link("c1"), last_words(&server)))?;
    room.reach("c1", "198.51.100.2")?;
    // The result of ADD no longer holds.
    let ipam = json!({"cniVersion": USUAL, "name": "lan", "type": "dhcp", "ipam": {"type": "dhcp"}});
    let error = check(room, "dhcp", &container, &ipam, &result)?.error()?;
    ensure!(error.msg.contains(&first), "CHECK does not name {first}: {error}");
    detach(room, &[(container, first)], &server)
}

/// Later releases of the reference wait for ever for the worker of the first lease, which has ended.
fn again(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let server = room.dhcp_server(Software::Kea, &Offer { lease: 4, ..Offer::default() })?;
    let _daemon = SuiteDaemon::start(room, FLAGS)?;
    let (container, result) = add(room, "macvlan", "c1", &config())?;
    let first = address_of(&result)?;
    ip::run_in("c1", &["link", "del", "eth0"])?;
    // Over a renewal, at which the daemon notices.
    std::thread::sleep(Duration::from_secs(5));
    let result = room.attach("macvlan", "ADD", &container).config(&config()).run()?.result()?;
    let address = address_of(&result)?;
    ensure!(on_link("c1")? == [address.clone()], "after {first}: {result}");
    let leased = server.addresses()?;
    ensure!(leased.contains(&address), "{address} is not among the leases: {leased:?}");
    room.attach("macvlan", "DEL", &container).config(&config()).run()?.silent()?;
    until_after(Duration::from_secs(10), "every lease is free", || Ok(server.leases()?.is_empty()))
}

fn bridged(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let server = room.dhcp_server(Software::Dnsmasq, &Offer::default())?;
    ip::script(None, "link add lan0 type bridge\n link set lan0 up\n link set wan0 master lan0")?;
    let _daemon = SuiteDaemon::start(room, FLAGS)?;
    let before = room.snapshot()?;
    let config = json!({"cniVersion": USUAL, "name": "lan", "type": "bridge", "bridge": "lan0", "ipam": {"type": "dhcp"}});
    let (container, result) = add(room, "bridge", "c1", &config)?;
    let address = address_of(&result)?;
    ensure!(server.addresses()? == [address.clone()], "{:?}: {result}", server.addresses()?);
    room.reach("c1", "198.51.100.2")?;
    check(room, "bridge", &container, &config, &result)?.silent()?;
    room.attach("bridge", "DEL", &container).config(&config).run()?.silent()?;
    none_leased(&server)?;
    room.ensure_nothing_left(&before, &["c1"])
}
