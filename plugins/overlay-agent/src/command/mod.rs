//! Commands for people: the state of this host, and the hosts, networks and attachments of the
//! cluster. What concerns this host is asked of its agent, what concerns the cluster of etcd.

mod arguments;
mod attachments;
mod etcd;
mod failure;
mod hosts;
mod leave;
mod networks;
mod status;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Cli, Command, HostCommand, NetworkCommand};
use etcd::Etcd;
use failure::Failure;

/// Runs a command; the arguments begin with the program's name.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output, with status 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(failure::USAGE));
        }
    };
    match run(&cli) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            if let Some(text) = &failure.output {
                print!("{text}");
            }
            eprint!("{failure}");
            ExitCode::from(failure.exit)
        }
    }
}

/// What a command prints.
fn run(cli: &Cli) -> Result<String, Failure> {
    let config = &cli.config;
    match &cli.command {
        Command::Status { json } => status::status(&leave::ask_agent(config, &status::request())?, *json),
        Command::Leave { force } => leave::leave(&leave::ask_agent(config, &leave::request(*force))?),
        Command::Ls { network, json } => {
            attachments::list(&store::read(&mut Etcd::open(config)?)?, network.as_deref(), *json)
        }
        Command::Network { command } => match command {
            NetworkCommand::Ls { json } => networks::list(&store::read(&mut Etcd::open(config)?)?, *json),
            NetworkCommand::Rm { name } => networks::remove(&mut Etcd::open(config)?, name),
        },
        Command::Host { command } => match command {
            HostCommand::Ls { json } => hosts::list(&store::read(&mut Etcd::open(config)?)?, *json),
            HostCommand::Remove { host, dead } => hosts::remove(&mut Etcd::open(config)?, host, *dead),
        },
    }
}
