//! `moor trace`: what runtimes ask plugins, and what they answer.

mod cover;
mod install;
mod line;
mod place;
mod print;
pub mod record;
mod show;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::duration;
use crate::failure::{Exit, Failure};

/// Where calls are written.
const LOG: &str = "/var/log/moor/trace.jsonl";

const EXAMPLES: &str = "Examples:\n  \
    moor trace -- podman run --network front alpine true\n  \
    moor trace start calico --for 10m\n  \
    moor trace show -f failed\n  \
    moor trace stop";

/// Record the calls of plugins: of one command, or of every runtime of this host
#[derive(Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct TraceArgs {
    #[command(subcommand)]
    command: Option<TraceCommand>,
    /// The command whose calls are recorded; nothing of the host changes. Daemons that it asks are not seen
    #[arg(last = true, value_name = "COMMAND")]
    run: Vec<OsString>,
}

#[derive(Subcommand)]
enum TraceCommand {
    /// Record the calls of these plugins, or of all, by any runtime, from now on
    Start(StartArgs),
    /// Record no more calls
    Stop,
    /// Print which plugins are recorded
    Status,
    /// Print the calls
    Show(ShowArgs),
}

#[derive(Args)]
struct StartArgs {
    /// Plugins, instead of all
    plugin: Vec<String>,
    /// Stop after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    time: Option<Duration>,
}

#[derive(Args)]
struct ShowArgs {
    /// File, instead of /var/log/moor/trace.jsonl
    file: Option<PathBuf>,
    /// Only calls of this container or plugin, or `failed` ones; may be given several times
    #[arg(short, long, value_name = "WHAT")]
    filter: Vec<String>,
}

impl TraceArgs {
    /// The kind of the JSON document that the command prints.
    pub fn kind(&self) -> &'static str {
        match self.command {
            Some(TraceCommand::Status) => install::KIND,
            _ => show::KIND,
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, args: TraceArgs) -> Result<Exit, Failure> {
    match args.command {
        Some(TraceCommand::Show(args)) => {
            show::run(context, &args.file.unwrap_or_else(|| LOG.into()), &args.filter)
        }
        Some(TraceCommand::Status) => install::status(context),
        _ if !nix::unistd::geteuid().is_root() => {
            Err(Failure::incomplete("needs root: plugins are files of root"))
        }
        Some(TraceCommand::Start(args)) => install::start(context, &args.plugin, args.time),
        Some(TraceCommand::Stop) => install::stop(context),
        None => cover::run(context, &args.run),
    }
}
