//! A router at the far end of one of the administrator's links: the host has its IPv6 default route
//! and an address from its advertisements, like a machine without static addresses. When a host
//! starts forwarding, the kernel drops what it learned that way and stops listening, unless
//! `accept_ra` prevents it (ip-sysctl.rst).

use std::fs;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::frame::{self, MacBytes, Wire};
use crate::patience::on_this_machine;
use crate::room::UPLINK;
use crate::{ip, namespace};

const MAC: MacBytes = [0x02, 0, 0, 0, 0xad, 0x01];
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xad, 0, 0, 0, 0, 0);

/// The lifetime of advertised objects, in seconds: longer than any room.
const LIFETIME: u16 = 1800;

/// The time limit for the host to act on an advertisement: the kernel configures addresses in a
/// queue behind its RTNL lock, which a busy machine holds for seconds.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// Holds its namespace, with the router's end of the link, by a socket.
pub struct Router {
    wire: Wire,
}

impl Router {
    /// Connects the room's host to a new router, and returns when the host has learned from it.
    pub fn connect() -> Result<Self> {
        let router = Self { wire: wire()? };
        namespace::allow_ipv6(&[UPLINK])?;
        // Otherwise the kernel probes for duplicates of the new address, and its lists change in
        // the middle of a case.
        for name in ["dad_transmits", "router_solicitation_delay"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{UPLINK}/{name}"), "0")
                .with_context(|| format!("set {name} of {UPLINK}"))?;
        }
        ip::run(&["link", "set", UPLINK, "up"])?;
        router.advertise_until_learned()?;
        Ok(router)
    }

    /// Requires that the route still exists, and that the router's next advertisement restores it
    /// after it is deleted.
    pub fn ensure_heard(&self) -> Result<()> {
        ensure!(has_route()?, "the host has lost the default route that it had learned by {UPLINK}");
        open_firewall()?;
        ip::run(&["-6", "route", "flush", "proto", "ra", "dev", UPLINK])?;
        self.advertise_until_learned()
    }

    fn advertise_until_learned(&self) -> Result<()> {
        let deadline = Instant::now() + on_this_machine(PATIENCE);
        loop {
            self.wire.send(&frame::router_advertisement(MAC, PREFIX, LIFETIME))?;
            std::thread::sleep(PAUSE);
            if has_route()? && has_address()? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the host does not listen to its router on {UPLINK}");
        }
    }
}

/// After a case, its firewall may drop advertisements.
fn open_firewall() -> Result<()> {
    ip::output("nft", &["flush", "ruleset"])?;
    if fs::read_to_string("/proc/net/ip6_tables_names").is_ok_and(|tables| !tables.is_empty()) {
        ip::output("ip6tables-legacy", &["-P", "INPUT", "ACCEPT"])?;
        ip::output("ip6tables-legacy", &["-F", "INPUT"])?;
    }
    Ok(())
}

/// Creates the router's namespace and the link, and opens the router's end.
fn wire() -> Result<Wire> {
    let [a, b, c, d, e, f] = MAC;
    let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    let rooms = std::process::id();
    namespace::in_new(|| {
        // Else the kernel there answers for the router's address as a host, and those who ask drop
        // their default route.
        fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").context("make it a router")?;
        ip::script(
            None,
            &format!(
                "link add eth0 address {mac} type veth peer name {UPLINK} netns {rooms}
                 link set lo up
                 link set eth0 up"
            ),
        )?;
        Wire::here("eth0")
    })
    .context("make the administrator's router")
}

/// Without an address that may turn out to be a duplicate.
fn has_address() -> Result<bool> {
    let rows = ip::rows(None, &["-6", "addr", "show", "dev", UPLINK])?;
    let all: Vec<_> = rows.iter().filter_map(|row| row["addr_info"].as_array()).flatten().collect();
    Ok(all.iter().any(|info| info["scope"] == "global") && all.iter().all(|info| info["tentative"] != true))
}

fn has_route() -> Result<bool> {
    let routes = ip::rows(None, &["-6", "route", "show", "default", "dev", UPLINK])?;
    Ok(routes.iter().any(|row| row["protocol"] == "ra"))
}
