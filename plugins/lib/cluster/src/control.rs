//! The control socket of the agent: requests of plugins and of the tool.
//!
//! A SOCK_SEQPACKET socket. Each request and each response is one packet of JSON, of at most
//! [`PACKET_MAX`] bytes. The agent accepts its own user and root only.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::record::Net;

/// The newest version of keys, records and this protocol that this release speaks.
pub const PROTOCOL: u32 = 1;
/// The longest packet, in bytes.
pub const PACKET_MAX: usize = 4096;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Request {
    /// Names the agent; does nothing.
    Hello,
    /// Finds or makes the network's record, here and in etcd, claims this host's first block and own
    /// addresses, and writes the files of [`crate::local`]. Answered with [`Answer::net`].
    Network {
        /// The network's name.
        network: String,
        /// What the configuration asks for. A VXLAN id of 0 is any free one, and an MTU of 0 what
        /// the underlay carries, or what the record has.
        want: Net,
    },
    /// Gets an address: one that was asked for, or any when the host's blocks are full. `blocks.json`
    /// has it when the response comes.
    Block {
        /// The network's name.
        network: String,
        /// The address asked for; any if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<IpAddr>,
        /// Whose family, if any address will do: of this subnet of the network's.
        #[serde(default)]
        subnet: usize,
    },
    /// Reads the records of attachments of a network again, and publishes the difference.
    Sync {
        /// The network's name.
        network: String,
        /// Wait until etcd has it.
        #[serde(default)]
        wait: bool,
    },
    /// Is the record of an attachment in etcd as in its file, and are the kernel's entries of its
    /// network as etcd has them? Differences come in [`Answer::differences`].
    Check {
        /// The network's name.
        network: String,
        /// `<container>@<ifname>`
        attachment: String,
    },
    /// Whose is an address of a network? [`Answer::why`] names the host or service.
    Holder {
        /// The network's name.
        network: String,
        /// The address.
        address: IpAddr,
    },
    /// Reports the agent's state: [`Answer::status`].
    Status,
    /// Removes the host from the cluster, and exits.
    Leave {
        /// Even with attachments.
        force: bool,
    },
    /// Executes another build of this program; the response comes first.
    Reexec {
        /// Its path.
        path: String,
    },
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is done; what was to be published is in etcd.
    Done,
    /// It is done on this host; etcd is away and hears of it later.
    Queued,
    /// It failed.
    Failed,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The agent's [`PROTOCOL`].
    pub protocol: u32,
    /// Its release.
    pub build: String,
    /// Its process id, in its own PID namespace.
    pub pid: u32,
    /// How far the request came.
    pub outcome: Outcome,
    /// Why it failed or was queued: what was tried, what etcd said, what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The CNI code of the failure: 7 for a configuration, else 11.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// To [`Request::Network`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub net: Option<Net>,
    /// To [`Request::Check`]: expected and actual, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    /// To [`Request::Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// The agent's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The host's id.
    pub host: String,
    /// Its name.
    pub name: String,
    /// The id of the cluster, once known.
    pub cluster: String,
    /// The sources of its VXLAN packets, which the devices of networks have.
    pub addresses: Vec<IpAddr>,
    /// The MTU of their link, in bytes.
    pub mtu: u32,
    /// UDP port of VXLAN.
    pub port: u16,
    /// The member of etcd that is in use; none: etcd is away.
    pub member: Option<String>,
    /// Why etcd is away.
    pub away: Option<String>,
    /// Seconds since etcd was heard of last.
    #[serde(rename = "awayS")]
    pub away_s: u64,
    /// Reasons for code 50 of STATUS.
    pub faults: Vec<String>,
    /// What people should know; no fault.
    pub warnings: Vec<String>,
    /// Hosts of the cluster, and how many of them are silent.
    pub hosts: u32,
    /// See [`Status::hosts`].
    pub silent: u32,
    /// Networks with attachments here.
    pub networks: u32,
    /// Attachments here, and on other hosts.
    pub local: u32,
    /// See [`Status::local`].
    pub remote: u32,
    /// Records that wait to be published.
    pub queued: u32,
    /// Entries of the kernel that were repaired.
    pub repaired: u64,
    /// Records of etcd that were left out.
    pub left_out: u32,
    /// ADDs that waited for a block.
    pub waited_for_block: u64,
}
