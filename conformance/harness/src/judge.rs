//! `run`: runs the selected cases, each in a room of its own, and writes the reports.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Result, bail};
use clap::Args;

use crate::baseline::{Baseline, Standing};
use crate::case::{Case, Outcome, Verdict, first_line};
use crate::options::Common;
use crate::report::{self, Form, Run, Wanted};
use crate::untouched::Machine;
use crate::vm;
use crate::world::World;

/// The options of `run`.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Only the cases with a name or clause that contains this text.
    #[arg(long, value_name = "SUBSTR")]
    filter: Option<String>,
    /// Only the cases with needs that some kernels do not meet.
    #[arg(long)]
    special: bool,
    /// Where to run them.
    #[arg(long, value_enum, default_value_t = vm::lane::Lane::Auto)]
    lane: vm::lane::Lane,
    #[command(flatten)]
    vm: vm::VmArgs,
    /// Run them inside a world.
    #[arg(long, value_enum)]
    world: Option<World>,
    /// Print the names and clauses of the cases and stop.
    #[arg(long)]
    list: bool,
    /// Report format: text, json, junit, tap or markdown; to a file with =FILE; may be given
    /// several times [default: text].
    #[arg(long, value_name = "FORM[=FILE]")]
    report: Vec<Wanted>,
    /// The file with the suite's known deviations, or `none` [default: the list in
    /// testdata/baseline for a suite that prints the same text about itself].
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// Runs the selected cases. True when everything is as expected.
pub fn run(args: &RunArgs, all: Vec<Case>) -> Result<bool> {
    let cases = wanted(args, all);
    if args.list {
        for case in &cases {
            println!("{}  [{}]", case.name, case.clauses.join(" "));
        }
        return Ok(true);
    }
    if cases.is_empty() {
        bail!("no case matches {:?}", args.filter.as_deref().unwrap_or_default());
    }
    let reports = report::wanted(&args.report)?;
    let lines = reports.contains(&Wanted { form: Form::Text, file: None });
    let grounds = args.common.grounds_in(args.world)?;
    if args.lane != vm::lane::Lane::Vm {
        grounds.ensure_rooms()?;
    }
    let before = Machine::now()?;
    let baseline = Baseline::choose(args.baseline.as_deref(), &grounds)?;
    let baseline = match args.world {
        Some(world) => Some(Baseline::of_world(world, baseline)?),
        None => baseline,
    };
    let progress = Progress::new(cases.len(), lines);
    let report = |outcome: &Outcome| {
        let standing = Standing::of(baseline.as_ref(), outcome);
        progress.report(outcome, standing);
    };
    let outcomes = vm::lane::run(&grounds, &cases, args.lane, &args.vm, report)?;
    progress.end();
    let touched = before.changes()?;
    let run = Run {
        suite: &grounds.suite,
        outcomes: &outcomes,
        touched: &touched,
        strict: strict(),
        baseline: baseline.as_ref(),
    };
    reports.iter().try_for_each(|wanted| run.write(wanted))?;
    Ok(run.held())
}

/// Whether a case that was not run counts as failed: in CI.
pub fn strict() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

fn wanted(args: &RunArgs, all: Vec<Case>) -> Vec<Case> {
    let filter = args.filter.as_deref().unwrap_or_default();
    let special = |case: &Case| case.needs.iter().any(|need| need.of_kernel());
    let named = |case: &Case| case.name.contains(filter) || case.clauses.contains(&filter);
    // Cases about worlds and about the harness have their own runs.
    let ordinary = |case: &Case| !["harness/", "worlds/"].iter().any(|group| case.name.starts_with(group));
    let fits = |case: &Case| args.world.is_none() || ordinary(case);
    let all = all.into_iter();
    all.filter(|case| named(case) && fits(case) && (special(case) || !args.special)).collect()
}

/// The output during a run: a line per case for a text report, and on a terminal one status line.
struct Progress {
    total: usize,
    lines: bool,
    terminal: bool,
    done: Mutex<(usize, usize)>,
}

impl Progress {
    fn new(total: usize, lines: bool) -> Self {
        Self { total, lines, terminal: std::io::stderr().is_terminal(), done: Mutex::new((0, 0)) }
    }

    fn report(&self, outcome: &Outcome, standing: Standing) {
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.0 += 1;
        done.1 += usize::from(matches!(outcome.verdict, Verdict::Failed(_)));
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        if self.lines {
            println!("{}", report::line(outcome, standing));
            // A run that is interrupted writes no report.
            if let (Verdict::Failed(why), Standing::New) = (&outcome.verdict, standing) {
                println!("    {}", first_line(why));
            }
            std::io::stdout().flush().ok();
        }
        if self.terminal {
            eprint!("{} of {}, {} failed: {}", done.0, self.total, done.1, outcome.name);
        }
    }

    fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
