//! `moor import`: the networks of docker, podman's netavark and Quadlet as conflists.

mod docker;
mod found;
mod podman;
mod quadlet;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::files;
use crate::network::create::{Created, Manner, create};
use crate::networks::SIZE_MAX;
use crate::output::{Note, document, escaped, notes, print};

use self::found::{Found, Imported};

pub use self::found::{Lost, honoured};

/// The kind of its document.
pub const KIND: &str = "import";

/// The most files of a directory.
const FILES_MAX: usize = 1000;

/// The arguments of `moor import`.
#[derive(Args)]
pub struct ImportArgs {
    /// Whose networks: what `docker network inspect` prints, netavark's files of podman, or
    /// Quadlet's .network files
    from: From,
    /// The files, or - for standard input; without, standard input for docker,
    /// /etc/containers/networks for podman, /etc/containers/systemd for quadlet
    file: Vec<PathBuf>,
    /// Print the conflists, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// The name of the network, when it is one
    #[arg(long)]
    name: Option<String>,
    /// Leave out what has no counterpart
    #[arg(long)]
    lossy: bool,
    /// A new file may be the first of the directory, which containerd and CRI-O give to pods
    #[arg(long)]
    first: bool,
    /// A subnet may overlap another network's, or a route of the host
    #[arg(long)]
    allow_overlap: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum From {
    Docker,
    Podman,
    Quadlet,
}

impl From {
    /// Where the tool has its files, and their suffix.
    fn place(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Docker => None,
            Self::Podman => Some(("/etc/containers/networks", "json")),
            Self::Quadlet => Some(("/etc/containers/systemd", "network")),
        }
    }

    fn read(self, file: &Path) -> Result<Vec<Found>, String> {
        let bytes = bytes(file)?;
        match self {
            Self::Docker => docker::read(&bytes),
            Self::Podman => podman::read(&bytes),
            Self::Quadlet => {
                let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                quadlet::read(&String::from_utf8_lossy(&bytes), &stem.unwrap_or_default())
            }
        }
    }
}

fn is_standard_input(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn bytes(file: &Path) -> Result<Vec<u8>, String> {
    if !is_standard_input(file) {
        return files::read(file, SIZE_MAX).map_err(|error| error.to_string());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().take(SIZE_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > SIZE_MAX { Err(format!("larger than {SIZE_MAX} bytes")) } else { Ok(bytes) }
}

/// Runs the command.
pub fn run(context: &Context, args: &ImportArgs) -> Result<Exit, Failure> {
    let mut import = Import::default();
    for file in sources(args)? {
        import.read(args.from, &file);
    }
    import.rename(args.name.as_deref())?;
    let is_refused = import.note_losses(args.lossy);
    if !is_refused {
        import.make(context, args);
    }
    import.report(context, args)?;
    Ok(if is_refused || import.failed { Exit::Found } else { Exit::Done })
}

fn sources(args: &ImportArgs) -> Result<Vec<PathBuf>, Failure> {
    if !args.file.is_empty() {
        return Ok(args.file.clone());
    }
    let Some((dir, suffix)) = args.from.place() else { return Ok(vec!["-".into()]) };
    let fault = |error: std::io::Error| Failure::incomplete(format!("list {dir}: {error}"));
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(fault)?.take(FILES_MAX) {
        let path = entry.map_err(fault)?.path();
        if path.extension().is_some_and(|extension| extension == suffix) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// What was found, and what became of it.
#[derive(Default)]
struct Import {
    networks: Vec<Imported>,
    items: Vec<Item>,
    notes: Vec<Note>,
    failed: bool,
}

/// A network that was made, or would be.
#[derive(Serialize)]
struct Item {
    name: String,
    file: PathBuf,
    made: bool,
    list: Value,
    #[serde(skip)]
    text: String,
}

impl Import {
    fn read(&mut self, from: From, file: &Path) {
        match from.read(file) {
            Ok(all) => all.into_iter().for_each(|found| match found {
                Found::Network(network) => self.networks.push(*network),
                Found::Skipped { name, reason } => {
                    self.notes.push(Note::new("skipped", format!("{name} is skipped: {reason}")));
                }
            }),
            Err(why) => {
                self.failed = true;
                self.notes.push(Note::about("unreadable", file, why));
            }
        }
    }

    fn rename(&mut self, name: Option<&str>) -> Result<(), Failure> {
        match (name, &mut self.networks[..]) {
            (None, _) => {}
            (Some(name), [network]) => network.spec.name = name.to_owned(),
            (Some(_), networks) => {
                let text = format!("--name is for one network, and there are {}", networks.len());
                return Err(Failure::usage(text));
            }
        }
        Ok(())
    }

    /// Notes what has no counterpart. True when that stops the import.
    fn note_losses(&mut self, lossy: bool) -> bool {
        let mut is_lost = false;
        for network in &self.networks {
            for lost in &network.lost {
                is_lost = true;
                let text = format!("{}: {}: {}", network.spec.name, lost.key, lost.reason);
                self.notes.push(Note::new("lost", text));
            }
        }
        if is_lost && !lossy {
            self.notes.push(Note::new("refused", "nothing is imported; --lossy leaves these out"));
        }
        is_lost && !lossy
    }

    fn make(&mut self, context: &Context, args: &ImportArgs) {
        let manner = Manner {
            dry_run: args.dry_run,
            ignore: true,
            first: args.first,
            allow_overlap: args.allow_overlap,
        };
        // As the files will stand: in an empty directory none comes before one that is there.
        self.networks.sort_by(|one, two| one.spec.name.cmp(&two.spec.name));
        for network in std::mem::take(&mut self.networks) {
            let name = network.spec.name.clone();
            let made =
                create(context, &network.spec, manner).and_then(|created| item(&name, created, manner));
            match made {
                Ok((item, notes)) => {
                    self.items.push(item);
                    notes.into_iter().for_each(|note| self.add_once(note));
                }
                Err(failure) => {
                    self.failed = true;
                    self.notes.push(Note::new("failed", format!("{name}: {failure}")));
                }
            }
        }
    }

    /// What concerns the directory is noted once.
    fn add_once(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn report(&self, context: &Context, args: &ImportArgs) -> Result<(), Failure> {
        if context.json {
            return document(KIND, &self.items, &self.notes);
        }
        notes(&self.notes);
        for item in &self.items {
            let name = || format!("{}\n", escaped(&item.name));
            print(&if args.dry_run { item.text.clone() } else { name() })?;
        }
        Ok(())
    }
}

fn item(name: &str, created: Created, manner: Manner) -> Result<(Item, Vec<Note>), Failure> {
    let list = serde_json::from_slice(&created.text)
        .map_err(|error| Failure::refused(format!("read what was made: {error}")))?;
    let item = Item {
        name: name.to_owned(),
        file: created.file,
        made: created.made && !manner.dry_run,
        list,
        text: String::from_utf8_lossy(&created.text).into_owned(),
    };
    Ok((item, created.notes))
}

#[cfg(test)]
mod tests;
