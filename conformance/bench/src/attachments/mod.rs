//! `conformance bench`: the cost of attachments, of ours and another suite's and the kernel alone,
//! in turns in one run, compared with the budgets.

pub mod budget;
mod cases;
mod chain;
mod cluster;
mod compared;
mod contender;
pub mod count;
mod data_path;
mod elf;
mod engine;
mod floor;
mod flow;
mod growth;
mod herd;
mod hosts;
mod instructions;
mod measure;
mod networks;
mod page;
pub mod part;
pub mod peak;
mod policies;
mod ports;
mod rates;
mod responder;
mod scenario;
mod shot;
mod stale;
mod start;
mod table;
mod together;
mod tool;
mod wait;

use std::ffi::OsString;
use std::iter::once;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::job::Kind;
use harness::room::Room;
use harness::runner::Grounds;
use harness::vm::{Ended, Machine, VmArgs};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use budget::{Budgets, Outcome, Verdict};
pub use cases::CASES;
use compared::Compared;
use contender::Contender;
use measure::{Measured, Span};
use part::Part;
use scenario::Scenario;

/// The timeout of one room: fifty hosts attach 2,000 containers first.
const PATIENCE: Duration = Duration::from_secs(600);

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
    /// Also these parts.
    pub also: Vec<Part>,
    /// Another build of ours to compare with: its whole chain, and its side of every part.
    pub before: Option<PathBuf>,
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
    Kind::new("bench-part", |room, job| print(&part::job(room, job)?).map(|()| true)),
    Kind::new("bench-parallel", |room, size| print(&together::job(room, size)?).map(|()| true)),
];

/// Measures, prints, and returns whether no budget is missed by more than its noise.
pub fn run(grounds: &Grounds, options: &Options) -> Result<bool> {
    let grounds = Grounds { timeout: PATIENCE, jobs: 1, ..grounds.clone() };
    let budgets = Budgets::read(&grounds.net_d)?;
    let mut run = Run { grounds, options, budgets, verdicts: vec![], seconds: vec![] };
    if !options.json {
        table::head(&run.grounds.suite, &run.grounds.reference, options.before.as_deref());
    }
    let scenarios = run.timed("scenarios", Run::scenarios)?;
    let points = run.timed("scale", Run::points)?;
    let growth = growth::compare(&points);
    run.verdicts.extend(run.budgets.growth(&growth));
    let together = run.timed("parallel", Run::together)?;
    let paths = run.timed("data path", Run::paths)?;
    let mut compared = vec![];
    for part in options.parts() {
        compared.extend(run.timed(part.name(), |run| run.part(part))?);
    }
    run.verdicts.extend(compared::judge(&run.budgets.compared, &compared, options.before.is_some()));
    let mut names: Vec<&str> =
        Scenario::ALL.iter().flat_map(|scenario| scenario.executables()).copied().collect();
    names.sort_unstable();
    names.dedup();
    run.verdicts.extend(run.budgets.files(&run.grounds.suite, &names)?);
    let Run { grounds, verdicts, seconds, .. } = run;
    let document = json!({
        "suite": grounds.suite, "reference": grounds.reference, "before": options.before,
        "machine": table::machine(),
        "scenarios": scenarios.iter().map(|(name, measured)| table::summary(name, measured)).collect::<Vec<_>>(),
        "scale": points.iter().map(|(point, measured)| table::summary(&point.title(), measured)).collect::<Vec<_>>(),
        "growth": growth, "parallel": together, "dataPath": paths,
        "compared": compared.iter().map(table::comparison).collect::<Vec<_>>(),
        "budgets": verdicts, "seconds": seconds,
    });
    if let Some(path) = &options.page {
        page::write(path, &document)?;
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        table::verdicts(&verdicts);
        table::seconds(&seconds);
    }
    Ok(held(&verdicts))
}

/// A run on its way.
struct Run<'a> {
    grounds: Grounds,
    options: &'a Options,
    budgets: Budgets,
    verdicts: Vec<Verdict>,
    /// The duration of each step.
    seconds: Vec<(&'static str, f64)>,
}

impl Run<'_> {
    /// Does a step, and keeps its duration.
    fn timed<T>(&mut self, name: &'static str, step: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let done = step(self)?;
        self.seconds.push((name, began.elapsed().as_secs_f64()));
        Ok(done)
    }

    fn scenarios(&mut self) -> Result<Vec<(&'static str, Measured)>> {
        let Options { filter, rounds, seconds, json, vm, .. } = self.options;
        let wanted: Vec<Scenario> =
            Scenario::ALL.into_iter().filter(|scenario| scenario.name().contains(filter)).collect();
        if wanted.is_empty() && !self.options.has_more() {
            bail!("no scenario matches {filter:?}");
        }
        let mut scenarios = vec![];
        for scenario in wanted {
            let name = scenario.name();
            let job = format!("bench:{rounds}:{seconds}:{name}");
            let lacking = self.grounds.lacking(scenario.need().as_slice());
            let measured: Measured = match lacking.first() {
                None => answer(&self.grounds, &job)?,
                Some((_, why)) => elsewhere(&self.grounds, vm, &job, why)?,
            };
            if !json {
                table::scenario(name, &measured);
            }
            self.verdicts.extend(self.budgets.times(name, &measured));
            self.verdicts.extend(self.budgets.counts(name, &measured));
            scenarios.push((name, measured));
        }
        self.verdicts.extend(self.budgets.memory(&scenarios));
        Ok(scenarios)
    }

    fn points(&mut self) -> Result<Vec<(growth::Point, Measured)>> {
        let mut points = vec![];
        for point in growth::POINTS.into_iter().filter(|_| self.options.scale) {
            if !point.is_base() && !point.title().contains(&self.options.filter) {
                continue;
            }
            let measured: Measured = answer(&self.grounds, &format!("bench-scale:{}", point.name))?;
            if !self.options.json {
                table::scenario(&point.title(), &measured);
            }
            points.push((point, measured));
        }
        Ok(points)
    }

    fn together(&mut self) -> Result<Vec<together::Together>> {
        let mut rows = vec![];
        if self.options.parallel {
            for size in together::SIZES {
                let found: Vec<together::Together> =
                    answer(&self.grounds, &format!("bench-parallel:{size}"))?;
                rows.extend(found);
            }
            self.verdicts.extend(self.budgets.together(&rows));
            if !self.options.json {
                table::together(&rows);
            }
        }
        Ok(rows)
    }

    fn paths(&mut self) -> Result<Vec<data_path::DataPath>> {
        let mut paths = vec![];
        if self.options.data_path {
            paths = answer(&self.grounds, "bench-path:")?;
            self.verdicts.extend(self.budgets.data_path(&paths));
            if !self.options.json {
                table::paths(&paths);
            }
        }
        Ok(paths)
    }

    fn part(&mut self, part: Part) -> Result<Vec<Compared>> {
        let job = part.job(self.options.before.as_deref());
        let found: Vec<Compared> = match part {
            Part::Flow => counted_elsewhere(&self.grounds, &self.options.vm, &job)?,
            _ => answer(&self.grounds, &job)?,
        };
        if !self.options.json {
            table::compared(&found);
        }
        Ok(found)
    }
}

impl Options {
    /// The wanted parts. An earlier build is for all of them, unless some are named.
    fn parts(&self) -> Vec<Part> {
        let all = self.also.is_empty() && self.before.is_some();
        Part::ALL.into_iter().filter(|part| all || self.also.contains(part)).collect()
    }

    /// Whether anything beside the scenarios is wanted.
    fn has_more(&self) -> bool {
        self.scale || self.parallel || self.data_path || !self.parts().is_empty()
    }
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
    let (mut measured, ended): (Measured, _) = answer_of(&machine, grounds, job)?;
    measured.not_run.push(format!("on this kernel: {why}; so this was in a {}", ended.summary()));
    Ok(measured)
}

/// Runs the part's job in a virtual machine that counts instructions.
fn counted_elsewhere(grounds: &Grounds, vm: &VmArgs, job: &str) -> Result<Vec<Compared>> {
    let machine = match vm.machine() {
        Ok(machine) => machine.counting_instructions(),
        Err(missing) => return Ok(flow::not_run(&format!("{missing:#}"))),
    };
    match answer_of::<Vec<Compared>>(&machine, grounds, job) {
        Ok((mut found, ended)) => {
            found.iter_mut().for_each(|compared| compared.notes.push(format!("in a {}", ended.summary())));
            Ok(found)
        }
        Err(why) => Ok(flow::not_run(&format!("{why:#}"))),
    }
}

/// Runs a job in a machine and parses its output.
fn answer_of<T: DeserializeOwned>(machine: &Machine, grounds: &Grounds, job: &str) -> Result<(T, Ended)> {
    let command = grounds.command(job);
    let words: Vec<OsString> =
        once(command.get_program()).chain(command.get_args()).map(ToOwned::to_owned).collect();
    let (mut found, mut stray) = (None, String::new());
    let ended = machine.run(&words, |line| match serde_json::from_str::<T>(line) {
        Ok(parsed) => found = Some(parsed),
        Err(_) => stray += &format!("\n    {line}"),
    })?;
    let found = found.with_context(|| format!("{job} in the virtual machine printed only{stray}"))?;
    Ok((found, ended))
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
    counts_of(room, |scenario| !scenario.is_of_few_kernels())
}

/// The same for features that not every kernel has.
pub fn counts_of_ipvlan_stay_within_budget(room: &Room) -> Result<()> {
    counts_of(room, |scenario| scenario == Scenario::Ipvlan)
}

/// As for ipvlan.
pub fn counts_of_vlan_and_dummy_stay_within_budget(room: &Room) -> Result<()> {
    counts_of(room, |scenario| matches!(scenario, Scenario::Vlan | Scenario::Dummy))
}

/// As for ipvlan.
pub fn counts_of_vrf_stay_within_budget(room: &Room) -> Result<()> {
    counts_of(room, |scenario| scenario == Scenario::Vrf)
}

/// The same for TAP devices, which need a device node.
pub fn counts_of_tap_stay_within_budget(room: &Room) -> Result<()> {
    counts_of(room, |scenario| scenario == Scenario::Tap)
}

fn counts_of(room: &Room, wanted: impl Fn(Scenario) -> bool) -> Result<()> {
    let budgets = Budgets::read(&room.net_d)?;
    let ours = Contender::ours(room);
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
        // The next scenario has the same network, parent, and containers of the same names.
        runner.clear(room, scenario)?;
        measure::clear(scenario)?;
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
