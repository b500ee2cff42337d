//! `moor who`: whose is it, and how is that known.

mod meaning;
mod near;
mod owner;

use clap::Args;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::Model;
use crate::networks::Networks;
use crate::output::{self, Note, Table};
use crate::overlay;

use meaning::Meaning;
use near::near;
use owner::{Finder, Owned};

/// The arguments of `moor who`.
#[derive(Args)]
pub struct WhoArgs {
    /// An address, a port (443, 443/udp), ADDRESS:PORT, a MAC address, a link of this host or its
    /// index, a namespace, pid:N, a container's name or the beginning of its id
    #[arg(required = true)]
    what: Vec<String>,
}

/// Prints the owners.
pub fn run(context: &Context, args: &WhoArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let mut model = Model::read(context, &networks);
    let meanings: Vec<Vec<Meaning>> = args.what.iter().map(|text| Meaning::all(text)).collect();
    let is_port = |meaning: &Meaning| matches!(meaning, Meaning::Port { .. });
    let ports = if meanings.iter().flatten().any(is_port) { model.ports() } else { Vec::new() };
    let (mut owners, mut notes, mut failed) = (Vec::new(), Vec::new(), false);
    let remote = overlay::containers(&mut notes);
    let finder = Finder { context, networks: &networks, model: &model, ports: &ports, remote: &remote };
    for (text, meanings) in args.what.iter().zip(&meanings) {
        let found: Vec<Owned> = meanings.iter().flat_map(|meaning| finder.find(text, meaning)).collect();
        if found.is_empty() {
            failed = true;
            let near = near(&finder, meanings);
            notes.push(Note::new("nobody", format!("nobody has {text:?}{near}")));
        } else if let Some(ambiguous) = owner::ambiguity(text, meanings, &found) {
            failed = true;
            notes.push(Note::new("ambiguous", ambiguous));
        }
        owners.extend(found);
    }
    let seen = model.exit(if failed { Exit::Found } else { Exit::Done });
    let notes = [model.notes.as_slice(), &notes].concat();
    if context.json {
        output::document("owners", &owners, &notes)?;
    } else {
        output::notes(&notes);
        print(context, &owners)?;
    }
    Ok(seen)
}

fn print(context: &Context, owners: &[Owned]) -> Result<(), Failure> {
    if owners.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&["WHAT", "WHOSE", "KNOWN BY"]);
    for owned in owners {
        table.row(vec![owned.what.clone(), owned.text(), owned.evidence.join("; ")]);
    }
    table.print(context)
}
