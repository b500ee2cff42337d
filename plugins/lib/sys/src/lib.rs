//! The operating system as plugins use it: files, locks and private directories, processes and
//! programs, privileges, sockets with their datagrams and descriptors, clocks, random bytes, kernel
//! parameters, and network namespaces. All unsafe code of the tree is in its module `calls`, behind
//! functions that are safe with any arguments. It does not depend on netlink, the packet filter or
//! CNI.

mod background;
mod calls;
pub mod clock;
pub mod datagram;
mod error;
pub mod file;
pub mod frame;
mod hash;
mod ip_family;
mod mac;
pub mod memory;
mod netns;
pub mod passing;
pub mod privilege;
pub mod process;
pub mod program;
pub mod random;
pub mod sysctl;
pub mod tap;
#[cfg(feature = "testing")]
pub mod testing;
pub mod wait;

pub use background::BackgroundClose;
pub use error::{Error, Result};
pub use hash::fnv1a;
pub use ip_family::IpFamily;
pub use mac::{Mac, ParseMacError};
pub use netns::{NetNs, NetNsError};
