//! A process of long life that a plugin starts when it needs one, and that keeps nothing of its
//! caller's: how it is started, how it reports that it is ready, its event loop, and how the kernel
//! confines it. It knows neither CNI nor what the process is for.

pub mod confine;
pub mod launch;
pub mod packet;
mod poller;
pub mod process;
pub mod ready;
mod release;
mod root;
mod slab;

pub use poller::{Event, Poller, Tag};
pub use release::is_newer;
pub use root::is_system_root;
pub use slab::{Id, Slab};
