//! `moor gc`: what is left of dead attachments, of any runtime: records, leases, names, rules and
//! links. Without `--fix` it prints what it would remove.

mod claims;
mod fix;
mod leftover;
mod namespaces;
mod plan;
mod scope;

use std::time::{Duration, SystemTime};

use clap::Args;
use serde::Serialize;

use crate::context::{Context, require_root};
use crate::duration;
use crate::failure::{Exit, Failure};
use crate::model::{Model, State};
use crate::networks::Networks;
use crate::output::{Note, document, escaped, notes, print};

use leftover::{Key, Leftover};
use plan::{Alive, Plan};

/// The arguments of `moor gc`.
#[derive(Args)]
pub struct GcArgs {
    /// Networks; all when there is none
    #[arg(value_name = "NETWORK")]
    networks: Vec<String>,
    /// Keep everything of attachments that are younger
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    older_than: Duration,
    /// Remove what is left, instead of printing it
    #[arg(long)]
    fix: bool,
    /// Also networks of other plugins than Moor's and the reference's
    #[arg(long)]
    all: bool,
}

/// One object, and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'l> {
    #[serde(flatten)]
    leftover: &'l Leftover,
    /// `would remove`, `removed`, `left`.
    done: &'static str,
}

/// What was read at one time.
struct Look {
    networks: Networks,
    model: Model,
    plan: Plan,
    /// Networks that are left alone, each with the reason.
    refused: Vec<Note>,
}

/// Runs the command.
pub fn run(context: &Context, args: &GcArgs) -> Result<Exit, Failure> {
    require_root("records, leases and packet rules are visible to root only")?;
    let look = look(context, args)?;
    if args.fix && !look.model.is_whole {
        let reason = look.model.blindness().or_else(|| look.model.notes.first().cloned());
        let reason = reason.map(|note| note.text).unwrap_or_default();
        return Err(Failure::incomplete("nothing is removed: not everything could be looked at").hint(reason));
    }
    if args.fix && !look.plan.leftovers.is_empty() {
        return fix(context, args, &look);
    }
    let items = look.plan.leftovers.iter().map(|leftover| Item { leftover, done: "would remove" });
    let mut said = look.model.notes.clone();
    if !look.model.is_whole {
        said.extend(look.model.blindness().filter(|note| !said.contains(note)));
    }
    let is_incomplete = !said.is_empty();
    said.extend(look.refused.clone());
    said.extend(look.undated());
    if !args.fix {
        said.extend(namespaces::dead(&look.model));
    }
    report(context, &items.collect::<Vec<_>>(), &said)?;
    Ok(match (look.plan.leftovers.is_empty() && look.refused.is_empty(), is_incomplete) {
        (_, true) => Exit::Incomplete,
        (true, _) => Exit::Done,
        (false, _) => Exit::Found,
    })
}

/// Removes, and looks again: what is not there any more was removed.
fn fix(context: &Context, args: &GcArgs, before: &Look) -> Result<Exit, Failure> {
    let mut said = before.refused.clone();
    said.extend(fix::del(context, &before.networks, &before.model, &before.plan));
    let mut after = look(context, args)?;
    if !after.plan.leftovers.is_empty() {
        said.extend(fix::gc(context, &after.networks, &after.plan, args.all));
        after = look(context, args)?;
    }
    let item = |leftover| {
        let is_left = after.plan.leftovers.contains(leftover);
        Item { leftover, done: if is_left { "left" } else { "removed" } }
    };
    let items: Vec<_> = before.plan.leftovers.iter().map(item).collect();
    report(context, &items, &said)?;
    let is_done = items.iter().all(|item| item.done == "removed") && before.refused.is_empty();
    Ok(if is_done { Exit::Done } else { Exit::Found })
}

fn look(context: &Context, args: &GcArgs) -> Result<Look, Failure> {
    let networks = Networks::read(context);
    let mut model = Model::read(context, &networks);
    // A descriptor may still hold a namespace.
    model.deepen(&networks);
    let claims = claims::read(context, &networks, &mut model, args.older_than);
    let known = |name: &String| {
        networks.named(name).is_some() || claims.iter().any(|claim| claim.key.network == *name)
    };
    if let Some(missing) = args.networks.iter().find(|name| !known(name)) {
        return Err(Failure::refused(format!("no network {missing:?}, and nothing is left of one")));
    }
    let plan = plan::plan(&claims, &alive(&model), SystemTime::now(), args.older_than);
    let mut look = Look { networks, model, plan, refused: Vec::new() };
    look.limit(args);
    Ok(look)
}

fn alive(model: &Model) -> Alive {
    let attachments = model.attachments.iter().filter(|one| one.state != State::Gone);
    let containers = model.processes.by_pid.values().filter_map(|process| process.container.as_ref());
    Alive {
        is_whole: model.is_whole,
        attachments: attachments.map(|one| Key::new(&one.network, &one.container_id, &one.ifname)).collect(),
        processes: containers.map(|container| container.id.clone()).collect(),
    }
}

impl Look {
    /// Leaves alone what was not asked for, what is another program's, and what looks wrong.
    fn limit(&mut self, args: &GcArgs) {
        let Self { networks, model, plan, refused } = self;
        let lists = |key: &Key| scope::list_of(key, model, networks);
        plan.leave(|key| {
            let is_asked = args.networks.is_empty() || args.networks.contains(&key.network);
            let is_ours = args.all || lists(key).is_none_or(|list| scope::is_known(&list));
            !is_asked || !is_ours
        });
        let left: std::collections::BTreeSet<String> =
            plan.leftovers.iter().map(|leftover| leftover.key.network.clone()).collect();
        for network in left.iter().filter_map(|name| networks.named(name)) {
            let name = network.name();
            if network.list.disable_gc {
                refused.push(Note::new("disable-gc", format!("{name}: its conflist has disableGC")));
            } else if plan.valid.get(name).is_none_or(std::collections::BTreeSet::is_empty)
                && let Some(bridge) = scope::bridge_with_ports(network, model)
            {
                let text =
                    format!("{name}: no attachment is known, but {bridge} has ports; nothing is removed");
                refused.push(Note::new("ports", text));
            } else {
                continue;
            }
            plan.leave(|key| key.network == name);
        }
    }

    /// What may be of an ADD that runs.
    fn undated(&self) -> Vec<Note> {
        let note = |Key { network, container_id, ifname }: &Key| {
            let text = format!(
                "{network} {container_id} {ifname}: rules that no file dates; with --older-than 0s they go"
            );
            Note::new("undated", text)
        };
        self.plan.undated.iter().map(note).collect()
    }
}

fn report(context: &Context, items: &[Item<'_>], said: &[Note]) -> Result<(), Failure> {
    if context.json {
        return document("gc", items, said);
    }
    notes(said);
    let line = |item: &Item<'_>| escaped(&item.leftover.line(item.done)).replace('\n', "\\n") + "\n";
    print(&items.iter().map(line).collect::<String>())
}
