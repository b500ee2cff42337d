//! `moor network rm`: the file, then what is provably this network's alone.

mod bridge;
mod leases;

use clap::Args;
use nix::unistd::geteuid;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::{Attachment, Model};
use crate::networks::{Network, Networks};
use crate::output::{Note, document, escaped, notes, print};

use super::detach::detach;
use super::directory::Directory;
use super::find;

/// The kind of its document.
pub const KIND: &str = "removed";

/// First plugins of networks that people make; others belong to somebody who makes the file again.
const PLAIN: [&str; 6] = ["bridge", "macvlan", "ipvlan", "overlay", "ptp", "vlan"];

/// The arguments of `moor network rm`.
#[derive(Args)]
pub struct RmArgs {
    /// Names, or beginnings of ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// A network that is not there is no error
    #[arg(short, long)]
    force: bool,
    /// Detach its containers first
    #[arg(long)]
    disconnect: bool,
    /// Also a network whose first plugin is none of bridge, macvlan, ipvlan, ptp and vlan
    #[arg(long)]
    any: bool,
    /// Also the first file of the directory, which containerd and CRI-O give to pods
    #[arg(long)]
    first: bool,
}

/// What a removal may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Containers are detached first.
    pub disconnect: bool,
    /// The first plugin may be any.
    pub any: bool,
    /// The file may be the first of its directory.
    pub first: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: &RmArgs) -> Result<Exit, Failure> {
    let manner = Manner { disconnect: args.disconnect, any: args.any, first: args.first };
    let (mut removed, mut said, mut exit) = (Vec::new(), Vec::new(), Exit::Done);
    for word in &args.networks {
        let networks = Networks::read(context);
        let done = match find::find(&networks, word) {
            Ok(None) if args.force => continue,
            Ok(None) => Err(find::missing(&networks, word)),
            Ok(Some(network)) => remove(context, &networks, network, manner),
            Err(failure) => Err(failure),
        };
        match done {
            Ok(found) => {
                exit = if found.is_whole { exit } else { Exit::Found };
                removed.push(found.name);
                said.extend(found.notes);
            }
            Err(failure) => {
                exit = failure.exit;
                said.push(Note::new("failed", failure.to_string()));
            }
        }
    }
    if context.json {
        document(KIND, &removed, &said)?;
        return Ok(exit);
    }
    notes(&said);
    print(&removed.iter().map(|name| format!("{}\n", escaped(name))).collect::<String>())?;
    Ok(exit)
}

/// A network that was removed.
#[derive(Debug)]
pub struct Removed {
    /// The name.
    pub name: String,
    /// What the person should know.
    pub notes: Vec<Note>,
    /// Whether everything went that had to go.
    pub is_whole: bool,
}

/// Removes a network that nobody uses: its file, then its bridge and the directory of its leases.
/// Attachments that are gone are deleted first, and never keep it.
pub fn remove(
    context: &Context,
    networks: &Networks,
    network: &Network,
    manner: Manner,
) -> Result<Removed, Failure> {
    ensure_removable(network, manner)?;
    if !geteuid().is_root() {
        let results = context.cache_dir.join("results");
        return Err(Failure::incomplete(format!(
            "needs root: {} is readable by root only",
            results.display()
        )));
    }
    let name = network.name().to_owned();
    let mut done = Removed { name: name.clone(), notes: Vec::new(), is_whole: true };
    let model = Model::read(context, networks);
    let (alive, gone): (Vec<_>, Vec<_>) = of_network(&model, &name).partition(|one| one.may_be_alive());
    if !alive.is_empty() && !manner.disconnect {
        return Err(in_use(&model, &name, &alive));
    }
    for attachment in alive {
        detach(context, networks, attachment)
            .map_err(|why| Failure::refused(format!("detach {}: {why}", line(attachment))))?;
    }
    for attachment in gone {
        if let Err(why) = detach(context, networks, attachment) {
            done.is_whole = false;
            done.notes.push(Note::new("gone", format!("{}: {why}", line(attachment))));
        }
    }
    let dir = network.file.parent().unwrap_or(std::path::Path::new("."));
    let directory = Directory::lock(dir)?;
    ensure_same(network)?;
    directory.remove(&network.file)?;
    done.notes.extend(made_by(network).map(|tool| {
        Note::about("foreign", &network.file, format!("made by {tool}, and removed all the same"))
    }));
    let others = networks.all.iter().filter(|other| other.file != network.file);
    let others: Vec<&Network> = others.collect();
    done.notes.extend(bridge::remove(network, &others)?);
    if network.list.plugins.first().is_some_and(|plugin| plugin.plugin_type == "overlay") {
        let text = format!("other hosts keep it: overlay network rm {name} removes it from the cluster");
        done.notes.push(Note::new("cluster", text));
    }
    if !others.iter().any(|other| other.name() == name) {
        done.notes.extend(leases::remove(network, &context.cache_dir)?);
    }
    Ok(done)
}

/// The attachments to a network, by its name.
pub fn of_network<'m>(model: &'m Model, name: &str) -> impl Iterator<Item = &'m Attachment> {
    model.attachments.iter().filter(move |one| one.network == name)
}

fn ensure_removable(network: &Network, manner: Manner) -> Result<(), Failure> {
    let kind = network.list.plugins.first().map(|plugin| plugin.plugin_type.as_str()).unwrap_or_default();
    let (name, file) = (network.name(), network.file.display());
    if !manner.any && !PLAIN.contains(&kind) {
        return Err(Failure::refused(format!("network {name} is of type {kind}: {file} may be a cluster's"))
            .hint("--any insists"));
    }
    if !manner.first && network.first {
        let text = format!("{file} is the first file: containerd and CRI-O give network {name} to pods");
        return Err(Failure::refused(text).hint("--first insists"));
    }
    Ok(())
}

fn in_use(model: &Model, name: &str, alive: &[&Attachment]) -> Failure {
    let mut lines: Vec<String> = alive.iter().map(|one| line(one)).collect();
    lines.extend(model.notes.iter().map(|note| format!("({})", note.text)));
    lines.push("--disconnect detaches them first".into());
    Failure::refused(format!("network {name} is in use by")).hint(lines.join("\n"))
}

/// Container, runtime, addresses.
fn line(one: &Attachment) -> String {
    let runtime = one.runtime.as_deref().unwrap_or("-");
    let addresses = one.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let state = if one.state == crate::model::State::Unknown { " (state unknown)" } else { "" };
    format!("{} {} {runtime} {addresses}{state}", one.shown_name(), one.ifname)
}

/// Another process may have written another network to this file meanwhile.
fn ensure_same(network: &Network) -> Result<(), Failure> {
    let dir = network.file.parent().unwrap_or(std::path::Path::new("."));
    let now = Networks::of(&[dir.to_owned()]);
    let same = now.all.iter().any(|now| now.file == network.file && now.object == network.object);
    if same {
        return Ok(());
    }
    Err(Failure::refused(format!("{} has changed meanwhile", network.file.display())))
}

/// The tool that made the file, by what it writes.
fn made_by(network: &Network) -> Option<&'static str> {
    if network.object.contains_key("nerdctlID") {
        return Some("nerdctl");
    }
    let bridge = super::create::bridges(network).any(|bridge| bridge.starts_with("cni-podman"));
    let labels = network.object.get("args").is_some_and(|args| args.get("podman_labels").is_some());
    (bridge || labels && !is_ours(network)).then_some("podman")
}

/// Whether the file has the name that `network create` gives.
pub fn is_ours(network: &Network) -> bool {
    network.file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("moor-"))
}
