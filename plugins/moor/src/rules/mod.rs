//! `moor rules`: what Moor's packet rules do for each owner, and whose other rules see the same
//! packets.

mod foreign;
mod sentences;

use clap::Args;
use host::{Owner, rules};
use serde::Serialize;

use crate::context::{Context, require_root};
use crate::failure::{Exit, Failure};
use crate::model::Model;
use crate::networks::Networks;
use crate::output::{Note, Table, document, escaped, notes, print};

use foreign::ChainItem;

/// The arguments of `moor rules`.
#[derive(Args)]
pub struct RulesArgs {
    /// Only what concerns this container
    #[arg(value_name = "CONTAINER")]
    container: Option<String>,
}

/// An owner with what its rules do, or a chain of another program.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Item {
    Owner(OwnerItem),
    Chain(ChainItem),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OwnerItem {
    /// `moor/<network>/<interface>/<container id>`, or `moor/<network>` for what a network shares.
    owner: String,
    rules: Vec<String>,
}

/// Runs the command.
pub fn run(context: &Context, args: &RulesArgs) -> Result<Exit, Failure> {
    require_root("packet rules are visible to root only")?;
    let wanted = args.container.as_deref().map(|text| labels(context, text)).transpose()?;
    let is_wanted = |label: &str| wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one == label));
    let failed = |error: sys::Error| Failure::incomplete(format!("read packet rules: {error:#}"));
    let (inventory, chains) = match rules::open() {
        Err(error) if rules::is_without_nf_tables(&error) => Default::default(),
        opened => {
            let nft = opened.map_err(failed)?;
            (rules::inventory(&nft).map_err(failed)?, rules::foreign_chains(&nft).map_err(failed)?)
        }
    };
    let owners = sentences::sentences(&inventory).into_iter().filter(|(label, _)| is_wanted(label));
    let owners: Vec<_> = owners.map(|(owner, rules)| OwnerItem { owner, rules }).collect();
    let chains: Vec<_> = chains.iter().map(ChainItem::of).collect();
    let said = foreign::legacy();
    if context.json {
        let items: Vec<_> =
            owners.into_iter().map(Item::Owner).chain(chains.into_iter().map(Item::Chain)).collect();
        document("rules", &items, &said)?;
    } else {
        notes(&said);
        print(&text(&owners))?;
        table(context, &chains, &said)?;
    }
    Ok(if said.is_empty() { Exit::Done } else { Exit::Incomplete })
}

/// The labels of a container's attachments, and of their networks.
fn labels(context: &Context, container: &str) -> Result<Vec<String>, Failure> {
    let model = Model::read(context, &Networks::read(context));
    let mut labels = Vec::new();
    for one in model.resolve(container)? {
        labels.push(Owner::new(&one.network, &one.container_id, &one.ifname).label());
        labels.push(Owner::label_prefix(&one.network).trim_end_matches('/').to_owned());
    }
    Ok(labels)
}

fn text(owners: &[OwnerItem]) -> String {
    let mut text = String::new();
    for OwnerItem { owner, rules } in owners {
        let name = owner.strip_prefix("moor/").unwrap_or(owner);
        text += &format!("{}\n", escaped(name).replace('\n', "\\n"));
        for rule in rules {
            text += &format!("  {}\n", escaped(rule).replace('\n', "\\n"));
        }
    }
    text
}

fn table(context: &Context, chains: &[ChainItem], _said: &[Note]) -> Result<(), Failure> {
    if chains.is_empty() {
        return Ok(());
    }
    print("\nrules of others that see the same packets:\n")?;
    let mut table = Table::new(&["HOOK", "PRIORITY", "TABLE", "CHAIN", "TYPE", "END", "BY"]);
    for chain in chains {
        table.row(vec![
            chain.hook.to_owned(),
            chain.priority.to_string(),
            chain.table.clone(),
            chain.chain.clone(),
            chain.kind.clone(),
            chain.end.to_owned(),
            chain.by.unwrap_or_default().to_owned(),
        ]);
    }
    table.print(context)
}
