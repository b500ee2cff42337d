//! The CNI protocol, as a plugin sees it: what comes in by environment and standard input, what goes out.
//!
//! A plugin is a type that implements [`Plugin`]; its `main` is one call of [`main`]. The crate knows no kernel:
//! it reads, checks, delegates and prints. The contract is the CNI specification 1.1.0 and, where the reference
//! implementation departs from it, the reference, minus its bugs.

mod error;
mod plugin;
mod request;
mod result;
mod version;

pub use error::{Code, Error};
pub use plugin::{Plugin, main};
pub use request::{Attachment, Command, Request, ValidAttachments};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use version::Version;
