//! `moor completion`: a script for a shell.

use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};

use crate::failure::{Exit, Failure};
use crate::output::print;

/// The arguments of `moor completion`.
#[derive(Args)]
pub struct CompletionArgs {
    /// The shell
    shell: Supported,
}

#[derive(Clone, Copy, ValueEnum)]
enum Supported {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script for the command line of `command`.
pub fn run(args: &CompletionArgs, command: &mut Command) -> Result<Exit, Failure> {
    let shell = match args.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, command, "moor", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
