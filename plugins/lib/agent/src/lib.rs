//! How a plugin finds, starts and asks the agent of networks over many hosts, and the files that
//! both share. What is in files and packets is described in the crate `cluster`.

mod ask;
pub mod files;
mod launch;
mod settings;

use std::ffi::CStr;

pub use ask::{AskError, Client, accepted};
pub use files::Files;
pub use launch::{RUN_FLAG, SERVE, SETTINGS_FLAG, STATE_FLAG};
pub use settings::read as read_settings;

/// The file of the agent, beside the plugins.
pub const PROGRAM: &str = "overlay-agent";
/// The name of an agent as a process (comm, proc(5)).
pub const PROCESS_NAME: &CStr = c"overlay-agent";
