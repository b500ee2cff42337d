//! The CNI protocol from the plugin's side: the environment, standard input, and standard output.
//!
//! A plugin is a type that implements [`Plugin`]; its `main` is one call of [`main`]. The crate
//! does not use the kernel's network interfaces: it reads, checks, delegates and prints. It follows
//! the CNI specification 1.1.0 and, where the reference implementation differs from that, the
//! reference without its bugs.

mod addr;
mod args;
mod build;
mod command;
pub mod de;
mod delegate;
mod dns;
mod env;
mod error;
mod family;
mod gate;
mod json;
pub mod keys;
mod netconf;
mod plugin;
mod request;
mod result;
mod serve;
mod stdio;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod text;
mod version;

pub use addr::{ParseAddrError, parse_cidr, parse_ip};
pub use command::Command;
pub use dns::DnsConf;
pub use env::{Env, is_identifier, is_ifname};
pub use error::{Code, Error};
pub use family::{Member, multicall};
pub use json::{DecodeError, Json, Style};
pub use plugin::Plugin;
pub use request::{Attachment, Request, ValidAttachments};
pub use result::{AddResult, Dns, Interface, IpConfig, Route};
pub use serve::process::{main, run};
pub use text::shortened;
pub use version::{UnknownVersion, Version};

/// The release: the tag that the build sets (`MOOR_VERSION`), otherwise the package's version.
pub const RELEASE: &str = match option_env!("MOOR_VERSION") {
    Some(tag) if !tag.is_empty() => tag,
    _ => env!("CARGO_PKG_VERSION"),
};

/// What `--version` prints after the release: the C library, unless it is musl.
const C_LIBRARY: &str = if cfg!(target_env = "musl") { "" } else { " (glibc)" };
