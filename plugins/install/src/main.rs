//! The `moor-install` executable: the entry point of Moor's image. It puts the plugins and a
//! conflist into the directories of a host, and takes them back. Like a plugin it may be killed at
//! any instant: each file is whole, old or new, and the next run completes what is missing.

mod arguments;
mod conflist;
mod digest;
mod install;
mod place;
mod record;
mod source;
mod wait;

use std::process::ExitCode;

use arguments::{Command, USAGE};

/// The command line is wrong.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let command = match arguments::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("moor-install: {error:#}\n\n{USAGE}");
            return ExitCode::from(MISUSED);
        }
    };
    let done = match command {
        Command::Install(options) => install::install(&options),
        Command::Uninstall(host) => install::uninstall(&host),
        Command::Wait => wait::block().and_then(wait::wait),
        Command::Help => {
            println!("{USAGE}");
            Ok(())
        }
        Command::Version => {
            println!("moor-install {}", cni::RELEASE);
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("moor-install: {error:#}");
            ExitCode::FAILURE
        }
    }
}
