//! Networks over many hosts, as the files of this host have them, and its agent. Whoever may write
//! to the cluster's etcd decides what is in the files, so all of it is bounded.

mod agent;
mod files;
mod remote;

pub use agent::{Asked, ask};
pub use files::{Local, attachments, networks};
pub use remote::{Remote, containers};

use std::path::PathBuf;

use cluster::local::RUN;

use crate::namespace::namespace_name;

/// The directory of the agent of this network namespace, whether it is there or not.
fn place() -> Option<PathBuf> {
    Some(PathBuf::from(RUN).join(namespace_name()?))
}
