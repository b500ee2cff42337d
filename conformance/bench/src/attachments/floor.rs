//! The floor: the cost of the kernel's own work for one process that keeps everything open.
//!
//! The harness never inspects state through the suite's library; here it does not inspect, it makes
//! requests. The sender of these netlink messages makes no difference to the kernel's cost.

use std::fs;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use harness::namespace::Container;
use harness::store;
use ipnetwork::IpNetwork;
use netlink::{
    Dummy, Ipvlan, IpvlanFlag, IpvlanMode, LinkChange, LinkMove, Mac, Macvlan, MacvlanMode, Netlink,
    NewAddress, NewBridge, Route, Stacked, Veth, VethPeer, Vlan,
};
use nix::time::{ClockId, clock_gettime};
use sys::NetNs;
use sys::tap::{Device, Queue};

use super::scenario::{CROWD, PARENT, Scenario, address, network, vlan_id};
use super::shot::Sample;

/// Its index among the contenders' networks.
const SLOT: u8 = 3;

/// The ends of its veth pair.
const NAME: &str = "vethfloor";
const IFNAME: &str = "eth0";

/// Interface index of `lo` (the kernel creates it first).
const LO: u32 = 1;

/// A process's open handles, and the requests that it makes.
pub struct Floor {
    scenario: Scenario,
    host: Netlink,
    inside: Netlink,
    netns: NetNs,
    parent: u32,
    host_id: Option<i32>,
    addresses: Option<[IpNetwork; 2]>,
    lease: PathBuf,
}

impl Floor {
    /// Opens everything for attachments of a container.
    pub fn new(scenario: Scenario, container: &Container) -> Result<Self> {
        // A masquerade or a published port is one element of a set, which costs some microseconds
        // with an open socket: little beside the links. So these scenarios share the floor of the
        // scenario below them.
        let addressed = !matches!(scenario, Scenario::Loopback | Scenario::Layer2);
        let parent = match scenario {
            Scenario::Crowded => CROWD.to_owned(),
            _ => scenario.parent().map_or_else(|| network(SLOT), str::to_owned),
        };
        let host = Netlink::open()?;
        let netns = NetNs::open(&container.path)?;
        netns.enter(|| sys::sysctl::write("net/ipv4/conf/default/arp_notify", "1"))??;
        let inside = Netlink::open_in(&netns)?;
        let mut index = host.link_by_name(&parent)?.map(|link| link.index);
        if index.is_none() && !matches!(scenario, Scenario::Loopback | Scenario::Tap | Scenario::Dummy) {
            let mac = Some(Mac::random()?);
            let new = NewBridge { name: &parent, mac, mtu: None, vlan_filtering: false, up: true };
            host.create_bridge(&new)?;
            index = host.link_by_name(&parent)?.map(|link| link.index);
        }
        let parents = || NetNs::current().map(|current| inside.make_netns_id(current.as_fd()));
        let host_id = scenario.has_parent().then(parents).transpose()?.transpose()?;
        let address = |number: u16| IpNetwork::new(address(SLOT, number).into(), 16);
        let addresses = if addressed { Some([address(2)?, address(1)?]) } else { None };
        fs::create_dir_all(store::NET)?;
        let lease = PathBuf::from(store::NET).join("lease-of-the-floor");
        Ok(Self { scenario, host, inside, netns, parent: index.unwrap_or(0), host_id, addresses, lease })
    }

    /// The kernel's part of a verb, timed.
    pub fn run(&self, verb: &str) -> Result<Sample> {
        let before = processor_ms()?;
        let began = Instant::now();
        match (verb, self.scenario) {
            ("ADD", Scenario::Loopback) => self.lo(true),
            ("ADD", _) => self.add(),
            ("CHECK", _) => self.check(),
            (_, Scenario::Loopback) => self.lo(false),
            (..) => self.del(),
        }
        .with_context(|| format!("floor {verb}"))?;
        let wall_ms = began.elapsed().as_secs_f64() * 1e3;
        Ok(Sample { wall_ms, cpu_ms: processor_ms()? - before })
    }

    fn lo(&self, up: bool) -> Result<()> {
        Ok(self.inside.set_link(LO, &LinkChange { up: Some(up), ..LinkChange::default() })?)
    }

    fn add(&self) -> Result<()> {
        if self.addresses.is_some() {
            fs::write(&self.lease, store::content(NAME, IFNAME))?;
        }
        let stacked = Stacked {
            name: IFNAME,
            parent: self.parent,
            parent_netns_id: self.host_id,
            mac: None,
            mtu: None,
            index: 0,
            group: 0,
        };
        match self.scenario {
            Scenario::Macvlan | Scenario::Dhcp => {
                let kind = Macvlan { mode: MacvlanMode::Bridge, bc_queue_len: None, sources: &[] };
                self.inside.create_macvlan(&stacked, &kind)?;
            }
            Scenario::Ipvlan => {
                let kind = Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Bridge };
                self.inside.create_ipvlan(&stacked, kind)?;
            }
            Scenario::Vlan => self.inside.create_vlan(&stacked, &Vlan::dot1q(vlan_id(SLOT)))?,
            Scenario::Dummy => {
                let link = Dummy { name: IFNAME, mac: None, mtu: None, index: 0, group: 0 };
                self.inside.create_dummy(&link)?;
            }
            Scenario::Tap => {
                let queue = self.netns.enter(Queue::open)??;
                queue.create(Device { name: IFNAME, index: 0, multi_queue: false })?;
                queue.make_persistent()?;
            }
            Scenario::HostDevice => {
                let device = self.host.link_by_name(PARENT)?.context("no device")?.index;
                let to = LinkMove { netns: self.netns.as_fd(), name: IFNAME, new_index: 0, alias: PARENT };
                self.host.move_link(device, &to)?;
            }
            _ => {
                let peer = VethPeer { name: IFNAME, mac: None, mtu: None, netns: Some(self.netns.as_fd()) };
                let master = Some(self.parent).filter(|_| self.scenario != Scenario::Ptp);
                self.host.create_veth(&Veth { name: NAME, mac: None, mtu: None, master, up: true, peer })?;
            }
        }
        let link = self.inside.link_by_name(IFNAME)?.context("the new link is gone")?;
        let index = link.index;
        if let Some([net, _]) = self.addresses {
            self.inside.add_address(&NewAddress { index, net, nodad: true })?;
        }
        self.inside.set_link(index, &LinkChange { up: Some(true), ..LinkChange::default() })?;
        if let Some([_, gateway]) = self.addresses {
            let mut route = Route::new(IpNetwork::new(IpAddr::from([0; 4]), 0)?);
            route.gateway = Some(gateway.ip());
            route.index = Some(index);
            self.inside.add_route(&route, true)?;
            // One frame, but to every port of the bridge. An ipvlan link announces itself when it
            // is set up; on a routed pair nobody else listens.
            if !matches!(self.scenario, Scenario::Ipvlan | Scenario::Ptp) {
                self.inside.announce(index, link.mac.context("the new link has no Ethernet address")?)?;
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.scenario == Scenario::Loopback {
            self.inside.link_by_index(LO)?.context("no lo")?;
            return Ok(());
        }
        if !self.scenario.is_inside() {
            self.host.link_by_name(NAME)?.context("no host end")?;
        }
        let index = self.inside.link_by_name(IFNAME)?.context("no container end")?.index;
        if self.addresses.is_some() {
            self.inside.addresses(Some(index))?;
            self.inside.routes(Some(index), None)?;
            fs::read(&self.lease)?;
        }
        Ok(())
    }

    fn del(&self) -> Result<()> {
        if self.addresses.is_some() {
            fs::remove_file(&self.lease)?;
        }
        if self.scenario == Scenario::HostDevice {
            let index = self.inside.link_by_name(IFNAME)?.context("the device is gone")?.index;
            let home = NetNs::current()?;
            let to = LinkMove { netns: home.as_fd(), name: PARENT, new_index: 0, alias: "" };
            return Ok(self.inside.move_link(index, &to)?);
        }
        let (socket, name) =
            if self.scenario.is_inside() { (&self.inside, IFNAME) } else { (&self.host, NAME) };
        let index = socket.link_by_name(name)?.context("the link is gone")?.index;
        Ok(socket.delete_link(index)?)
    }
}

/// Processor time of this thread, milliseconds. For a running thread, getrusage is only as exact as
/// the last tick.
fn processor_ms() -> Result<f64> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("read the thread's clock")?;
    Ok(time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6)
}
