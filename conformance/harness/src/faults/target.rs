//! Targets of faults: plugin, verb and stage.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::config::{USUAL, bridge, host_local, ptp, with};
use crate::need::Need;
use crate::stage::dns;
use crate::stage::firewall::firewall;
use crate::stage::lan::{lan, vlan_lan};
use crate::stage::portmap::portmap;
use crate::stage::tuning::{everything, tuning};
use crate::stage::two_ways::chained;

/// A plugin and verb to hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The plugin that the runtime calls.
    pub plugin: &'static str,
    /// Its verb.
    pub verb: &'static str,
    /// The process that is hit, and its stage.
    pub part: Part,
}

/// The process that is hit, and its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The plugin itself.
    Itself,
    /// Its IPAM delegate.
    Delegate,
    /// Itself, with packet rules in its configuration.
    Rules,
    /// Itself, next to another attachment of its kind: what they share exists before and must stay.
    Beside,
    /// Itself, with state in the container's namespace.
    Inside,
    /// Itself, in a routed mode.
    Routed,
    /// Itself, by iptables, next to another attachment: the shared chains stay.
    Iptables,
    /// Itself, on a VLAN link that it creates on demand.
    Vlan,
    /// Itself, with `hostAccess`, on such a VLAN link: everything that one ADD can create.
    Access,
}

/// All targets, in the order of the table.
pub const TARGETS: [Target; 64] = [
    Target::new("bandwidth", "ADD", Part::Itself),
    Target::new("bandwidth", "DEL", Part::Itself),
    Target::new("bridge", "ADD", Part::Itself),
    Target::new("bridge", "ADD", Part::Delegate),
    Target::new("bridge", "ADD", Part::Rules),
    Target::new("bridge", "DEL", Part::Itself),
    Target::new("bridge", "DEL", Part::Delegate),
    Target::new("bridge", "DEL", Part::Rules),
    Target::new("cluster", "ADD", Part::Itself),
    Target::new("cluster", "DEL", Part::Itself),
    Target::new("dhcp", "ADD", Part::Itself),
    Target::new("dhcp", "DEL", Part::Itself),
    Target::new("dns", "ADD", Part::Itself),
    Target::new("dns", "ADD", Part::Beside),
    Target::new("dns", "ADD", Part::Inside),
    Target::new("dns", "DEL", Part::Itself),
    Target::new("dns", "DEL", Part::Beside),
    Target::new("dns", "DEL", Part::Inside),
    Target::new("host-device", "ADD", Part::Itself),
    Target::new("host-device", "DEL", Part::Itself),
    Target::new("host-local", "ADD", Part::Itself),
    Target::new("host-local", "DEL", Part::Itself),
    Target::new("macvlan", "ADD", Part::Itself),
    Target::new("macvlan", "ADD", Part::Delegate),
    Target::new("macvlan", "ADD", Part::Vlan),
    Target::new("macvlan", "DEL", Part::Itself),
    Target::new("macvlan", "DEL", Part::Vlan),
    Target::new("ipvlan", "ADD", Part::Itself),
    Target::new("ipvlan", "ADD", Part::Routed),
    Target::new("ipvlan", "ADD", Part::Vlan),
    Target::new("ipvlan", "ADD", Part::Access),
    Target::new("ipvlan", "DEL", Part::Itself),
    Target::new("ipvlan", "DEL", Part::Routed),
    Target::new("ipvlan", "DEL", Part::Vlan),
    Target::new("ipvlan", "DEL", Part::Access),
    Target::new("vlan", "ADD", Part::Itself),
    Target::new("vlan", "DEL", Part::Itself),
    Target::new("dummy", "ADD", Part::Itself),
    Target::new("dummy", "DEL", Part::Itself),
    Target::new("firewall", "ADD", Part::Itself),
    Target::new("firewall", "ADD", Part::Beside),
    Target::new("firewall", "ADD", Part::Iptables),
    Target::new("firewall", "DEL", Part::Itself),
    Target::new("firewall", "DEL", Part::Beside),
    Target::new("firewall", "DEL", Part::Iptables),
    Target::new("overlay", "ADD", Part::Itself),
    Target::new("overlay", "DEL", Part::Itself),
    Target::new("portmap", "ADD", Part::Itself),
    Target::new("portmap", "ADD", Part::Beside),
    Target::new("portmap", "DEL", Part::Itself),
    Target::new("portmap", "DEL", Part::Beside),
    Target::new("ptp", "ADD", Part::Itself),
    Target::new("ptp", "ADD", Part::Rules),
    Target::new("ptp", "DEL", Part::Itself),
    Target::new("ptp", "DEL", Part::Rules),
    Target::new("sbr", "ADD", Part::Itself),
    Target::new("sbr", "DEL", Part::Itself),
    Target::new("tap", "ADD", Part::Itself),
    Target::new("tap", "ADD", Part::Delegate),
    Target::new("tap", "DEL", Part::Itself),
    Target::new("tuning", "ADD", Part::Itself),
    Target::new("tuning", "DEL", Part::Itself),
    Target::new("vrf", "ADD", Part::Itself),
    Target::new("vrf", "DEL", Part::Itself),
];

impl Target {
    const fn new(plugin: &'static str, verb: &'static str, part: Part) -> Self {
        Self { plugin, verb, part }
    }

    /// Its name in jobs: `bridge/ADD/itself`.
    pub fn name(self) -> String {
        let part = match self.part {
            Part::Itself => "itself",
            Part::Delegate => "delegate",
            Part::Rules => "rules",
            Part::Beside => "beside",
            Part::Inside => "inside",
            Part::Routed => "routed",
            Part::Iptables => "iptables",
            Part::Vlan => "vlan",
            Part::Access => "host-access",
        };
        format!("{}/{}/{part}", self.plugin, self.verb)
    }

    /// The target of that name.
    pub fn named(name: &str) -> Result<Self> {
        let found = TARGETS.into_iter().find(|target| target.name() == name);
        found.with_context(|| format!("no target is called {name}"))
    }

    /// The kernel features it needs.
    pub fn needs(self) -> &'static [Need] {
        match (self.plugin, self.part) {
            ("ipvlan", Part::Vlan | Part::Access) => &[Need::Ipvlan, Need::VlanLinks],
            ("ipvlan", _) => &[Need::Ipvlan],
            ("cluster" | "overlay", _) => &[Need::Etcd, Need::Overlay],
            ("dhcp", _) => &[Need::DhcpServers],
            ("tap", _) => &[Need::Tap],
            ("vlan", _) => &[Need::VlanLinks],
            ("dummy", _) => &[Need::Dummy],
            ("vrf", _) => &[Need::Vrf],
            (_, Part::Iptables) => &[Need::Iptables],
            (_, Part::Vlan) => &[Need::VlanLinks],
            _ => &[],
        }
    }

    /// Whether it runs in the virtual machine without a request for that lane: of the targets that
    /// this kernel cannot run, those that create most.
    pub fn is_representative(self) -> bool {
        self.part == Part::Access
    }

    /// Whether the room can be restored after a trial, so that it serves many.
    pub fn shares_a_room(self) -> bool {
        let plugins = [
            "macvlan",
            "ipvlan",
            "host-device",
            "tap",
            "tuning",
            "vlan",
            "dummy",
            "sbr",
            "vrf",
            "cluster",
            "overlay",
        ];
        plugins.contains(&self.plugin) && self.part != Part::Delegate
    }

    /// Whether its place is a host of a cluster.
    pub fn is_on_a_host(self) -> bool {
        matches!(self.plugin, "cluster" | "overlay")
    }

    /// Its configuration.
    pub fn config(self) -> Value {
        // Duplicate detection takes a second, and is the kernel's.
        let quick = |keys| with(&json!({"enabledad": false}), keys);
        match (self.plugin, self.part) {
            // Only the stage knows the previous result.
            ("bandwidth", _) => json!({
                "cniVersion": USUAL, "name": "net", "type": "bandwidth", "ingressRate": 8_000_000,
                "egressRate": 8_000_000,
            }),
            ("bridge", Part::Rules) => with(&bridge(USUAL), json!({"ipMasq": true, "macspoofchk": true})),
            ("bridge", _) => bridge(USUAL),
            ("dns", Part::Inside) => dns::dns(&Value::Null, json!({"mode": "netns"})),
            ("dns", _) => dns::dns(&Value::Null, json!({})),
            ("macvlan" | "ipvlan", Part::Vlan) => vlan_lan(self.plugin, &quick(json!({"vlan": 10}))),
            ("macvlan" | "ipvlan", Part::Access) => {
                let own =
                    json!({"vlan": 10, "hostAccess": true, "hostAddresses": ["10.10.10.3", "fd00:10::3"]});
                vlan_lan(self.plugin, &quick(own))
            }
            // Without routes: default routes on the link already exist.
            ("ipvlan", Part::Routed) => {
                let ranges = json!([[{"subnet": "10.7.0.0/24"}], [{"subnet": "2001:db8:7::/64"}]]);
                lan("ipvlan", &quick(json!({"mode": "l3", "ipam": {"type": "host-local", "ranges": ranges}})))
            }
            ("host-device", _) => {
                let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.7.0.0/24"}]]});
                lan("host-device", &json!({"device": "wan0", "ipam": ipam}))
            }
            ("macvlan" | "ipvlan" | "dummy", _) => lan(self.plugin, &quick(json!({}))),
            ("vlan", _) => lan("vlan", &quick(json!({"vlanId": 10}))),
            ("dhcp", _) => json!({
                "cniVersion": USUAL, "name": "lan", "type": "dhcp", "ipam": {"type": "dhcp", "timeout": 5},
            }),
            ("tap", _) => {
                let ranges = json!([[{"subnet": "10.7.0.0/24"}], [{"subnet": "2001:db8:7::/64"}]]);
                json!({
                    "cniVersion": USUAL, "name": "vm", "type": "tap", "owner": 107, "group": 107, "mtu": 1400,
                    "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
                })
            }
            ("firewall", Part::Iptables) => firewall("net", &json!({"backend": "iptables"}), &Value::Null),
            // Both families, a link, a port, a policy and a rule in another firewall's chain; only
            // the stage knows the previous result.
            ("firewall", _) => {
                let rule = json!({"action": "deny", "proto": "tcp", "ports": [25]});
                let policy = json!({"ingress": [rule], "egress": [with(&rule, json!({"to": "other"}))]});
                firewall("net", &json!({"ingressPolicy": "isolated", "policy": policy}), &Value::Null)
            }
            // Both families, and every set that elements can be in.
            ("portmap", _) => portmap(
                json!([
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                    {"hostPort": 5353, "containerPort": 53, "protocol": "udp"},
                    {"hostPort": 9090, "containerPort": 80, "hostIP": "10.1.2.1"},
                    {"hostPort": 3000, "hostPortEnd": 3099, "containerPort": 3000},
                ]),
                &Value::Null,
            ),
            // Only the stage knows the previous result.
            ("tuning", _) => tuning(&Value::Null, everything()),
            ("sbr", _) => chained("sbr", 0, json!({})),
            ("vrf", _) => chained("vrf", 0, json!({"vrfname": "red"})),
            ("cluster", _) => json!({
                "cniVersion": USUAL, "name": "flat", "type": "bridge",
                "ipam": {"type": "cluster", "subnets": ["10.9.0.0/16", "fd00:9::/64"]},
            }),
            ("overlay", _) => json!({
                "cniVersion": USUAL, "name": "front", "type": "overlay", "runtimeConfig": {"aliases": ["web"]},
                "ipam": {"type": "cluster", "subnets": ["10.9.0.0/16", "fd00:9::/64"]},
            }),
            ("ptp", Part::Rules) => with(&ptp(USUAL), json!({"ipMasq": true, "ipspoofchk": true})),
            ("ptp", _) => ptp(USUAL),
            _ => host_local(USUAL, "10.1.2.0/24"),
        }
    }
}
