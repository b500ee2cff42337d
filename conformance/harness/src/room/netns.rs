//! Namespaces in the room: containers, and an "outside".

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Room;
use crate::namespace::{self, Container, OUTSIDE, allow_ipv6};
use crate::patience::on_this_machine;
use crate::{ip, socket};

/// The time limit for setting the stage.
const STAGE_PATIENCE: Duration = Duration::from_secs(20);

impl Room {
    /// Creates a container: an empty namespace, bound at /run/netns/<id>.
    pub fn container(&self, id: &str) -> Result<Container> {
        Container::new(id)
    }

    /// Removes a container's namespace as a runtime does, with its file.
    pub fn remove(&self, container: &Container) -> Result<()> {
        container.remove()
    }

    /// Runs a closure in the namespace of that name, on a thread that ends there.
    pub fn inside<R: Send>(&self, ns: &str, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        namespace::inside(ns, work)
    }

    /// Creates the "outside" host: a veth connects it to the room's host, and it has routes back to
    /// the containers' networks.
    pub fn outside(&self, container_networks: &[&str]) -> Result<Container> {
        let outside = self.container("outside")?;
        // If both ends of a veth have the same index in their namespaces, the kernel reports the
        // carrier up to a second late (linkwatch_urgent_event, net/core/link_watch.c).
        let pair = ["link", "add", "wan0", "index", "1000", "type", "veth", "peer", "name", "eth0"];
        ip::run(&[&pair[..], &["netns", "outside"]].concat())?;
        allow_ipv6(&["wan0"])?;
        ip::script(
            None,
            "addr add 198.51.100.1/24 dev wan0
             -6 addr add 2001:db8:ff::1/64 dev wan0 nodad
             link set wan0 up",
        )?;
        ip::script(
            Some("outside"),
            "link set lo up
             addr add 198.51.100.2/24 dev eth0
             -6 addr add 2001:db8:ff::2/64 dev eth0 nodad
             link set eth0 up",
        )?;
        for network in container_networks {
            let via = if network.contains(':') { "2001:db8:ff::1" } else { "198.51.100.1" };
            ip::run_in("outside", &["route", "add", network, "via", via])?;
        }
        // The stage is ready when both hosts answer: the kernel does not answer on a link before it
        // has settled, which takes a busy machine seconds.
        let deadline = Instant::now() + on_this_machine(STAGE_PATIENCE);
        for address in OUTSIDE {
            socket::reach_by(address.parse()?, deadline).context("set up the outside")?;
        }
        for address in ["198.51.100.1", "2001:db8:ff::1"] {
            let reach = || socket::reach_by(address.parse()?, deadline);
            self.inside("outside", reach).context("set up the outside")?;
        }
        Ok(outside)
    }

    /// Creates another host on a wire of its own, with the outside's IPv4 address: `wan1` leads to
    /// the `eth0` of the namespace `beyond`.
    pub fn beyond(&self) -> Result<Container> {
        let beyond = self.container("beyond")?;
        ip::run(&["link", "add", "wan1", "type", "veth", "peer", "name", "eth0", "netns", "beyond"])?;
        ip::run(&["link", "set", "wan1", "up"])?;
        let lines = "link set lo up\n addr add 198.51.100.2/24 dev eth0\n link set eth0 up";
        ip::script(Some("beyond"), lines)?;
        Ok(beyond)
    }

    /// Requires that an address can be reached from a namespace by real packets.
    pub fn reach(&self, from: &str, to: &str) -> Result<()> {
        let address: IpAddr = to.parse().with_context(|| format!("{to} is no address"))?;
        self.inside(from, || socket::reach(address, socket::patience()))
            .map(drop)
            .with_context(|| format!("{from} cannot reach {to}"))
    }

    /// Reads a sysctl of the room's host, path below /proc/sys.
    pub fn host_sysctl(&self, path: &str) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/sys/{path}")).with_context(|| format!("read {path}"))?;
        Ok(text.trim().to_owned())
    }

    /// Reads a sysctl of a namespace, path below /proc/sys.
    pub fn sysctl(&self, ns: &str, path: &str) -> Result<String> {
        self.inside(ns, || {
            let text =
                fs::read_to_string(format!("/proc/sys/{path}")).with_context(|| format!("read {path}"))?;
            Ok(text.trim().to_owned())
        })
    }
}
