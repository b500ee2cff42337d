//! `moor network inspect`: docker's array, with the containers of every runtime.

mod docker;
mod time;

use clap::Args;
use nix::unistd::geteuid;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::Model;
use crate::networks::{Network, Networks};
use crate::output::{Note, notes, print};

use super::find;
use docker::Inspected;

/// The kind of the document when the command fails.
pub const KIND: &str = "networks";

/// The arguments of `moor network inspect`.
#[derive(Args)]
pub struct InspectArgs {
    /// Names, or beginnings of ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// Print text for people
    #[arg(long)]
    text: bool,
}

/// Prints the networks. A missing one is left out, and exit status 1.
pub fn run(context: &Context, args: &InspectArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let mut said = networks.notes.clone();
    let mut exit = if said.is_empty() { Exit::Done } else { Exit::Incomplete };
    let mut found: Vec<&Network> = Vec::new();
    for word in &args.networks {
        match find::existing(&networks, word) {
            Ok(network) => found.push(network),
            Err(failure) => {
                exit = failure.exit;
                said.push(Note::new("missing", failure.to_string()));
            }
        }
    }
    let model = if geteuid().is_root() {
        Model::read(context, &networks)
    } else {
        said.push(Note::new("containers", "needs root to see containers"));
        Model::default()
    };
    let inspected: Vec<Inspected> =
        found.into_iter().map(|network| Inspected::new(network, &model)).collect();
    notes(&said);
    if args.text && !context.json {
        print(&inspected.iter().map(Inspected::text).collect::<Vec<_>>().join("\n"))?;
    } else {
        let text = serde_json::to_string_pretty(&inspected)
            .map_err(|error| Failure::refused(format!("encode the answer: {error}")))?;
        print(&(text + "\n"))?;
    }
    Ok(exit)
}
