//! An event loop for one thread: non-blocking sockets, the numbers that events carry, and the wait
//! for events. It knows nothing of what is sent over the sockets.

mod poller;
mod slab;
mod socket;

pub use poller::{Event, Poller, Tag};
pub use slab::{Id, Slab};
pub use socket::{ListenError, connect_to, fails_one_connection_only, listen_at};
