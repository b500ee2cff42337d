//! The main use of the suite on one screen: a host, two containers attached through a conflist, an
//! outside; reachability; DEL, and the proof that nothing is left.

mod cluster;
mod services;

use std::fmt::Display;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::job::Kind;
use harness::namespace::{Container, OUTSIDE};
use harness::room::Room;
use harness::{ip, socket};
use runtime::{Attachment, Conflist, Runtime};
use serde_json::Value;

use crate::paper::Paper;
use services::Shops;

/// The conflist that README.md shows.
const CONFLIST: &str = "10-moor.conflist";

/// The host's own addresses, as the outside sees them.
const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:ff::1"];

/// An attached container.
struct Guest {
    container: Container,
    attachment: Attachment,
    result: Value,
}

impl Guest {
    /// Its address of a family, without the prefix length, and the gateway.
    fn address(&self, v6: bool) -> Option<(IpAddr, IpAddr)> {
        let ips = self.result["ips"].as_array()?;
        ips.iter().find_map(|ip| {
            let address: IpAddr = ip["address"].as_str()?.split('/').next()?.parse().ok()?;
            let gateway = ip["gateway"].as_str()?.parse().ok()?;
            (address.is_ipv6() == v6).then_some((address, gateway))
        })
    }
}

/// The jobs of its rooms.
pub const JOBS: &[Kind] =
    &[Kind::new("demo", |room, _| run(room)), Kind::new("demo-cluster", |room, _| cluster::run(room))];

/// Runs the demo in this room: true when every step passed.
pub fn run(room: &Room) -> Result<bool> {
    let mut paper = Paper::new();
    let mut list = Conflist::from_file(room.net_d.join(CONFLIST)).context("load the conflist")?;
    list.version = room.newest_common(&list)?;
    let mut runtime = Runtime::new(vec![room.suite.clone()], "/var/lib/cni");
    runtime.timeout = Duration::from_secs(20);
    runtime.forward_stderr = false;

    println!("Two containers on one host, and a machine outside.");
    println!("Everything happens in throwaway namespaces; this machine's network is not touched.");
    paper.heading("The stage");
    room.outside(&[])?;
    let types: Vec<_> = list.plugins.iter().map(|plugin| plugin.plugin_type.as_str()).collect();
    paper.line(&format!("plugins    {}", room.suite.display()));
    paper.line(&format!(
        "conflist   {CONFLIST}: network {:?}, {}, CNI {}",
        list.name,
        types.join(" + "),
        list.version
    ));
    paper.line("host       wan0  198.51.100.1/24  2001:db8:ff::1/64");
    paper.line(&format!(
        "outside    eth0  {}/24  {}/64, and no route to the containers",
        OUTSIDE[0], OUTSIDE[1]
    ));
    let containers = [room.container("web")?, room.container("db")?];
    paper.line("web, db    two containers: empty network namespaces");
    let before = room.snapshot()?;

    paper.heading("ADD");
    let mut guests = vec![];
    for container in containers {
        let attachment = Attachment::new(&container.id, container.path.display().to_string(), "eth0");
        let (took, done) = timed(|| runtime.add(&list, &attachment));
        let what = format!("ADD {} eth0", container.id);
        match done {
            Ok(result) => {
                paper.step(&what, took, Ok(()));
                show_result(&paper, &result);
                guests.push(Guest { container, attachment, result });
            }
            Err(error) => paper.step(&what, took, Err(one_line(error))),
        }
    }
    if guests.len() < 2 {
        return Ok(paper.verdict());
    }

    paper.heading(
        "Who reaches whom, with the first packet after ADD (a TCP handshake or its refusal, both ways)",
    );
    for v6 in [false, true] {
        reachability(room, &mut paper, &guests, v6)?;
    }
    paper.line("");
    for guest in &guests {
        for (outside, host) in OUTSIDE.into_iter().zip(HOST) {
            seen_from_outside(&mut paper, &guest.container.id, outside, host);
        }
    }
    for guest in &guests {
        binds_at_once(room, &mut paper, guest);
    }

    paper.heading("Leases");
    for line in leases(room) {
        paper.line(&line);
    }

    paper.heading("CHECK");
    for guest in &guests {
        let (took, done) = timed(|| runtime.check(&list, &guest.attachment));
        paper.step(&format!("CHECK {}", guest.container.id), took, done.map_err(one_line));
    }
    drift(&mut paper, &runtime, &list, &guests[0])?;

    paper.heading("DEL, twice: the second must succeed too");
    for guest in &guests {
        for again in ["", " again"] {
            let (took, done) = timed(|| runtime.del(&list, &guest.attachment));
            paper.step(&format!("DEL {}{again}", guest.container.id), took, done.map_err(one_line));
        }
    }

    let shops = Shops::open(room, &mut paper, &runtime)?;
    shops.ports(room, &mut paper)?;
    shops.names(room, &mut paper)?;
    shops.close(room, &mut paper, &runtime);

    paper.heading("What is left");
    let bridges = [bridge_of(&list), shops.bridge()].concat();
    let left = room.left_since(&before, &bridges, &["web", "db", "shop-1", "shop-2"])?;
    let inside =
        guests.iter().map(|guest| ip::links(Some(&guest.container.id))).collect::<Result<Vec<_>>>()?.concat();
    let links: Vec<_> = inside
        .into_iter()
        .filter(|link| link != "lo")
        .map(|link| format!("link {link} in a container"))
        .collect();
    let all: Vec<_> = left.into_iter().chain(links).collect();
    let nothing = if all.is_empty() { Ok(()) } else { Err(all.join("\n")) };
    paper.step("of the containers: nothing", Duration::ZERO, nothing);
    for bridge in bridges {
        let addresses = ip::addresses(None, bridge).unwrap_or_default();
        paper
            .line(&format!("of the network stays, for the next container: {bridge} {}", addresses.join(" ")));
    }
    Ok(paper.verdict())
}

/// The bridges that a list's plugins name.
fn bridge_of(list: &Conflist) -> Vec<&str> {
    list.plugins.iter().filter_map(|plugin| plugin.object.get("bridge")?.as_str()).collect()
}

fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let began = Instant::now();
    let done = work();
    (began.elapsed(), done)
}

fn one_line(error: impl Display) -> String {
    error.to_string()
}

fn show_result(paper: &Paper, result: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    for interface in result["interfaces"].as_array().into_iter().flatten() {
        let place = if interface["sandbox"].is_null() { "on the host" } else { "in the container" };
        paper.line(&format!("     {:<14} {}  {place}", text(&interface["name"]), text(&interface["mac"])));
    }
    for address in result["ips"].as_array().into_iter().flatten() {
        paper.line(&format!("     {:<24} gateway {}", text(&address["address"]), text(&address["gateway"])));
    }
    for route in result["routes"].as_array().into_iter().flatten() {
        paper.line(&format!("     route {:<18} via {}", text(&route["dst"]), text(&route["gw"])));
    }
}

fn reachability(room: &Room, paper: &mut Paper, guests: &[Guest], v6: bool) -> Result<()> {
    let family = if v6 { "IPv6" } else { "IPv4" };
    paper.line(&format!("{family:<10}{:>12}{:>13}{:>13}", "gateway", "sibling", "outside"));
    let outside: IpAddr = OUTSIDE[usize::from(v6)].parse()?;
    for (guest, sibling) in guests.iter().zip(guests.iter().rev()) {
        let own = guest.address(v6).context("the result lacks an address of the family")?;
        let sibling = sibling.address(v6).context("the result lacks an address of the family")?;
        let times: Vec<_> =
            [own.1, sibling.0, outside].map(|to| round_trip(room, &guest.container.id, to)).into();
        let cells: Vec<_> = times.into_iter().map(|time| paper.cell(time)).collect();
        paper.line(&format!("{:<10} {}", guest.container.id, cells.join("  ")));
    }
    Ok(())
}

/// The outside can answer only the host, so packets of containers must have the host's address.
fn seen_from_outside(paper: &mut Paper, id: &str, outside: &str, host: &str) {
    let (took, done) = timed(|| socket::seen_as(id, "outside", outside));
    let done = match done {
        Ok(seen) if seen == host => Ok(()),
        Ok(seen) => Err(format!("it comes from {seen}")),
        Err(error) => Err(format!("{error:#}")),
    };
    paper.step(&format!("the outside sees {host} for {id}"), took, done);
}

fn round_trip(room: &Room, from: &str, to: IpAddr) -> Option<Duration> {
    room.inside(from, || socket::reach(to, socket::patience())).ok()
}

fn binds_at_once(room: &Room, paper: &mut Paper, guest: &Guest) {
    let Some((address, _)) = guest.address(true) else { return };
    let (took, done) = timed(|| room.inside(&guest.container.id, || socket::bind(address)));
    let what = format!("{} binds to {address}", guest.container.id);
    paper.step(&what, took, done.map(drop).map_err(|error| format!("{error:#}")));
}

/// The lease files with their owners.
fn leases(room: &Room) -> Vec<String> {
    let is_lease = |line: &String| {
        let path = line.split(' ').nth(1).unwrap_or_default();
        path.rsplit('/').next().is_some_and(|name| name.parse::<IpAddr>().is_ok())
    };
    let files = room.files().into_iter().filter(is_lease);
    files
        .map(|line| {
            let path = line.split(' ').nth(1).unwrap_or_default();
            let owner = line.split('"').nth(1).unwrap_or_default().replace("\\r\\n", " ");
            format!("{path:<44} {owner}")
        })
        .collect()
}

/// Removes an address; CHECK must report it, and pass again when the address is back.
fn drift(paper: &mut Paper, runtime: &Runtime, list: &Conflist, guest: &Guest) -> Result<()> {
    let id = &guest.container.id;
    let address = guest.result["ips"][0]["address"].as_str().context("the result lacks an address")?;
    let route = guest.address(false).context("the result lacks an IPv4 address")?.1.to_string();
    ip::run_in(id, &["addr", "del", address, "dev", "eth0"])?;
    let (took, done) = timed(|| runtime.check(list, &guest.attachment));
    let what = format!("CHECK {id} after `ip addr del {address}`");
    match done {
        Ok(()) => paper.step(&what, took, Err("CHECK passed".into())),
        Err(error) => {
            paper.step(&what, took, Ok(()));
            paper.line(&format!("     error: {}", one_line(error)));
        }
    }
    ip::run_in(id, &["addr", "add", address, "brd", "+", "dev", "eth0"])?;
    ip::run_in(id, &["route", "replace", "default", "via", &route])?;
    let (took, done) = timed(|| runtime.check(list, &guest.attachment));
    paper.step(&format!("CHECK {id} after it was put back"), took, done.map_err(one_line));
    Ok(())
}
