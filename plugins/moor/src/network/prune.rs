//! `moor network prune`: the networks that `network create` made and nobody uses.

use clap::Args;
use nix::unistd::geteuid;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::Model;
use crate::networks::{Network, Networks};
use crate::output::{Note, document, escaped, notes, print};

use super::described::Described;
use super::filter::{self, Filter};
use super::rm::{self, Manner};

/// The kind of its document.
pub const KIND: &str = "pruned";

/// The arguments of `moor network prune`.
#[derive(Args)]
pub struct PruneArgs {
    /// Remove them; without it they are only listed
    #[arg(short, long)]
    force: bool,
    /// Only networks with this label: label=KEY or label=KEY=VALUE
    #[arg(long, value_name = "label=...")]
    filter: Vec<Filter>,
}

/// Lists, or removes, networks that nobody uses. The first file is never one of them.
pub fn run(context: &Context, args: &PruneArgs) -> Result<Exit, Failure> {
    if !geteuid().is_root() {
        let results = context.cache_dir.join("results");
        return Err(Failure::incomplete(format!(
            "needs root: {} is readable by root only",
            results.display()
        )));
    }
    let networks = Networks::read(context);
    let model = Model::read(context, &networks);
    let is_unused = |network: &&Network| {
        let mut users = rm::of_network(&model, network.name()).filter(|one| one.may_be_alive());
        let described = Described::new(network, 0);
        rm::is_ours(network)
            && !network.first
            && users.next().is_none()
            && filter::accepts(&args.filter, &described)
    };
    let unused: Vec<&Network> = networks.all.iter().filter(is_unused).collect();
    let mut said = networks.notes.clone();
    let mut exit = if said.is_empty() { Exit::Done } else { Exit::Incomplete };
    let mut names = Vec::new();
    for network in unused {
        if args.force {
            match rm::remove(context, &networks, network, Manner::default()) {
                Ok(removed) => said.extend(removed.notes),
                Err(failure) => {
                    exit = failure.exit;
                    said.push(Note::about("failed", &network.file, failure.to_string()));
                    continue;
                }
            }
        }
        names.push(network.name().to_owned());
    }
    if context.json {
        document(KIND, &names, &said)?;
        return Ok(exit);
    }
    notes(&said);
    print(&names.iter().map(|name| format!("{}\n", escaped(name))).collect::<String>())?;
    if !args.force && !names.is_empty() {
        eprintln!("moor: nothing was removed; -f removes these networks");
    }
    Ok(exit)
}
