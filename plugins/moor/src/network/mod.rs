//! `moor network`: the networks, which are conflists.

mod connect;
pub mod create;
pub mod described;
mod detach;
mod directory;
mod disconnect;
mod filter;
mod find;
mod inspect;
mod ls;
mod prune;
pub mod rm;

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
    /// Connect a container of any runtime to another network
    Connect(connect::ConnectArgs),
    /// Create a network: a conflist, which every runtime can use
    Create(Box<create::CreateArgs>),
    /// Disconnect a container from a network
    Disconnect(disconnect::DisconnectArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(ls::LsArgs),
    /// Print everything about networks, in docker's form
    Inspect(inspect::InspectArgs),
    /// Remove networks that no container uses, of those that moor made
    Prune(prune::PruneArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(rm::RmArgs),
}

impl NetworkArgs {
    /// The kind of the JSON document that the command prints.
    pub fn kind(&self) -> &'static str {
        match self.command {
            NetworkCommand::Connect(_) => connect::KIND,
            NetworkCommand::Create(_) => create::KIND,
            NetworkCommand::Disconnect(_) => disconnect::KIND,
            NetworkCommand::Ls(_) => ls::KIND,
            NetworkCommand::Inspect(_) => inspect::KIND,
            NetworkCommand::Prune(_) => prune::KIND,
            NetworkCommand::Rm(_) => rm::KIND,
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, args: NetworkArgs) -> Result<Exit, Failure> {
    match args.command {
        NetworkCommand::Connect(args) => connect::run(context, &args),
        NetworkCommand::Disconnect(args) => disconnect::run(context, &args),
        NetworkCommand::Create(args) => create::run(context, &args),
        NetworkCommand::Ls(args) => ls::run(context, &args),
        NetworkCommand::Inspect(args) => inspect::run(context, &args),
        NetworkCommand::Prune(args) => prune::run(context, &args),
        NetworkCommand::Rm(args) => rm::run(context, &args),
    }
}
