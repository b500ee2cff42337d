//! The kernel, as a plugin sees it: namespaces, links, addresses, routes, neighbours, parameters,
//! and the pieces made of them. Knows no CNI JSON.

mod advertisement;
mod arp;
mod chain_end;
mod conflict;
mod drift;
pub mod intent;
pub mod iptables;
mod namespace;
mod notice;
mod owner;
pub mod piece;
pub mod ports;
mod removal;
pub mod rules;

pub use conflict::Conflict;
pub use drift::Drift;
pub use namespace::Namespace;
pub use notice::notice;
pub use owner::{Owner, hash};
pub use removal::Removal;
