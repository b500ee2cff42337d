//! The kernel, as a plugin sees it: namespaces, links, addresses, routes, neighbours, parameters,
//! and the pieces made of them. Knows no CNI JSON.

mod advertisement;
mod arp;
pub mod clock;
pub mod conntrack;
pub mod datagram;
mod error;
pub mod file;
pub mod frame;
pub mod fuzz;
pub mod intent;
pub mod iptables;
mod mac;
pub mod netlink;
mod netns;
pub mod nft;
mod notice;
mod owner;
pub mod passing;
pub mod piece;
pub mod privilege;
pub mod process;
mod program;
pub mod random;
mod removal;
pub mod rules;
mod sys;
pub mod sysctl;
mod wait;

pub use error::{Error, Result};
pub use mac::{Mac, ParseMacError};
pub use netns::{NetNs, NetNsError};
pub use notice::notice;
pub use owner::{Owner, hash};
pub use removal::Removal;
