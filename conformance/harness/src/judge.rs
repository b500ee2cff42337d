//! `run`: the cases that are wanted, each in a room of its own, and the reports.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::Mutex;

use anyhow::{Result, bail};
use clap::Args;

use crate::baseline::{Baseline, Standing};
use crate::case::{Case, Outcome, Verdict};
use crate::options::Common;
use crate::report::{self, Form, Run, Wanted};
use crate::untouched::Machine;
use crate::vm;
use crate::world::World;

/// What `run` is asked.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    common: Common,
    /// Only the cases whose name or clause holds this text.
    #[arg(long, value_name = "SUBSTR")]
    filter: Option<String>,
    /// Only the cases that need something which not every kernel has.
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
    /// How to tell the outcomes: text, json, junit, tap, markdown; to a file with =FILE; may be given several times
    /// [default: text].
    #[arg(long, value_name = "FORM[=FILE]")]
    report: Vec<Wanted>,
    /// The deviations that the suite is known for, or `none` [default: the list of ours that was made for a suite
    /// which says the same of itself].
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
}

/// Runs those of these cases. True when all is as it should be.
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
    let before = Machine::now()?;
    let baseline = Baseline::choose(args.baseline.as_deref(), &grounds)?;
    let baseline = match args.world {
        Some(world) => Some(Baseline::of_world(world, baseline)?),
        None => baseline,
    };
    let progress = Progress::new(cases.len(), lines);
    let tell = |outcome: &Outcome| {
        let standing = baseline.as_ref().map_or(Standing::Fine, |baseline| baseline.standing(outcome));
        progress.tell(outcome, standing);
    };
    let outcomes = vm::lane::run(&grounds, &cases, args.lane, &args.vm, tell)?;
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

/// Whether what was not run counts as failed: in CI.
pub fn strict() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

fn wanted(args: &RunArgs, all: Vec<Case>) -> Vec<Case> {
    let filter = args.filter.as_deref().unwrap_or_default();
    let special = |case: &Case| case.needs.iter().any(|need| need.of_kernel());
    let named = |case: &Case| case.name.contains(filter) || case.clauses.contains(&filter);
    // What a world is tried with is no ordinary case, and has its own.
    let ordinary = |case: &Case| !["harness/", "worlds/"].iter().any(|group| case.name.starts_with(group));
    let fits = |case: &Case| args.world.is_none() || ordinary(case);
    let all = all.into_iter();
    all.filter(|case| named(case) && fits(case) && (special(case) || !args.special)).collect()
}

/// What is said while it runs: a line per case for a text report, and on a terminal one line that stays.
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

    fn tell(&self, outcome: &Outcome, standing: Standing) {
        let mut done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        done.0 += 1;
        done.1 += usize::from(matches!(outcome.verdict, Verdict::Failed(_)));
        if self.terminal {
            eprint!("\r\x1b[K");
        }
        if self.lines {
            println!("{}", report::line(outcome, standing));
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
