//! What the responder's event loop watches: non-blocking Internet sockets. It knows nothing of what
//! is sent over them.

mod socket;

pub use daemon::{Event, Id, Poller, Slab, Tag};
pub use socket::{ListenError, connect_to, fails_one_connection_only, listen_at};
