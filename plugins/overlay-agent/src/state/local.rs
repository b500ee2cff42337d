//! What this host has: its identity, and what its files say of each network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use cluster::block::{Limits, Space};
use cluster::local::{Attachment, Blocks};
use cluster::record::{EndpointRecord, Host, Net};

/// The host, and its networks.
#[derive(Clone, Debug)]
pub struct Local {
    /// The host's id.
    pub id: String,
    /// This boot and network namespace; see [`cluster::record::Alive`].
    pub boot: String,
    /// What is published of the host.
    pub host: Host,
    /// UDP port of VXLAN.
    pub port: u16,
    /// UDP port of VXLAN inside WireGuard.
    pub encrypted_port: u16,
    /// Seconds until a silent host's addresses are free; 0: never.
    pub reclaim_after_s: u32,
    /// How long a block is wholly free before it is given back.
    pub free_for: Duration,
    /// etcd's lease of this host.
    pub lease: Option<i64>,
    /// The lease that `alive` was written with.
    pub alive_lease: Option<i64>,
    /// No address is given: the host was cut off for too long.
    pub closed: bool,
    /// The host leaves the cluster: it publishes and claims nothing.
    pub leaving: bool,
    /// Hosts without a sign of life, and since when this host knows.
    pub silent_since: BTreeMap<String, Duration>,
    /// The wall clock, for people.
    pub utc: String,
    /// The networks that this host has files of.
    pub nets: BTreeMap<String, NetLocal>,
}

/// A network on this host.
#[derive(Clone, Debug, Default)]
pub struct NetLocal {
    /// The copy of its record.
    pub copy: Option<Net>,
    /// `blocks.json`
    pub blocks: Blocks,
    /// What the configuration here keeps back.
    pub limits: Limits,
    /// Counts changes of `blocks.json` that brought addresses.
    pub grown: u64,
    /// The records of attachments, by `<container>@<ifname>`.
    pub attachments: BTreeMap<String, Attachment>,
    /// Attachments with a record that cannot be read, perhaps of a newer release: what etcd has of
    /// them stays.
    pub unreadable: BTreeSet<String>,
    /// The addresses in use: the ledger of `cluster`.
    pub leases: BTreeSet<IpAddr>,
    /// Blocks that are wholly free, and since when.
    pub free_since: BTreeMap<IpAddr, Duration>,
    /// Blocks that the host had when the connection to etcd was lost, and of which etcd had nothing
    /// at the last full read: they are claimed again.
    pub lost: BTreeSet<IpAddr>,
    /// Addresses that are being lent or returned: not given here. Each is marked in `blocks.json`,
    /// under the ledger's lock, before etcd hears of it.
    pub marked: BTreeSet<IpAddr>,
    /// Blocks that are being given back, likewise.
    pub leaving: BTreeSet<IpAddr>,
    /// Loans that were in use here.
    pub used_loans: BTreeSet<IpAddr>,
    /// When each loan was first seen.
    pub loans_since: BTreeMap<IpAddr, Duration>,
}

impl NetLocal {
    /// Whether somebody on this host needs the network.
    pub fn is_in_use(&self) -> bool {
        !self.attachments.is_empty() || !self.unreadable.is_empty() || !self.leases.is_empty()
    }

    /// Whether an address has a container on this host.
    pub fn uses(&self, ip: IpAddr) -> bool {
        self.leases.contains(&ip) || self.attachments.values().any(|held| held.ips.contains(&ip))
    }

    /// Whether an address is of a block that is claimed again.
    pub fn is_lost(&self, ip: IpAddr) -> bool {
        let spaces = self.copy.as_ref().map(Space::of).unwrap_or_default();
        let first = spaces.iter().find_map(|space| space.block_of(ip));
        first.is_some_and(|first| self.lost.contains(&first))
    }

    /// How many addresses of a block can be given without being asked for.
    pub fn free_in(&self, space: &Space, first: IpAddr) -> usize {
        let is_free = |ip: &IpAddr| {
            !self.leases.contains(ip)
                && !self.blocks.own.contains(ip)
                && !self.blocks.lent.contains(ip)
                && self.limits.gives(*ip)
        };
        space.usable(first).filter(is_free).count()
    }

    /// How many addresses can be given in a subnet.
    pub fn free(&self, space: &Space) -> usize {
        let blocks = self.blocks.blocks.iter().filter(|first| space.is_block(**first));
        let loans = self.blocks.borrowed.iter();
        let loans = loans
            .filter(|ip| space.subnet.contains(**ip) && !self.leases.contains(ip) && self.limits.gives(**ip));
        blocks.map(|first| self.free_in(space, *first)).sum::<usize>() + loans.count()
    }
}

/// What is published of an attachment.
pub fn published(attachment: &Attachment) -> EndpointRecord {
    EndpointRecord {
        v: cluster::VERSION,
        ips: attachment.ips.clone(),
        mac: attachment.mac.clone(),
        names: attachment.names.clone(),
        drained: false,
    }
}
