//! `moor`, the tool for people. Conflists are the only state: a network is a file in the
//! configuration directory, and what the tool makes runs under every runtime. The kernel is the
//! truth: what is alive is read from namespaces and links, and files are only claims. Reading
//! changes nothing, and a command that deletes prints first what it would delete.

mod check;
pub mod cli;
mod completion;
mod compose;
pub mod context;
mod default_route;
pub mod diagnostic;
mod dispatch;
mod doctor;
pub mod duration;
mod endpoint;
mod enter;
mod escape;
pub mod failure;
pub mod files;
mod gc;
pub mod globals;
mod helper;
mod import;
pub mod json;
mod lab;
pub mod leases;
pub mod lint;
mod metrics;
pub mod model;
mod namespace;
pub mod network;
pub mod networks;
pub mod output;
mod overlay;
mod publish;
mod reapply;
mod resolv;
mod rules;
mod run;
mod space;
pub mod subnets;
pub mod suggest;
mod suite;
mod supervise;
mod target;
mod trace;
mod undo;
mod views;
pub mod yaml;

use std::process::ExitCode;

use crate::cli::Cli;
use crate::dispatch::Called;
use crate::helper::{Role, Work};

/// Runs the tool with the arguments and the environment of this process.
pub fn main() -> ExitCode {
    if let Some(exit) = trace::record::called() {
        return ExitCode::from(exit.code());
    }
    let mut arguments = std::env::args_os();
    let called = dispatch::called(&mut arguments, std::env::var_os("CNI_COMMAND").is_some());
    let exit = match called {
        Called::Plugin { name, arguments } => dispatch::become_plugin(&name, &arguments),
        Called::AsPlugin => dispatch::refuse(),
        Called::Tool { arguments } => helper::called(&arguments, work).unwrap_or_else(|| Cli::run(arguments)),
    };
    ExitCode::from(exit.code())
}

fn work(role: Role) -> Work {
    match role {
        Role::Command => run::inside::run,
        Role::Guardian => run::guardian::run,
        Role::Init => lab::init::run,
    }
}
