//! Tests a directory of CNI plugins. Every case runs in a room of its own (user, network, mount and
//! pid namespaces, private `/run`, `/var/lib/cni`, `/etc/cni`), and the machine's own state is
//! compared before and after.

mod cli;
mod clients;
mod compare;
mod coverage;
mod demo;
mod paper;
mod registry;
mod seeded;
mod stress;
mod upgrade;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bench::{attachments, dns};
use clap::Parser;
use harness::options::Common;
use harness::untouched::{self, Machine};
use harness::{diff, faults, job, judge, runner, strace, vm};

use cli::{BenchArgs, Cli, Report, Verb, Work};
use registry::registry;

fn main() -> ExitCode {
    if let Some(code) = seeded::wrapper::play() {
        return code;
    }
    let done = match Cli::parse().verb {
        Verb::Run(args) => judge::run(&args, registry::cases()),
        Verb::Coverage { run, all, report } => {
            coverage::run(&registry::cases(), run.as_deref(), all, matches!(report, Report::Json))
        }
        Verb::Seeded { common, filter } => {
            guarded(&common, |grounds| seeded::run(grounds, &filter, &registry::cases()))
        }
        Verb::Diff { common, against, filter, full, lane, vm } => guarded(&common, |grounds| {
            let strict = judge::strict();
            let options =
                compare::Options { against: &against, filter: &filter, lane, vm: &vm, full, strict };
            compare::run(grounds, &options)
        }),
        Verb::Faults { common, filter, lane, vm } => guarded(&common, |grounds| {
            faults::run(grounds, &faults::Options { filter: &filter, lane, vm: &vm, strict: judge::strict() })
        }),
        Verb::Untouched { command } => untouched::run(&command),
        Verb::Vm(args) => return vm::command(&args).unwrap_or_else(|error| reported(&error)),
        Verb::Guest { common, world, work, names } => {
            common.grounds_in(world).and_then(|grounds| match work {
                Work::Cases => vm::lane::guest(&grounds, registry::cases(), &names),
                Work::Faults => faults::guest(&grounds, &names, strace::point::Extent::All),
                Work::Messages => faults::guest(&grounds, &names, strace::point::Extent::Messages),
                Work::Diff => compare::guest(&grounds, &names),
            })
        }
        Verb::Bench(args) => bench(&args),
        Verb::Traced { program, arguments } => attachments::peak::become_traced(&program, &arguments),
        Verb::Dns { common, filter } => guarded(&common, |grounds| dns::run(grounds, &filter)),
        Verb::Knock { socket } => cases::dns_control::knocked(&socket),
        Verb::Hoard { at, server } => seeded::hoard::serve(at, server),
        Verb::Queue { device, uid, gid, multi_queue } => {
            cases::tap_queue::act(&device, uid, gid, multi_queue)
        }
        Verb::Stranger { stranger, name } => cases::dns_strangers::act(stranger, &name),
        Verb::Clients { common, filter } => guarded(&common, |grounds| clients::run(grounds, &filter)),
        Verb::Upgrade { common, from, attachments } => {
            guarded(&common, |grounds| upgrade::run(grounds, &from, attachments))
        }
        Verb::Stress { common, seed, seeds, cluster } => {
            guarded(&common, |grounds| stress::run(grounds, &stress::Options { seed, seeds, cluster }))
        }
        Verb::Demo { common, cluster } => {
            guarded(&common, |grounds| grounds.show(if cluster { "demo-cluster" } else { "demo" }))
        }
        Verb::Room(args) => job::start(&args, &registry()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => reported(&error),
    }
}

fn reported(error: &anyhow::Error) -> ExitCode {
    eprintln!("conformance: {error:#}");
    ExitCode::from(2)
}

/// Runs a function that uses rooms, and then shows that the machine itself has not changed.
fn guarded(common: &Common, work: impl FnOnce(&runner::Grounds) -> Result<bool>) -> Result<bool> {
    let before = Machine::now()?;
    let held = work(&common.grounds()?)?;
    let touched = before.changes()?;
    match touched.as_slice() {
        [] => println!(
            "This machine's own links, addresses, routes, sysctls and files are as they were before."
        ),
        _ => println!("This machine's own state changed:{}", diff::shown(&touched)),
    }
    Ok(held && touched.is_empty())
}

fn bench(args: &BenchArgs) -> Result<bool> {
    let options = attachments::Options {
        filter: args.filter.clone(),
        rounds: args.rounds,
        seconds: args.seconds,
        scale: args.scale,
        parallel: args.parallel,
        data_path: args.data_path,
        also: args.also.clone(),
        before: args
            .before
            .as_deref()
            .map(Path::canonicalize)
            .transpose()
            .context("open the earlier build")?,
        json: matches!(args.report, Report::Json),
        page: args.page.clone(),
        vm: args.vm.clone(),
    };
    let grounds = args.common.grounds()?;
    let grounds = runner::Grounds { reference: args.against.clone(), ..grounds };
    let before = Machine::now()?;
    let held = attachments::run(&grounds, &options)?;
    let touched = before.changes()?;
    if !touched.is_empty() {
        eprintln!("This machine's own state changed:{}", diff::shown(&touched));
    }
    Ok(held && touched.is_empty())
}
