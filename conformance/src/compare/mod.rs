//! `conformance diff`: the same requests to two suites, and how their answers and the resulting
//! states differ.

mod attempt;
mod known;
mod lane;
mod mask;
mod state;
mod table;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use harness::config::VERSIONS;
use harness::job::Kind;
use harness::runner::Grounds;
use harness::stage::conflists;
use harness::vm::VmArgs;
use harness::vm::lane::Lane;
use serde::{Deserialize, Serialize};

use known::Known;
pub use lane::guest;

/// The state is compared after each: an ADD, its DEL, and an ADD with an invalid value.
const MOMENTS: [&str; 3] = ["ADD", "DEL", "wrong"];

/// The options of a comparison.
pub struct Options<'o> {
    /// The other suite.
    pub against: &'o Path,
    /// Only the conflists with this text in their name.
    pub filter: &'o str,
    /// Where to run the requests.
    pub lane: Lane,
    /// The virtual machine.
    pub vm: &'o VmArgs,
    /// Whether every known difference is printed.
    pub full: bool,
    /// Whether a conflist that needs the virtual machine and was not compared is a failure.
    pub strict: bool,
}

/// A conflist in a version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Request {
    file: String,
    version: String,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Difference {
    /// After which of the [`MOMENTS`].
    moment: String,
    text: String,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Compared {
    /// One of the suites does not support the version.
    Unsupported,
    /// The differences; empty if all is equal.
    Differences(Vec<Difference>),
    /// The comparison failed.
    Trouble(String),
}

/// A request and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
    request: Request,
    compared: Compared,
}

impl Request {
    /// For jobs: `<file> <version>`.
    fn name(&self) -> String {
        format!("{} {}", self.file, self.version)
    }

    fn read(name: &str) -> Result<Self> {
        let (file, version) = name.split_once(' ').with_context(|| format!("{name:?} is not a request"))?;
        Ok(Self { file: file.to_owned(), version: version.to_owned() })
    }
}

/// The job of a suite's room.
pub const JOBS: &[Kind] = &[Kind::new("answer", |room, name| attempt::job(room, name).map(|()| true))];

/// Runs every conflist in every version with both suites, each in a room of its own, and prints the
/// differences: true when all differences are known.
pub fn run(grounds: &Grounds, options: &Options) -> Result<bool> {
    let other = options.against;
    ensure!(other.is_dir(), "{} is not a directory", other.display());
    let grounds = Grounds { reference: other.canonicalize()?, ..grounds.clone() };
    let mut lists = conflists::load(&grounds.net_d)?;
    lists.retain(|(file, list)| file.contains(options.filter) && !conflists::is_of_many_hosts(list));
    if lists.is_empty() {
        bail!("no conflist matches {:?}", options.filter);
    }
    lists.retain(|(file, list)| {
        let mut types = list.plugins.iter().map(|plugin| &plugin.plugin_type);
        let Some((suite, plugin)) = types.find_map(|plugin| Some((lacks(&grounds, plugin)?, plugin))) else {
            return true;
        };
        println!("{file} is not compared: {} has no {plugin}", suite.display());
        false
    });
    let known = Known::of(&Grounds { suite: grounds.reference.clone(), ..grounds.clone() })?;
    let findings = lane::run(&grounds, &lists, options)?;
    println!("{} against {}: results, errors and what they leave", grounds.suite.display(), other.display());
    let held = table::print(&findings.rows, &known, options.full);
    if options.filter.is_empty() {
        table::print_idle(&findings.rows, &known);
    }
    for (file, why) in &findings.not_run {
        println!("{file} is not compared: {why}");
    }
    if !findings.newest_only.is_empty() {
        println!("Left to --lane vm: the older versions of {}", findings.newest_only.join(", "));
    }
    Ok(held && (findings.not_run.is_empty() || !options.strict))
}

/// The first difference to the suite `grounds.reference` in a conflist, in the newest version.
pub fn first(grounds: &Grounds, file: &str) -> Result<Option<String>> {
    let version = VERSIONS.last().copied().unwrap_or_default().to_owned();
    match compared(grounds, &Request { file: file.to_owned(), version }) {
        Compared::Differences(found) => Ok(found.first().map(|difference| {
            format!("after {}: {}", table::moment_name(&difference.moment), difference.text)
        })),
        Compared::Unsupported => bail!("{file}: not both suites speak it"),
        Compared::Trouble(trouble) => bail!(trouble),
    }
}

/// The suite without such a plugin.
fn lacks<'s>(grounds: &'s Grounds, plugin: &str) -> Option<&'s Path> {
    [&*grounds.suite, &*grounds.reference].into_iter().find(|suite| !suite.join(plugin).is_file())
}

/// Runs a request with both suites here.
fn compared(grounds: &Grounds, request: &Request) -> Compared {
    let theirs = Grounds { suite: grounds.reference.clone(), ..grounds.clone() };
    let asked = ask(&theirs, request).and_then(|theirs| Ok(theirs.zip(ask(grounds, request)?)));
    let (theirs, ours) = match asked {
        Ok(Some(both)) => both,
        Ok(None) => return Compared::Unsupported,
        Err(error) => return Compared::Trouble(format!("{error:#}")),
    };
    let mut differences = vec![];
    for ((moment, ours), theirs) in MOMENTS.iter().zip(&ours).zip(&theirs) {
        let found = state::differences(ours, theirs).into_iter();
        differences.extend(found.map(|text| Difference { moment: (*moment).to_owned(), text }));
        // A moment that only one of the suites has cannot be compared.
        if state::failure(ours).is_some() != state::failure(theirs).is_some() {
            break;
        }
    }
    Compared::Differences(differences)
}

/// The state after each of the [`MOMENTS`] with one suite.
fn ask(grounds: &Grounds, request: &Request) -> Result<Option<Vec<Vec<String>>>> {
    let done = grounds.run(&format!("answer:{}", request.name()))?;
    if let Some(trouble) = done.trouble {
        bail!("ask the suite in {}: {trouble}", grounds.suite.display());
    }
    serde_json::from_str(&done.stdout).context("read the answer")
}
