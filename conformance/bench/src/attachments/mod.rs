//! `conformance bench`: the cost of attachments, of ours and another suite's and the kernel alone,
//! in turns in one run, compared with the budgets.

mod budget;
mod cases;
mod contender;
pub mod count;
mod data_path;
mod floor;
mod growth;
mod measure;
mod page;
pub mod peak;
mod ports;
mod responder;
mod scenario;
mod shot;
mod table;
mod together;

use std::ffi::OsString;
use std::iter::once;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use harness::job::Kind;
use harness::room::Room;
use harness::runner::Grounds;
use harness::vm::VmArgs;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use budget::{Budgets, Outcome, Verdict};
pub use cases::CASES;
use contender::{Contender, OURS};
use measure::{Measured, Span};
use scenario::Scenario;

/// The timeout of one room: a point of `--scale` creates 180,000 files first.
const PATIENCE: Duration = Duration::from_secs(240);

/// The options of a measurement.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only the scenarios with this text in their name.
    pub filter: String,
    /// The maximum number of rounds of each scenario.
    pub rounds: usize,
    /// No new round of a scenario after this many seconds.
    pub seconds: u64,
    /// Also among many attachments, leases and ports.
    pub scale: bool,
    /// Also many at once.
    pub parallel: bool,
    /// Also connections through the rules.
    pub data_path: bool,
    /// One JSON document instead of the tables.
    pub json: bool,
    /// Where to write a page with the numbers as bars.
    pub page: Option<PathBuf>,
    /// Where to run scenarios that this kernel cannot run.
    pub vm: VmArgs,
}

/// The jobs of its rooms.
pub const JOBS: &[Kind] = &[
    Kind::new("bench", |room, job| scenario_job(room, job).map(|()| true)),
    Kind::new("bench-scale", |room, point| print(&growth::job(room, point)?).map(|()| true)),
    Kind::new("bench-path", |room, _| print(&data_path::job(room)?).map(|()| true)),
    Kind::new("bench-parallel", |room, size| print(&together::job(room, size)?).map(|()| true)),
];

/// Measures, prints, and returns whether no budget is missed by more than its noise.
pub fn run(grounds: &Grounds, options: &Options) -> Result<bool> {
    let budgets = Budgets::read(&grounds.net_d)?;
    let grounds = Grounds { timeout: PATIENCE, jobs: 1, ..grounds.clone() };
    let wanted: Vec<Scenario> =
        Scenario::ALL.into_iter().filter(|scenario| scenario.name().contains(&options.filter)).collect();
    if wanted.is_empty() && !options.scale && !options.parallel && !options.data_path {
        bail!("no scenario matches {:?}", options.filter);
    }
    let mut verdicts = vec![];
    let mut scenarios = vec![];
    if !options.json {
        table::head(&grounds.suite, &grounds.reference);
    }
    for scenario in wanted {
        let name = scenario.name();
        let job = format!("bench:{}:{}:{name}", options.rounds, options.seconds);
        let lacking = grounds.lacking(scenario.need().as_slice());
        let measured: Measured = match lacking.first() {
            None => answer(&grounds, &job)?,
            Some((_, why)) => elsewhere(&grounds, &options.vm, &job, why)?,
        };
        if !options.json {
            table::scenario(name, &measured);
        }
        verdicts.extend(budgets.times(name, &measured));
        verdicts.extend(budgets.counts(name, &measured));
        scenarios.push((name, measured));
    }
    verdicts.extend(budgets.memory(&scenarios));
    let mut points = vec![];
    for point in growth::POINTS.into_iter().filter(|_| options.scale) {
        if !point.is_base() && !point.title().contains(&options.filter) {
            continue;
        }
        let measured: Measured = answer(&grounds, &format!("bench-scale:{}", point.name))?;
        if !options.json {
            table::scenario(&point.title(), &measured);
        }
        points.push((point, measured));
    }
    let growth = growth::compare(&points);
    verdicts.extend(budgets.growth(&growth));
    let mut together = vec![];
    if options.parallel {
        for size in together::SIZES {
            together.extend(answer::<Vec<together::Together>>(&grounds, &format!("bench-parallel:{size}"))?);
        }
        verdicts.extend(budgets.together(&together));
        if !options.json {
            table::together(&together);
        }
    }
    let mut paths: Vec<data_path::DataPath> = vec![];
    if options.data_path {
        paths = answer(&grounds, "bench-path:")?;
        verdicts.extend(budgets.data_path(&paths));
        if !options.json {
            table::paths(&paths);
        }
    }
    let mut names: Vec<&str> =
        Scenario::ALL.iter().flat_map(|scenario| scenario.executables()).copied().collect();
    names.sort_unstable();
    names.dedup();
    verdicts.extend(budgets.files(&grounds.suite, &names)?);
    let document = json!({
        "suite": grounds.suite, "reference": grounds.reference, "machine": table::machine(),
        "scenarios": scenarios.iter().map(|(name, measured)| table::summary(name, measured)).collect::<Vec<_>>(),
        "scale": points.iter().map(|(point, measured)| table::summary(&point.title(), measured)).collect::<Vec<_>>(),
        "growth": growth, "parallel": together, "dataPath": paths, "budgets": verdicts,
    });
    if let Some(path) = &options.page {
        page::write(path, &document)?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        table::verdicts(&verdicts);
    }
    Ok(held(&verdicts))
}

fn held(verdicts: &[Verdict]) -> bool {
    verdicts.iter().all(|verdict| verdict.outcome != Outcome::Missed)
}

/// Runs a job in a room and parses its output.
fn answer<T: DeserializeOwned>(grounds: &Grounds, job: &str) -> Result<T> {
    let done = grounds.run(job)?;
    if let Some(trouble) = done.trouble {
        bail!("{job}: {trouble}");
    }
    serde_json::from_str(&done.stdout).with_context(|| format!("{job} printed {:?}", done.stdout))
}

/// Runs a scenario's job in a virtual machine, for features that this kernel lacks. Under
/// emulation, only ratios are meaningful.
fn elsewhere(grounds: &Grounds, vm: &VmArgs, job: &str, why: &str) -> Result<Measured> {
    let not_run = |why: String| Measured { not_run: vec![why], ..Measured::default() };
    let machine = match vm.machine() {
        Ok(machine) => machine,
        Err(missing) => return Ok(not_run(format!("{why}; {missing:#}"))),
    };
    let command = grounds.command(job);
    let words: Vec<OsString> =
        once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    let (mut measured, mut stray) = (None, String::new());
    let ended = machine.run(&words, |line| match serde_json::from_str::<Measured>(line) {
        Ok(found) => measured = Some(found),
        Err(_) => stray += &format!("\n    {line}"),
    })?;
    let mut measured =
        measured.with_context(|| format!("{job} in the virtual machine printed only{stray}"))?;
    measured.not_run.push(format!("on this kernel: {why}; so this was in a {}", ended.summary()));
    Ok(measured)
}

fn print(found: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(found)?);
    Ok(())
}

/// The job of a scenario's room: `rounds:seconds:name`.
fn scenario_job(room: &Room, job: &str) -> Result<()> {
    let mut parts = job.splitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).context("how long?");
    let (rounds, time) = (number()?.try_into()?, Duration::from_secs(number()?));
    let span = Span { rounds, time, least: 5, counted: true };
    let name = parts.next().unwrap_or_default();
    let scenario = Scenario::named(name).with_context(|| format!("there is no scenario {name:?}"))?;
    print(&measure::measure(room, scenario, Contender::all(room)?, span)?)
}

/// The short form: only counts, which noise cannot change.
pub fn counts_stay_within_budget(room: &Room) -> Result<()> {
    counts_of(room, |scenario| scenario != Scenario::Ipvlan)
}

/// The same for features that not every kernel has.
pub fn counts_of_ipvlan_stay_within_budget(room: &Room) -> Result<()> {
    counts_of(room, |scenario| scenario == Scenario::Ipvlan)
}

fn counts_of(room: &Room, wanted: impl Fn(Scenario) -> bool) -> Result<()> {
    let budgets = Budgets::read(&room.net_d)?;
    let ours = Contender { name: OURS, dir: room.suite.clone(), slot: 0 };
    let (mut verdicts, mut scenarios) = (vec![], vec![]);
    for scenario in Scenario::ALL.into_iter().filter(|scenario| wanted(*scenario)) {
        let name = scenario.name();
        if !budgets.counts.iter().any(|budget| budget.scenario == name) {
            continue;
        }
        if let Some(lacking) = scenario.lacking(&ours.dir) {
            bail!("there are budgets for {name}, but there is no {}", lacking.display());
        }
        measure::prepare(scenario)?;
        let mut measured = Measured::default();
        let runner = measure::ready(room, scenario, ours.clone(), true, &mut measured)?;
        ensure!(measured.not_run.is_empty(), "{name}: {:?}", measured.not_run);
        // The next scenario has the same network and containers of the same names.
        runner.clear(room, scenario)?;
        verdicts.extend(budgets.counts(name, &measured));
        verdicts.extend(budgets.files(&room.suite, scenario.executables())?);
        scenarios.push((name, measured));
    }
    verdicts.extend(budgets.memory(&scenarios));
    ensure!(!verdicts.is_empty(), "the file of budgets has no counts");
    let missed: Vec<String> =
        verdicts.iter().filter(|verdict| verdict.outcome != Outcome::Met).map(Verdict::line).collect();
    ensure!(
        missed.is_empty(),
        "the budgets apply to the output of `make build`, not to debug builds:\n{}",
        missed.join("\n")
    );
    Ok(())
}
