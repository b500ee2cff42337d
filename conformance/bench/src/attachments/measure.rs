//! One scenario in one room: all contenders in turns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use harness::ip;
use harness::namespace::Container;
use harness::need::Need;
use harness::room::Room;
use harness::stage::dhcp::{Offer, ReferenceDaemon, Server, Software};
use serde::{Deserialize, Serialize};

use super::contender::{Contender, FLOOR, OURS, REFERENCE, START};
use super::count::{self, Counts};
use super::floor::Floor;
use super::responder;
use super::scenario::{PARENT, Scenario, VERBS, daemon as daemon_socket, names};
use super::shot::Sample;
use crate::stats::turns;

/// The cost of one contender's verb.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Series {
    /// The contender.
    pub contender: String,
    /// The verb.
    pub verb: String,
    /// Every time, in the order of the rounds.
    pub samples: Vec<Sample>,
    /// The counts; the floor has no processes.
    pub counts: Option<Counts>,
}

/// A scenario's measurements.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    /// The verbs of all contenders.
    pub series: Vec<Series>,
    /// What could not be measured, and why.
    pub not_run: Vec<String>,
}

/// How long a scenario is measured.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// The maximum number of rounds.
    pub rounds: usize,
    /// No new round after this time, once `least` are done.
    pub time: Duration,
    /// The minimum number of rounds; fewer are meaningless.
    pub least: usize,
    /// Whether system calls and memory are counted as well.
    pub counted: bool,
}

impl Series {
    fn new(contender: &str, verb: &str) -> Self {
        Self { contender: contender.to_owned(), verb: verb.to_owned(), samples: vec![], counts: None }
    }

    /// The wall times.
    pub fn wall(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.wall_ms).collect()
    }

    /// The processor times.
    pub fn cpu(&self) -> Vec<f64> {
        self.samples.iter().map(|sample| sample.cpu_ms).collect()
    }
}

impl Measured {
    /// A contender's verb.
    pub fn find(&self, contender: &str, verb: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.contender == contender && series.verb == verb)
    }
}

/// A suite with its container, and the verbs of it that work.
pub struct Runner {
    contender: Contender,
    container: Container,
    checks: bool,
}

/// What exists before the first contender: the parent of links that need one.
pub fn prepare(scenario: Scenario) -> Result<()> {
    if scenario.parent() == Some(PARENT) {
        ip::script(
            None,
            &format!(
                "link add {PARENT} type veth peer name parent1
                 link set parent1 up
                 link set {PARENT} up"
            ),
        )?;
    }
    Ok(())
}

/// The DHCP server of a scenario that needs one, and the reference's daemon, which its plugin does
/// not start.
fn served(
    room: &Room,
    scenario: Scenario,
    contenders: &[Contender],
) -> Result<Option<(Server, Option<ReferenceDaemon>)>> {
    if scenario != Scenario::Dhcp {
        return Ok(None);
    }
    room.outside(&[])?;
    let server = room.dhcp_server(Software::Dnsmasq, &Offer::default())?;
    let reference = contenders.iter().find(|contender| contender.name == REFERENCE);
    let daemon = reference.filter(|reference| scenario.lacking(&reference.dir).is_none());
    let daemon = daemon.map(|reference| ReferenceDaemon::start_at(room, &daemon_socket(reference.slot)));
    Ok(Some((server, daemon.transpose()?)))
}

/// Deletes what [`prepare`] has made.
pub fn clear(scenario: Scenario) -> Result<()> {
    if scenario.parent() == Some(PARENT) { ip::run(&["link", "del", PARENT]) } else { Ok(()) }
}

/// Rehearses, counts, and measures in turns.
pub fn measure(room: &Room, scenario: Scenario, contenders: Vec<Contender>, span: Span) -> Result<Measured> {
    prepare(scenario)?;
    let _served = served(room, scenario, &contenders)?;
    let mut measured = Measured::default();
    let mut runners = vec![];
    for contender in contenders {
        match ready(room, scenario, contender, span.counted, &mut measured) {
            Ok(runner) => runners.push(runner),
            Err(error) => measured.not_run.push(format!("{error:#}")),
        }
    }
    let floor = Floor::new(scenario, &room.container("f")?)?;
    let names = runners.iter().map(|runner| (runner.contender.name, runner.checks));
    for (name, checks) in names.chain([(FLOOR, true)]) {
        let verbs = VERBS.into_iter().filter(|verb| checks || *verb != "CHECK");
        for verb in verbs {
            if measured.find(name, verb).is_none() {
                measured.series.push(Series::new(name, verb));
            }
        }
    }
    let start = runners
        .iter()
        .find(|runner| runner.contender.name == OURS)
        .map(|ours| ours.contender.start("loopback"));
    measured.series.push(Series::new(START, "VERSION"));
    let began = Instant::now();
    for round in 0..span.rounds {
        if round >= span.least && began.elapsed() > span.time {
            break;
        }
        for turn in turns(round, runners.len() + 1) {
            match runners.get(turn) {
                Some(runner) => one(runner, scenario, &mut measured)?,
                None => {
                    for verb in VERBS {
                        push(&mut measured, FLOOR, verb, floor.run(verb)?)?;
                    }
                    if let Some(start) = &start {
                        push(&mut measured, START, "VERSION", start.fire()?.0)?;
                    }
                }
            }
        }
    }
    Ok(measured)
}

/// Runs every verb once, leaves one attachment so that the network exists, and counts.
pub fn ready(
    room: &Room,
    scenario: Scenario,
    contender: Contender,
    counted: bool,
    measured: &mut Measured,
) -> Result<Runner> {
    let name = contender.name;
    if let Some(lacking) = scenario.lacking(&contender.dir) {
        anyhow::bail!("{name}: there is no {}", lacking.display());
    }
    let container = room.container(&format!("c{}", contender.slot))?;
    let trouble = contender.attachment(scenario, &container, "eth0").rehearse()?;
    if let Some(why) = &trouble {
        measured.not_run.push(why.clone());
    }
    if let Some(standing) = scenario.resident() {
        let resident = room.container(&resident(&contender))?;
        contender.attachment(standing, &resident, "eth0").run("ADD")?;
    }
    let checks = trouble.is_none();
    let countable = match scenario {
        Scenario::DnsCold => Err(anyhow!("the responder continues after ADD")),
        _ => Need::Strace.probe(&room.suite, &room.reference),
    };
    let counted = match countable {
        _ if !counted => vec![],
        Ok(()) => count::count(room, &contender, scenario, &container, checks)?,
        Err(why) => {
            measured.not_run.push(format!("{name}: system calls and memory: {why:#}"));
            vec![]
        }
    };
    for (verb, counts) in counted {
        measured.series.push(Series { counts: Some(counts), ..Series::new(name, &verb) });
    }
    Ok(Runner { contender, container, checks })
}

impl Runner {
    /// Removes the attachment that [`ready`] has left.
    pub fn clear(self, room: &Room, scenario: Scenario) -> Result<()> {
        if let Some(standing) = scenario.resident() {
            let id = resident(&self.contender);
            let container = Container { path: format!("/run/netns/{id}").into(), id };
            self.contender.attachment(standing, &container, "eth0").run("DEL")?;
            room.remove(&container)?;
        }
        room.remove(&self.container)
    }
}

fn resident(contender: &Contender) -> String {
    format!("r{}", contender.slot)
}

/// One attachment from ADD to DEL.
fn one(runner: &Runner, scenario: Scenario, measured: &mut Measured) -> Result<()> {
    if scenario == Scenario::DnsCold {
        responder::end(&names(runner.contender.slot))?;
    }
    let mut attachment = runner.contender.attachment(scenario, &runner.container, "eth0");
    for verb in VERBS.into_iter().filter(|verb| runner.checks || *verb != "CHECK") {
        let sample = attachment.run(verb)?;
        push(measured, runner.contender.name, verb, sample)?;
    }
    Ok(())
}

fn push(measured: &mut Measured, contender: &str, verb: &str, sample: Sample) -> Result<()> {
    let series =
        measured.series.iter_mut().find(|series| series.contender == contender && series.verb == verb);
    series.with_context(|| format!("no series for {contender} {verb}"))?.samples.push(sample);
    Ok(())
}
