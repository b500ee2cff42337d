//! `moor compose`: the networks of compose files. Services are a runtime's; `nerdctl compose` and
//! `podman-compose` take a network that is there under the name that they would give it.

mod apply;
mod files;
mod flags;
mod interpolate;
mod keys;
mod merge;
mod networks;
mod plan;
mod ports;
mod print;
mod project;
mod services;
mod spec;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::network::create::Suite;
use crate::output::{Note, document, notes};

use self::files::Sources;
use self::plan::Plan;
use self::project::{Naming, Project};

/// The arguments of `moor compose`.
#[derive(Args)]
pub struct ComposeArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(subcommand)]
    command: ComposeCommand,
}

#[derive(Args)]
struct FileArgs {
    /// A compose file, instead of compose.yaml of this directory; several are laid over each other
    #[arg(short, long, value_name = "FILE", global = true)]
    file: Vec<PathBuf>,
    /// The project's name, instead of $COMPOSE_PROJECT_NAME, `name:`, or the directory's name
    #[arg(short, long, value_name = "NAME", global = true)]
    project: Option<String>,
}

#[derive(Subcommand)]
enum ComposeCommand {
    /// Print the networks, the services on them as flags of podman and nerdctl, and what cannot be
    /// honoured
    Plan,
    /// Make the networks of the project; one that is there with the same content stays
    Create(CreateArgs),
    /// Remove the networks of the project that no container uses; external ones never
    Rm(RmArgs),
}

#[derive(Args)]
struct CreateArgs {
    /// Remove a network of the project that is there with other content, if no container uses it
    #[arg(long)]
    recreate: bool,
    /// Leave out options of drivers that no conflist has
    #[arg(long)]
    lossy: bool,
    /// A new file may be the first of the directory, which containerd and CRI-O give to pods
    #[arg(long)]
    first: bool,
    /// A subnet may overlap another network's, or a route of the host
    #[arg(long)]
    allow_overlap: bool,
}

#[derive(Args)]
struct RmArgs {
    /// Also the first file of the directory, which containerd and CRI-O give to pods
    #[arg(long)]
    first: bool,
}

impl ComposeArgs {
    /// The kind of the JSON document that the command prints.
    pub fn kind(&self) -> &'static str {
        match self.command {
            ComposeCommand::Plan => "compose-plan",
            ComposeCommand::Create(_) => "compose-create",
            ComposeCommand::Rm(_) => "compose-rm",
        }
    }
}

/// Runs the command.
pub fn run(context: &Context, args: &ComposeArgs) -> Result<Exit, Failure> {
    let given = args.files.project.as_deref();
    match &args.command {
        ComposeCommand::Rm(rm) => {
            let project = whose(&args.files)?;
            apply::rm(context, &project, rm.first)
        }
        command => {
            let sources = Sources::read(&args.files.file)?;
            let project = read(&sources, given)?;
            let unset = unset(&project);
            match command {
                ComposeCommand::Create(create) => apply::create(context, &sources, &project, create, unset),
                _ => plan(context, &sources, &project, &unset),
            }
        }
    }
}

fn plan(context: &Context, sources: &Sources, project: &Project, unset: &[Note]) -> Result<Exit, Failure> {
    let plan = Plan::new(project, &sources.files, Suite::found(context));
    if context.json {
        document("compose-plan", &[plan], unset)?;
    } else {
        notes(unset);
        print::text(context, &plan)?;
    }
    Ok(Exit::Done)
}

/// Whose networks are removed: with a name and without files, those of the name.
fn whose(args: &FileArgs) -> Result<apply::Owned, Failure> {
    match Sources::read(&args.file) {
        Ok(sources) => Ok(apply::Owned::of(&read(&sources, args.project.as_deref())?)),
        Err(failure) => match &args.project {
            Some(name) if args.file.is_empty() && project::is_name(name) => {
                Ok(apply::Owned { project: name.clone(), external: Vec::new() })
            }
            _ => Err(failure),
        },
    }
}

fn read(sources: &Sources, given: Option<&str>) -> Result<Project, Failure> {
    let of_environment = || sources.variable("COMPOSE_PROJECT_NAME").filter(|name| !name.is_empty());
    let given = given.map(ToOwned::to_owned).or_else(of_environment);
    let naming = Naming { given: given.as_deref(), dir: &sources.dir };
    Project::read(&sources.documents, &|name| sources.variable(name), naming).map_err(|fault| {
        match fault.at.line {
            0 => Failure::refused(fault.what),
            _ => sources.fault(&fault),
        }
    })
}

fn unset(project: &Project) -> Vec<Note> {
    let note = |name: &String| {
        Note::new("unset", format!("the variable {name} is not set, and replaced by nothing"))
    };
    project.unset.iter().map(note).collect()
}

#[cfg(test)]
mod tests;
