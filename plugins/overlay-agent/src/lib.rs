//! The agent of networks over hosts: the one program of a host that speaks to etcd. It claims blocks
//! of addresses, publishes this host's containers, and programs the containers of the others.

mod command;
mod engine;
pub mod etcd;
mod files;
pub mod kernel;
mod log;
mod names;
mod remote;
pub mod serve;
mod state;
mod steps;
mod txn;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the executable.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let done = match arguments.split_first() {
        Some((first, rest)) if first == "serve" => serve::main(rest),
        _ => return command::main(std::env::args_os()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::log(&error);
            ExitCode::FAILURE
        }
    }
}
