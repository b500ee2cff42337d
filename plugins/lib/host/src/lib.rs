//! What must exist on a host, and how each thing is made, verified, undone and found again: pieces,
//! packet rules, rules of iptables, and the records of them. It knows owners, and asks the kernel
//! through `netlink`, `nft` and `sys`. It knows no CNI JSON and no plugin.

mod advertisement;
mod arp;
mod attached;
mod chain_end;
mod conflict;
pub mod device;
mod drift;
pub mod firewalld;
mod head;
pub mod hex;
pub mod intent;
pub mod iptables;
mod namespace;
mod notice;
mod overlay_network;
mod owner;
pub mod piece;
mod policy;
pub mod ports;
mod removal;
pub mod rules;
mod store;
mod zone;

pub use arp::ArpSocket;
pub use attached::{Attached, Isolation, Ways};
pub use conflict::Conflict;
pub use drift::Drift;
pub use namespace::Namespace;
pub use notice::notice;
pub use overlay_network::OverlayNetwork;
pub use owner::{Owner, hash};
pub use policy::{Action, NoRule, Peer, Policy, PolicyRule, Transport};
pub use removal::Removal;
pub use store::{Store, Stored};
pub use zone::{Source, Zone};
