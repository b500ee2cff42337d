//! `compose create` and `compose rm`.

use std::path::PathBuf;

use serde::Serialize;
use sys::file::{self, Made, Sync};

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::network::create::{self, Created, Spec, differs};
use crate::network::described::labels;
use crate::network::rm;
use crate::networks::{Network, Networks, SIZE_MAX};
use crate::output::{Note, document, escaped, notes, print};

use super::CreateArgs;
use super::files::Sources;
use super::plan::PROJECT_LABEL;
use super::project::Project;
use super::spec::{lossy, spec};

/// Names that are no conflists.
const BUILT_IN: [&str; 2] = ["host", "none"];

/// A network of the project.
#[derive(Serialize)]
struct Item {
    key: String,
    name: String,
    file: PathBuf,
    made: bool,
}

/// Makes the project's networks. Those of others must be there before anything is made.
pub fn create(
    context: &Context,
    sources: &Sources,
    project: &Project,
    args: &CreateArgs,
    mut said: Vec<Note>,
) -> Result<Exit, Failure> {
    ensure_externals(&Networks::read(context), sources, project)?;
    let mut items = Vec::new();
    let mut exit = Exit::Done;
    // By name, as the files will stand: in an empty directory none comes before one that is there.
    let mut networks: Vec<_> = project.networks.iter().collect();
    networks.sort_by_key(|network| &network.name);
    for network in networks {
        let Some(spec) = spec(project, network) else { continue };
        let spec = if args.lossy { lossy(spec) } else { spec };
        match make(context, &project.name, &spec, args) {
            Ok(created) => {
                created.notes.into_iter().for_each(|note| add_once(&mut said, note));
                let (key, name) = (network.key.clone(), network.name.clone());
                items.push(Item { key, name, file: created.file, made: created.made });
            }
            Err(failure) => {
                exit = Exit::Found;
                said.push(Note::new("failed", format!("{}: {failure}", sources.place(network.at))));
            }
        }
    }
    if context.json {
        document("compose-create", &items, &said)?;
        return Ok(exit);
    }
    notes(&said);
    let made = items.iter().filter(|item| item.made);
    print(&made.map(|item| format!("{}\n", escaped(&item.name))).collect::<String>())?;
    Ok(exit)
}

/// What concerns the directory is noted once.
fn add_once(said: &mut Vec<Note>, note: Note) {
    if !said.contains(&note) {
        said.push(note);
    }
}

fn ensure_externals(networks: &Networks, sources: &Sources, project: &Project) -> Result<(), Failure> {
    let external = project.networks.iter().filter(|network| network.settings.is_none());
    let missing: Vec<_> = external
        .filter(|one| !BUILT_IN.contains(&one.name.as_str()) && networks.named(&one.name).is_none())
        .map(|one| format!("{}: the external network {} does not exist", sources.place(one.at), one.name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let failure = Failure::refused(missing.join("\n"));
    Err(match networks.notes.first() {
        Some(note) => failure.hint(format!("not every file could be read: {}", note.text)),
        None => failure.hint("moor network create makes it"),
    })
}

fn make(context: &Context, project: &str, spec: &Spec, args: &CreateArgs) -> Result<Created, Failure> {
    let manner =
        create::Manner { dry_run: false, ignore: true, first: args.first, allow_overlap: args.allow_overlap };
    let networks = Networks::read(context);
    let Some(present) = networks.named(&spec.name).filter(|_| args.recreate) else {
        return create::create(context, spec, manner);
    };
    if !differs(context, spec, present)? {
        return create::create(context, spec, manner);
    }
    ensure_owned(present, project)?;
    let before = files::read(&present.file, SIZE_MAX)
        .map_err(|error| Failure::refused(format!("read {}: {error}", present.file.display())))?;
    let first = args.first || present.first;
    let removed = rm::remove(context, &networks, present, rm::Manner { first, ..rm::Manner::default() })?;
    let again = create::Manner { first, ..manner };
    let mut created = create::create(context, spec, again).map_err(|why| restore(present, &before, why))?;
    created.notes.extend(removed.notes);
    Ok(created)
}

/// A network that somebody else made is never removed to make another one of its name.
fn ensure_owned(present: &Network, project: &str) -> Result<(), Failure> {
    if labels(&present.object).get(PROJECT_LABEL).is_some_and(|owner| owner == project) {
        return Ok(());
    }
    let text = format!("network {} is not of the project {project}", present.name());
    Err(Failure::refused(format!("{text}: {}", present.file.display())))
}

/// Puts the file back whose place the new network could not take.
fn restore(present: &Network, bytes: &[u8], why: Failure) -> Failure {
    let hint = match file::create_whole(&present.file, bytes, 0o644, Sync::Now) {
        Ok(Made::Created) => "the network is as it was",
        _ => "the network is removed",
    };
    match &why.hint {
        Some(_) => why,
        None => why.hint(hint),
    }
}

/// Whose networks are removed.
pub struct Owned {
    /// The project.
    pub project: String,
    /// The names of the networks that the files call external.
    pub external: Vec<String>,
}

impl Owned {
    /// Those of a project that was read.
    pub fn of(project: &Project) -> Self {
        let external = project.networks.iter().filter(|network| network.settings.is_none());
        Self {
            project: project.name.clone(),
            external: external.map(|network| network.name.clone()).collect(),
        }
    }

    fn has(&self, network: &Network) -> bool {
        let labels = labels(&network.object);
        labels.get(PROJECT_LABEL) == Some(&self.project)
            && !self.external.iter().any(|name| name == network.name())
    }
}

/// Removes the networks that carry the project's label.
pub fn rm(context: &Context, owned: &Owned, first: bool) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let mut said = networks.notes.clone();
    let mut exit = if said.is_empty() { Exit::Done } else { Exit::Incomplete };
    let mut removed = Vec::new();
    for network in networks.all.iter().rev().filter(|network| owned.has(network)) {
        // What is there changes with every removal.
        let now = Networks::read(context);
        let Some(present) = now.all.iter().find(|now| now.file == network.file) else { continue };
        match rm::remove(context, &now, present, rm::Manner { first, ..rm::Manner::default() }) {
            Ok(done) => {
                exit = if done.is_whole { exit } else { Exit::Found };
                removed.push(done.name);
                said.extend(done.notes);
            }
            Err(failure) => {
                exit = failure.exit;
                said.push(Note::new("failed", failure.to_string()));
            }
        }
    }
    if context.json {
        document("compose-rm", &removed, &said)?;
        return Ok(exit);
    }
    notes(&said);
    print(&removed.iter().map(|name| format!("{}\n", escaped(name))).collect::<String>())?;
    Ok(exit)
}
