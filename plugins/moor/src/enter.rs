//! `moor enter`: a command of the host in the network namespace of a container.

use std::ffi::OsString;

use clap::Args;
use nix::sched::{CloneFlags, setns};

use crate::context::Context;
use crate::endpoint::Resolver;
use crate::failure::{Exit, Failure};
use crate::helper::{become_command, shell};
use crate::model::Model;
use crate::networks::Networks;
use crate::space::{furnish, leave_mounts, refused, resolv_conf};
use crate::target::Target;

const EXAMPLES: &str = "Examples:\n  \
    moor enter web -- ss -tlnp\n  \
    moor enter pid:4711 -- tcpdump -i eth0\n  \
    moor enter shop/web-7c9f --dns -- getent hosts api";

/// Run a command of the host in a container's network; the container needs no program for it
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct EnterArgs {
    /// Container: its name, namespace/pod, the beginning of its id, pid:N, or a path of a namespace
    container: String,
    /// With the name servers that the container's networks have
    #[arg(long)]
    dns: bool,
    /// The command and its arguments, instead of $SHELL
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the command.
pub fn run(context: &Context, args: EnterArgs) -> Result<Exit, Failure> {
    enter(context, &args).map_err(|failure| match failure.exit {
        Exit::Found => Failure { exit: Exit::Status(125), ..failure },
        _ => failure,
    })?;
    let command = if args.command.is_empty() { vec![shell()] } else { args.command };
    Ok(become_command(&command))
}

/// Moves this process to the container's network.
fn enter(context: &Context, args: &EnterArgs) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::incomplete("needs root: a namespace is entered with CAP_SYS_ADMIN"));
    }
    let model = Model::read(context, &Networks::read(context));
    let target = Target::find(&model, &args.container)?;
    let results = target.attachments.iter().filter_map(|one| one.record.as_ref()?.result.clone());
    let name_servers = resolv_conf(&results.collect::<Vec<_>>(), &Resolver::default());
    if args.dns && name_servers.is_none() {
        return Err(Failure::refused(format!("the networks of {:?} have no name servers", args.container)));
    }
    setns(&target.netns, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| refused("enter the container's network", errno))?;
    leave_mounts()?;
    furnish(name_servers.as_deref().filter(|_| args.dns))
}
