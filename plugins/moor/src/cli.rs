//! The command line.

use std::ffi::OsString;

use clap::{CommandFactory, Parser, Subcommand};
use cni::RELEASE;

use crate::check::{self, CheckArgs};
use crate::completion::{self, CompletionArgs};
use crate::compose::{self, ComposeArgs};
use crate::context::Context;
use crate::doctor::{self, DoctorArgs};
use crate::enter::{self, EnterArgs};
use crate::failure::{Exit, Failure};
use crate::gc::{self, GcArgs};
use crate::globals::Globals;
use crate::import::{self, ImportArgs};
use crate::lab::{self, LabArgs};
use crate::leases::{self, LeasesArgs};
use crate::lint::{self, LintArgs};
use crate::metrics::{self, MetricsArgs};
use crate::network::{self, NetworkArgs};
use crate::output::{Note, escaped};
use crate::reapply::{self, ReapplyArgs};
use crate::rules::{self, RulesArgs};
use crate::run::{self, RunArgs};
use crate::trace::{self, TraceArgs};
use crate::views::names::{self, NamesArgs};
use crate::views::ports::{self, PortsArgs};
use crate::views::ps::{self, PsArgs};
use crate::views::who::{self, WhoArgs};

const EXAMPLES: &str = "Examples:\n  \
    moor network ls\n  \
    moor network create front\n  \
    moor run --network front --name web -p 8080:80 -- python3 -m http.server 80\n  \
    moor who 8080";

/// Networks of containers, and whose is which address, port and interface.
#[derive(Parser)]
#[command(name = "moor", version = RELEASE, about, after_help = EXAMPLES, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// The commands. Each has a module with its arguments and its `run`.
#[derive(Subcommand)]
enum Command {
    /// Check whether attachments are as their records say, and mend them
    Check(CheckArgs),
    /// Print a script that completes commands: `source <(moor completion bash)`
    Completion(CompletionArgs),
    /// Networks of compose files: what they are, and make and remove them
    Compose(ComposeArgs),
    /// Find what keeps containers of this host from working, or will
    Doctor(DoctorArgs),
    /// Run a command of the host in a container's network; the container needs no program for it
    Enter(EnterArgs),
    /// Find what is left of dead attachments, and remove it
    Gc(GcArgs),
    /// Make conflists of the networks of docker, podman (netavark) or Quadlet
    Import(ImportArgs),
    /// A host to play with, also without root, of which nothing is left
    Lab(LabArgs),
    /// Print who has which address of the ranges, and which are leaked
    Leases(LeasesArgs),
    /// Find what is wrong in conflists, and show where
    Lint(LintArgs),
    /// Print numbers for Prometheus: attachments, addresses, ports, names
    Metrics(MetricsArgs),
    /// Print the names that Moor's DNS answers for containers
    Names(NamesArgs),
    /// Networks: list, create, inspect and remove them
    Network(NetworkArgs),
    /// Print the ports of this host, and who has them
    Ports(PortsArgs),
    /// Print the attachments of every runtime on this host
    Ps(PsArgs),
    /// Make packet rules and routes again that somebody has flushed
    Reapply(ReapplyArgs),
    /// Print what Moor's packet rules do for each owner, and whose other rules see the same packets
    Rules(RulesArgs),
    /// Run a command on networks; this is no container: its files and processes are the host's
    Run(Box<RunArgs>),
    /// Record the calls of plugins: of one command, or of every runtime of this host
    Trace(TraceArgs),
    /// Print whose an address, a port, a MAC address, a link, a namespace or a process is
    Who(WhoArgs),
}

impl Command {
    /// The kind of the JSON document that the command prints.
    fn kind(&self) -> &'static str {
        match self {
            Self::Check(_) => "check",
            Self::Completion(_) => "completion",
            Self::Compose(args) => args.kind(),
            Self::Doctor(_) => "doctor",
            Self::Enter(_) => "enter",
            Self::Gc(_) => "gc",
            Self::Import(_) => import::KIND,
            Self::Lab(_) => "lab",
            Self::Leases(_) => "leases",
            Self::Lint(_) => "lint",
            Self::Metrics(_) => metrics::KIND,
            Self::Names(_) => "names",
            Self::Network(args) => args.kind(),
            Self::Ports(_) => "ports",
            Self::Ps(_) => "attachments",
            Self::Reapply(_) => "reapply",
            Self::Rules(_) => "rules",
            Self::Run(_) => "run",
            Self::Trace(args) => args.kind(),
            Self::Who(_) => "owners",
        }
    }

    fn run(self, context: &Context) -> Result<Exit, Failure> {
        match self {
            Self::Check(args) => check::run(context, &args),
            Self::Completion(args) => completion::run(&args, &mut Cli::command()),
            Self::Compose(args) => compose::run(context, &args),
            Self::Doctor(args) => doctor::run(context, &args),
            Self::Enter(args) => enter::run(context, args),
            Self::Gc(args) => gc::run(context, &args),
            Self::Import(args) => import::run(context, &args),
            Self::Lab(args) => lab::run(context, args),
            Self::Leases(args) => leases::run(context, &args),
            Self::Lint(args) => lint::run(context, &args),
            Self::Metrics(args) => metrics::run(context, &args),
            Self::Names(args) => names::run(context, &args),
            Self::Network(args) => network::run(context, args),
            Self::Ports(args) => ports::run(context, &args),
            Self::Ps(args) => ps::run(context, &args),
            Self::Reapply(_) => reapply::run(context),
            Self::Rules(args) => rules::run(context, &args),
            Self::Run(args) => run::run(context, *args),
            Self::Trace(args) => trace::run(context, args),
            Self::Who(args) => who::run(context, &args),
        }
    }
}

impl Cli {
    /// Runs the command of these arguments, the first of which is the name of the program.
    pub fn run(arguments: Vec<OsString>) -> Exit {
        if arguments.len() < 2 {
            eprint!("{}", Self::command().render_help());
            return Exit::Usage;
        }
        let cli = match Self::try_parse_from(arguments) {
            Ok(cli) => cli,
            Err(error) => {
                // When the stream is closed, there is no other place to report to.
                let _ = error.print();
                return if error.use_stderr() { Exit::Usage } else { Exit::Done };
            }
        };
        let context = Context::new(&cli.globals);
        let kind = cli.command.kind();
        cli.command.run(&context).unwrap_or_else(|failure| report(&context, kind, &failure))
    }
}

/// Prints why a command failed: text on standard error, and with `--json` also the document.
fn report(context: &Context, kind: &'static str, failure: &Failure) -> Exit {
    if failure.exit == Exit::Done {
        return Exit::Done;
    }
    if context.json {
        let note = Note::new("failed", failure.to_string());
        // When standard output fails too, standard error has the reason.
        let _ = crate::output::document::<()>(kind, &[], &[note]);
    }
    eprintln!("moor: {}", escaped(&failure.text));
    failure.hint.iter().for_each(|hint| eprintln!("{}", escaped(hint)));
    failure.exit
}

#[cfg(test)]
mod tests {
    use clap::Command;
    use clap::error::{ContextKind, ErrorKind};

    use super::*;
    use crate::dispatch::PLUGINS;

    /// Every command with its path, nested ones too.
    fn commands() -> Vec<(Vec<String>, Command)> {
        fn walk(command: &Command, path: &[String], found: &mut Vec<(Vec<String>, Command)>) {
            for inner in command.get_subcommands() {
                let path = [path, &[inner.get_name().to_owned()]].concat();
                walk(inner, &path, found);
                found.push((path, inner.clone()));
            }
        }
        let mut tool = Cli::command();
        tool.build();
        let mut found = vec![(vec![], tool.clone())];
        walk(&tool, &[], &mut found);
        found
    }

    fn parse(path: &[String], last: &str) -> Option<clap::Error> {
        let words = ["moor"].into_iter().chain(path.iter().map(String::as_str)).chain([last]);
        Cli::command().try_get_matches_from(words).err()
    }

    #[test]
    fn the_tree_of_commands_is_sound_and_no_command_is_called_as_a_plugin() {
        Cli::command().debug_assert();
        for inner in Cli::command().get_subcommands() {
            assert!(!PLUGINS.contains(&inner.get_name()), "{}", inner.get_name());
        }
    }

    #[test]
    fn every_command_has_help_and_describes_itself_and_its_options() {
        for (path, command) in commands() {
            let error = parse(&path, "--help");
            assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::DisplayHelp), "{path:?}");
            assert!(command.is_hide_set() || command.get_about().is_some(), "{path:?}");
            for argument in command.get_arguments() {
                let is_described = argument.is_hide_set() || argument.get_help().is_some();
                assert!(is_described, "{path:?} {}", argument.get_id());
            }
        }
    }

    // T-004
    #[test]
    fn a_slip_of_one_letter_in_an_option_is_corrected() {
        for (path, command) in commands().into_iter().filter(|(_, command)| !command.has_subcommands()) {
            let longs = command.get_arguments().filter(|argument| !argument.is_hide_set());
            for long in longs.filter_map(|argument| argument.get_long()).filter(|long| long.len() > 3) {
                let slip = format!("--{}", &long[..long.len() - 1]);
                let Some(error) = parse(&path, &slip) else { continue };
                // A shorter option that has this very name, or a command that takes any word.
                if error.kind() != ErrorKind::UnknownArgument {
                    continue;
                }
                assert!(error.get(ContextKind::SuggestedArg).is_some(), "{path:?} {slip}");
                assert_eq!(error.exit_code(), 2);
            }
        }
    }

    #[test]
    fn a_template_is_refused_with_what_to_use_instead() {
        let words = ["moor", "completion", "bash", "--format", "{{.Name}}"];
        let error = Cli::command().try_get_matches_from(words).expect_err("a template");
        assert!(error.to_string().contains("use --json"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }
}
