//! What is measured: chains of plugins, each with a configuration.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use harness::config::USUAL;
use harness::need::Need;
use serde_json::{Value, json};

/// The measured host port, and the container's.
pub const MEASURED: (u16, u16) = (8000, 80);

/// The verbs, in the order of an attachment's life.
pub const VERBS: [&str; 3] = ["ADD", "CHECK", "DEL"];

/// A chain of plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// `lo` up and down.
    Loopback,
    /// A bridge without addresses.
    Layer2,
    /// A bridge with IPv4 addresses, gateway and default route.
    Bridge,
    /// The same, with masquerade.
    Masquerade,
    /// The same, with one published port.
    Portmap,
    /// [`Scenario::Bridge`] with two kernel parameters and an MTU.
    Tuning,
    /// [`Scenario::Bridge`] with routes by source.
    Sbr,
    /// [`Scenario::Bridge`] in a VRF.
    Vrf,
    /// [`Scenario::Bridge`] with a rate in both directions.
    Bandwidth,
    /// Behind a firewall, isolated from other networks.
    Firewall,
    /// [`Scenario::Portmap`] with a firewall, settings and rates: every plugin of a network for people.
    Five,
    /// [`Scenario::Bridge`] with names, while the responder runs.
    Dns,
    /// The same as the first on its host: the responder is started. Nothing is counted, since the
    /// responder continues after ADD.
    DnsCold,
    /// A routed veth pair with IPv4 addresses and masquerade.
    Ptp,
    /// macvlan with IPv4 addresses.
    Macvlan,
    /// ipvlan with IPv4 addresses.
    Ipvlan,
    /// macvlan with an address that a DHCP server leases; daemon and server run already.
    Dhcp,
    /// A VLAN of a link with IPv4 addresses.
    Vlan,
    /// A dummy link with IPv4 addresses.
    Dummy,
    /// A TAP device with IPv4 addresses.
    Tap,
    /// A link of the host, moved, with IPv4 addresses.
    HostDevice,
    /// [`Scenario::Bridge`] on a bridge with many others; only measured for growth.
    Crowded,
}

impl Scenario {
    /// All of the table, in its order.
    pub const ALL: [Scenario; 21] = [
        Scenario::Loopback,
        Scenario::Layer2,
        Scenario::Bridge,
        Scenario::Masquerade,
        Scenario::Portmap,
        Scenario::Tuning,
        Scenario::Sbr,
        Scenario::Vrf,
        Scenario::Bandwidth,
        Scenario::Firewall,
        Scenario::Five,
        Scenario::Dns,
        Scenario::DnsCold,
        Scenario::Ptp,
        Scenario::Macvlan,
        Scenario::Dhcp,
        Scenario::Ipvlan,
        Scenario::Vlan,
        Scenario::Dummy,
        Scenario::Tap,
        Scenario::HostDevice,
    ];

    /// Its name, in tables, jobs and the file of budgets.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Loopback => "loopback",
            Scenario::Layer2 => "bridge",
            Scenario::Bridge => "bridge + host-local",
            Scenario::Masquerade => "bridge (ipMasq) + host-local",
            Scenario::Portmap => "bridge (ipMasq) + host-local + portmap",
            Scenario::Tuning => "bridge + host-local + tuning",
            Scenario::Sbr => "bridge + host-local + sbr",
            Scenario::Vrf => "bridge + host-local + vrf",
            Scenario::Bandwidth => "bridge + host-local + bandwidth",
            Scenario::Firewall => "bridge + host-local + firewall",
            Scenario::Five => "bridge (ipMasq) + host-local + portmap + firewall + tuning + bandwidth",
            Scenario::Dns => "bridge + host-local + dns",
            Scenario::DnsCold => "bridge + host-local + dns, cold",
            Scenario::Ptp => "ptp (ipMasq) + host-local",
            Scenario::Macvlan => "macvlan + host-local",
            Scenario::Dhcp => "macvlan + dhcp",
            Scenario::Ipvlan => "ipvlan + host-local",
            Scenario::Vlan => "vlan + host-local",
            Scenario::Dummy => "dummy + host-local",
            Scenario::Tap => "tap + host-local",
            Scenario::HostDevice => "host-device + host-local",
            Scenario::Crowded => "crowd",
        }
    }

    /// The scenario of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// Every executable involved.
    pub fn executables(self) -> &'static [&'static str] {
        match self {
            Scenario::Loopback => &["loopback"],
            Scenario::Layer2 => &["bridge"],
            Scenario::Bridge | Scenario::Masquerade | Scenario::Crowded => &["bridge", "host-local"],
            Scenario::Portmap => &["bridge", "host-local", "portmap"],
            Scenario::Tuning => &["bridge", "host-local", "tuning"],
            Scenario::Sbr => &["bridge", "host-local", "sbr"],
            Scenario::Vrf => &["bridge", "host-local", "vrf"],
            Scenario::Bandwidth => &["bridge", "host-local", "bandwidth"],
            Scenario::Firewall => &["bridge", "host-local", "firewall"],
            Scenario::Five => &["bridge", "host-local", "portmap", "firewall", "tuning", "bandwidth"],
            Scenario::Dns | Scenario::DnsCold => &["bridge", "host-local", "dns"],
            Scenario::Ptp => &["ptp", "host-local"],
            Scenario::Macvlan => &["macvlan", "host-local"],
            Scenario::Dhcp => &["macvlan", "dhcp"],
            Scenario::Ipvlan => &["ipvlan", "host-local"],
            Scenario::Vlan => &["vlan", "host-local"],
            Scenario::Dummy => &["dummy", "host-local"],
            Scenario::Tap => &["tap", "host-local"],
            Scenario::HostDevice => &["host-device", "host-local"],
        }
    }

    /// The kernel features that it needs.
    pub fn need(self) -> Option<Need> {
        match self {
            Scenario::Macvlan => Some(Need::Macvlan),
            Scenario::Dhcp => Some(Need::DhcpServers),
            Scenario::Ipvlan => Some(Need::Ipvlan),
            Scenario::Vlan => Some(Need::VlanLinks),
            Scenario::Dummy => Some(Need::Dummy),
            Scenario::Tap => Some(Need::Tap),
            Scenario::Vrf => Some(Need::Vrf),
            _ => None,
        }
    }

    /// Whether it needs more than every kernel has.
    pub fn is_of_few_kernels(self) -> bool {
        matches!(self, Scenario::Ipvlan | Scenario::Vlan | Scenario::Dummy | Scenario::Tap | Scenario::Vrf)
    }

    /// Whether its only link is in the container.
    pub fn is_inside(self) -> bool {
        self.has_parent() || matches!(self, Scenario::Tap | Scenario::Dummy)
    }

    /// Whether its links are on [`Scenario::parent`], or are it, without a bridge.
    pub fn has_parent(self) -> bool {
        self.parent().is_some()
    }

    /// The host's link under its links: [`PARENT`], or the one that leads to a DHCP server.
    pub fn parent(self) -> Option<&'static str> {
        match self {
            Scenario::Macvlan | Scenario::Ipvlan | Scenario::Vlan | Scenario::HostDevice => Some(PARENT),
            Scenario::Dhcp => Some(SERVED),
            _ => None,
        }
    }

    /// What stays attached during the measurement, so that the network exists. Two attachments
    /// cannot publish one port.
    pub fn resident(self) -> Option<Scenario> {
        match self {
            // There is one device, and one link of a VLAN.
            Scenario::Loopback | Scenario::HostDevice | Scenario::Vlan => None,
            Scenario::Portmap | Scenario::Five => Some(Scenario::Masquerade),
            Scenario::DnsCold => Some(Scenario::Bridge),
            other => Some(other),
        }
    }

    /// The first executable that `dir` lacks.
    pub fn lacking(self, dir: &Path) -> Option<PathBuf> {
        self.executables().iter().map(|name| dir.join(name)).find(|path| !path.is_file())
    }

    /// The configurations of the chain, for a network of its own: `slot` is the contender's index.
    pub fn chain(self, slot: u8) -> Vec<Value> {
        // Crowded contenders share one bridge, so they share its gateway; their ranges differ.
        let range = match self {
            Scenario::Crowded => json!({"subnet": "10.96.0.0/12", "gateway": "10.96.0.1",
                "rangeStart": address(slot, 2), "rangeEnd": address(slot, 65_534)}),
            _ => json!({"subnet": format!("{}/16", address(slot, 0))}),
        };
        let ipam = json!({"type": "host-local", "ranges": [[range]], "routes": [{"dst": "0.0.0.0/0"}]});
        let routed = |bridge: String, masquerade: bool| json!({"type": "bridge", "bridge": bridge, "isGateway": true, "ipMasq": masquerade, "ipam": ipam});
        let own = || network(slot);
        let (host_port, port) = MEASURED;
        let ports = json!([{"hostPort": host_port, "containerPort": port, "protocol": "tcp"}]);
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true},
            "runtimeConfig": {"portMappings": ports}});
        let sysctl = json!({"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"});
        let tuning = json!({"type": "tuning", "sysctl": sysctl, "mtu": 1400});
        let bandwidth = json!({"type": "bandwidth", "ingressRate": 100_000_000, "ingressBurst": 5_000_000,
            "egressRate": 100_000_000, "egressBurst": 5_000_000});
        let chain = match self {
            Scenario::Loopback => vec![json!({"type": "loopback"})],
            Scenario::Layer2 => vec![json!({"type": "bridge", "bridge": own()})],
            Scenario::Bridge => vec![routed(own(), false)],
            Scenario::Masquerade => vec![routed(own(), true)],
            Scenario::Portmap => vec![routed(own(), true), portmap],
            Scenario::Tuning => vec![routed(own(), false), tuning],
            Scenario::Bandwidth => vec![routed(own(), false), bandwidth],
            Scenario::Five => {
                vec![routed(own(), true), portmap, json!({"type": "firewall"}), tuning, bandwidth]
            }
            Scenario::Sbr => vec![routed(own(), false), json!({"type": "sbr"})],
            Scenario::Vrf => vec![routed(own(), false), json!({"type": "vrf", "vrfname": "red"})],
            Scenario::Firewall => {
                vec![routed(own(), false), json!({"type": "firewall", "ingressPolicy": "same-bridge"})]
            }
            Scenario::Crowded => vec![routed(CROWD.into(), false)],
            Scenario::Dns | Scenario::DnsCold => {
                vec![routed(own(), false), json!({"type": "dns", "internal": true, "stateDir": names(slot)})]
            }
            Scenario::Ptp => vec![json!({"type": "ptp", "ipMasq": true, "ipam": ipam})],
            Scenario::Macvlan => {
                vec![json!({"type": "macvlan", "master": PARENT, "mode": "bridge", "ipam": ipam})]
            }
            Scenario::Dhcp => {
                let ipam = json!({"type": "dhcp", "daemonSocketPath": daemon(slot)});
                vec![json!({"type": "macvlan", "master": SERVED, "mode": "bridge", "ipam": ipam})]
            }
            Scenario::Ipvlan => vec![json!({"type": "ipvlan", "master": PARENT, "ipam": ipam})],
            Scenario::Vlan => {
                vec![json!({"type": "vlan", "master": PARENT, "vlanId": vlan_id(slot), "ipam": ipam})]
            }
            Scenario::Dummy => vec![json!({"type": "dummy", "ipam": ipam})],
            Scenario::Tap => vec![json!({"type": "tap", "ipam": ipam})],
            Scenario::HostDevice => vec![json!({"type": "host-device", "device": PARENT, "ipam": ipam})],
        };
        let named = |mut config: Value| {
            config["cniVersion"] = USUAL.into();
            config["name"] = network(slot).into();
            config
        };
        chain.into_iter().map(named).collect()
    }
}

/// A contender's directory of names: its own, otherwise its rival's responder would answer.
pub fn names(slot: u8) -> PathBuf {
    PathBuf::from(format!("/run/names-of-{}", network(slot)))
}

/// The socket of a contender's DHCP daemon: its own, since two suites do not share one.
pub fn daemon(slot: u8) -> String {
    format!("/run/dhcp-of-{}.sock", network(slot))
}

/// A contender's VLAN of [`PARENT`].
pub fn vlan_id(slot: u8) -> u16 {
    100 + u16::from(slot)
}

/// The parent of macvlan, ipvlan and VLAN links, and the device of the host.
pub const PARENT: &str = "parent0";

/// The room's link to the outside, where the DHCP server is.
pub const SERVED: &str = "wan0";

/// The bridge with many attachments.
pub const CROWD: &str = "crowd0";

/// The network of a contender.
pub fn network(slot: u8) -> String {
    format!("bench{slot}")
}

/// An address of a contender: room for 65,000 leases.
pub fn address(slot: u8, number: u16) -> Ipv4Addr {
    let [high, low] = number.to_be_bytes();
    Ipv4Addr::new(10, 100 + slot, high, low)
}
