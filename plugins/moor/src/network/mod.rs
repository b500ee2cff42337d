//! `moor network`: the networks, which are conflists.

mod described;
mod filter;
mod ls;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::failure::{Exit, Failure};

/// The arguments of `moor network`.
#[derive(Args)]
pub struct NetworkArgs {
    #[command(subcommand)]
    command: NetworkCommand,
}

#[derive(Subcommand)]
enum NetworkCommand {
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
}

impl NetworkArgs {
    /// The kind of the JSON document that the command prints.
    pub fn kind(&self) -> &'static str {
        match self.command {
            NetworkCommand::Ls(_) => ls::KIND,
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, args: NetworkArgs) -> Result<Exit, Failure> {
    match args.command {
        NetworkCommand::Ls(args) => ls::run(context, &args),
    }
}
