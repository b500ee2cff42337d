//! `--scale`: the same attachment among many others, many leases, many published ports.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::room::Room;
use harness::store;
use netlink::{LinkChange, Mac, Netlink, NewBridge, Veth, VethPeer};
use serde::Serialize;
use sys::NetNs;

use super::contender::{Contender, FLOOR, OURS, REFERENCE};
use super::measure::{Measured, Series, Span, measure};
use super::ports;
use super::scenario::{CROWD, Scenario, address, network};
use crate::stats::{Ratio, median};

/// A point of measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Its name.
    pub name: &'static str,
    scenario: Scenario,
    /// Live attachments; the bridge of the measured ones has a thousand of them.
    attachments: u32,
    /// Leases.
    leases: u16,
    /// Published ports.
    ports: u16,
    /// Which contenders are measured.
    who: Who,
}

/// The contenders that a point measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// All, in turns.
    All,
    /// Ours, and the kernel alone: the reference's rules would affect them.
    Ours,
    /// The reference, a few times: its operations may take seconds.
    Reference,
}

/// The points; the first of a scenario is the base of its others.
pub const POINTS: [Point; 11] = [
    crowded("1 attachment", 1, 1),
    crowded("100 attachments", 100, 100),
    crowded("1,000 attachments", 1000, 1000),
    crowded("4,000 attachments", 4000, 4000),
    crowded("10,000 leases", 1, 10_000),
    crowded("60,000 leases", 1, 60_000),
    published("1 published port", 0, Who::All),
    published("1,000 published ports", 1000, Who::Ours),
    published("10,000 published ports", 10_000, Who::Ours),
    published("1,000 published ports, the reference", 1000, Who::Reference),
    published("10,000 published ports, the reference", 10_000, Who::Reference),
];

const fn crowded(name: &'static str, attachments: u32, leases: u16) -> Point {
    Point { name, scenario: Scenario::Crowded, attachments, leases, ports: 0, who: Who::All }
}

/// How many attachments come before the measured one.
const fn published(name: &'static str, ports: u16, who: Who) -> Point {
    Point { name, scenario: Scenario::Portmap, attachments: 0, leases: 1, ports, who }
}

impl Point {
    /// The point with that name.
    pub fn named(name: &str) -> Option<Self> {
        POINTS.into_iter().find(|point| point.name == name)
    }

    /// Whether it is the base of other points.
    pub fn is_base(self) -> bool {
        POINTS.iter().find(|point| point.scenario == self.scenario) == Some(&self)
    }

    /// What is measured there.
    pub fn title(self) -> String {
        format!("{} at {}", if self.ports_matter() { "+ portmap" } else { "bridge + host-local" }, self.name)
    }

    fn ports_matter(self) -> bool {
        self.scenario == Scenario::Portmap
    }
}

/// A point costs seconds to prepare; its rounds are few.
const SPAN: Span = Span { rounds: 25, time: Duration::from_secs(10), least: 5, counted: false };

/// One operation of the reference among 10,000 ports takes seconds.
const FEW: Span = Span { rounds: 5, time: Duration::from_secs(10), least: 1, counted: false };

/// How a verb of ours has grown at a point.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Growth {
    /// The point.
    pub point: &'static str,
    /// The verb.
    pub verb: &'static str,
    /// Its time minus the growth of the kernel's own work, relative to its time at the first point.
    pub beyond_the_kernel: Option<Ratio>,
}

/// The job of a point's room.
pub fn job(room: &Room, name: &str) -> Result<Measured> {
    let point = Point::named(name).with_context(|| format!("there is no point {name}"))?;
    if point.attachments > 0 {
        crowd(room, point.attachments)?;
    }
    for slot in 0..3 {
        write_leases(slot, point.leases)?;
    }
    let all = Contender::all(room)?.into_iter();
    let contenders: Vec<Contender> = all
        .filter(|contender| match point.who {
            Who::All => true,
            Who::Ours => contender.name != REFERENCE,
            Who::Reference => contender.name == REFERENCE,
        })
        .collect();
    if point.ports > 0 {
        let first = contenders.first().context("no suite to publish ports")?;
        match point.who {
            Who::Reference => {
                let subnet = format!("{}/16", address(first.slot, 0));
                ports::load_iptables(&ports::others(first.slot, point.ports), &subnet)?;
            }
            // The table is the host's: `moor-plugins` finds the rules of the single executables.
            _ => ports::publish(first, point.ports)?,
        }
    }
    let span = if point.who == Who::Reference { FEW } else { SPAN };
    measure(room, point.scenario, contenders, span)
}

/// How many are on one bridge: Linux allows 1,023 ports (BR_MAX_PORTS, net/bridge/br_private.h),
/// and the measured ones need some.
const PORTS: u32 = 1000;

/// Unmeasured attachments: veth pairs on bridges, of which [`CROWD`] is the first, with all their
/// far ends in one namespace.
fn crowd(room: &Room, attachments: u32) -> Result<()> {
    let container = room.container("crowd")?;
    let netns = NetNs::open(&container.path)?;
    let (host, inside) = (Netlink::open()?, Netlink::open_in(&netns)?);
    // A thousand links with duplicate address detection and router solicitations on one bridge
    // would keep this kernel busy for long.
    let ipv6 = |on: bool| {
        let done = set_ipv6(on);
        done.and_then(|()| room.inside("crowd", || set_ipv6(on)))
    };
    ipv6(false)?;
    let mut master = None;
    for number in 0..attachments {
        if number % PORTS == 0 {
            let nth = number / PORTS;
            let name = if nth == 0 { CROWD.to_owned() } else { format!("{CROWD}.{nth}") };
            let mac = Some(Mac::random()?);
            let bridge = NewBridge { name: &name, mac, mtu: None, vlan_filtering: false, up: true };
            host.create_bridge(&bridge)?;
            master = host.link_by_name(&name)?.map(|link| link.index);
        }
        let (name, far) = (format!("crowd.{number}"), format!("eth{number}"));
        let peer = VethPeer { name: &far, mac: None, mtu: None, netns: Some(netns.as_fd()) };
        host.create_veth(&Veth { name: &name, mac: None, mtu: None, master, up: true, peer })?;
        let index = inside.link_by_name(&far)?.context("a far end is gone")?.index;
        inside.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
    }
    ipv6(true)
}

/// Whether new links have IPv6, in the calling thread's namespace.
fn set_ipv6(on: bool) -> Result<()> {
    const PATH: &str = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    match fs::write(PATH, if on { "0" } else { "1" }) {
        // A kernel without IPv6 has nothing to disable.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| format!("write {PATH}")),
    }
}

/// The unmeasured leases of a network, from its first free address on, as if allocated in turn.
fn write_leases(slot: u8, leases: u16) -> Result<()> {
    let dir = format!("/var/lib/cni/networks/{}", network(slot));
    let mut last = String::new();
    for number in 2..leases + 2 {
        last = address(slot, number).to_string();
        store::write(&dir, &last, &store::content(&format!("other{number}"), "eth0"))?;
    }
    store::write(&dir, "last_reserved_ip.0", &last).map(drop)
}

/// Compares every point with the first of its scenario.
pub fn compare(points: &[(Point, Measured)]) -> Vec<Growth> {
    let mut growth = vec![];
    for (point, measured) in
        points.iter().filter(|(point, _)| !point.is_base() && point.who != Who::Reference)
    {
        let of_scenario = |(base, _): &&(Point, Measured)| base.is_base() && base.scenario == point.scenario;
        let Some((_, alone)) = points.iter().find(of_scenario) else { continue };
        for verb in ["ADD", "DEL"] {
            let beyond_the_kernel = beyond(alone, measured, verb);
            growth.push(Growth { point: point.name, verb, beyond_the_kernel });
        }
    }
    growth
}

/// The points were not measured in turns, so the noise is the difference between the halves of the
/// point's own run.
fn beyond(alone: &Measured, measured: &Measured, verb: &str) -> Option<Ratio> {
    let wall = |of: &Measured, contender: &str| of.find(contender, verb).map(Series::wall);
    let (ours, kernel) = (wall(measured, OURS)?, wall(measured, FLOOR)?);
    let (base, kernel_base) = (median(&wall(alone, OURS)?), median(&wall(alone, FLOOR)?));
    let value = |ours: &[f64], kernel: &[f64]| (median(ours) - (median(kernel) - kernel_base)) / base;
    let half = ours.len().min(kernel.len()) / 2;
    (base > 0.0 && half > 0).then(|| Ratio {
        value: value(&ours, &kernel),
        noise: (value(&ours[..half], &kernel[..half]) - value(&ours[half..], &kernel[half..])).abs(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::shot::Sample;
    use super::*;

    #[test]
    fn every_point_is_held_against_one_of_its_scenario() {
        let bases: Vec<Point> = POINTS.into_iter().filter(|point| point.is_base()).collect();
        for point in POINTS {
            let own = bases.iter().filter(|base| base.scenario == point.scenario);
            assert_eq!(own.count(), 1, "{}", point.name);
        }
    }

    #[test]
    fn what_the_kernel_grew_by_is_not_ours() {
        let measured = |ours: f64, kernel: f64| {
            let series = |contender: &str, wall_ms: f64| Series {
                contender: contender.into(),
                verb: "ADD".into(),
                samples: vec![Sample { wall_ms, cpu_ms: 0.0 }; 4],
                counts: None,
            };
            Measured { series: vec![series(OURS, ours), series(FLOOR, kernel)], not_run: vec![] }
        };
        let grown = beyond(&measured(3.0, 1.0), &measured(8.0, 5.0), "ADD").unwrap();
        assert!((grown.value - 4.0 / 3.0).abs() < 1e-9 && grown.noise < 1e-9, "{grown:?}");
    }
}
