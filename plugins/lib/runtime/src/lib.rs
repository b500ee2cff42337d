//! The runtime's side of CNI: it finds network configurations, builds each plugin's request, runs
//! the plugins of a list in order, and caches results. It behaves like libcni, the library of
//! containerd, CRI-O, podman and cnitool, without its defects; a comment marks each difference.
//!
//! ```no_run
//! use runtime::{Attachment, Conflist, Runtime};
//!
//! let list = Conflist::load("/etc/cni/net.d", "mynet")?;
//! let runtime = Runtime::new(vec!["/opt/cni/bin".into()], "/var/lib/cni");
//! let attachment = Attachment::new("c1", "/var/run/netns/c1".to_owned(), "eth0");
//! let result = runtime.add(&list, &attachment)?;
//! println!("{result:#}");
//! runtime.del(&list, &attachment)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Results stay [`serde_json::Value`], as printed: a runtime passes unknown keys on.

mod attachment;
mod cache;
pub mod cnitool;
mod conf_error;
mod conflist;
mod convert;
mod error;
mod exec;
mod failure;
mod gc;
mod json;
mod load;
mod lookup;
mod request;
mod result;
mod runtime;
mod validate;
pub mod version;

pub use attachment::Attachment;
pub use cache::{Cache, CacheError, Entry, Record};
pub use conf_error::{ConfError, ListFault, PluginFault};
pub use conflist::{Conflist, PluginConf};
pub use error::{Error, GcFault, InvalidPlugin};
pub use exec::{ExecError, MAX_OUTPUT, Output, ResultFault, Stream, execute};
pub use failure::Failure;
pub use lookup::find_plugin;
pub use request::AttachmentId;
pub use runtime::Runtime;
pub use validate::VersionInfo;
