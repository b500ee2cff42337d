//! `moor names`: the names that Moor's DNS answers for containers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use clap::Args;
use dns::probe;
use serde::Serialize;
use sys::IpFamily;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::{Model, Named, Place};
use crate::networks::Networks;
use crate::output::{self, Table};

/// Where a container asks that does so in its own namespace.
const INSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);
/// How long a responder has for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The arguments of `moor names`.
#[derive(Args)]
pub struct NamesArgs {
    /// Networks or containers; all when there is none
    #[arg(value_name = "NETWORK|CONTAINER")]
    wanted: Vec<String>,
    /// Ask the responder too, and mark what it answers differently
    #[arg(long)]
    ask: bool,
}

/// A name of a container.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
    addresses: Vec<IpAddr>,
    container_id: String,
    container: String,
    ifname: String,
    network: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Answer>,
}

/// What the responder answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// Whether it has the record's addresses, and no others than the network's records have.
    agrees: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Prints the names.
pub fn run(context: &Context, args: &NamesArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let model = Model::read(context, &networks);
    let chosen = chosen(&model, &networks, &args.wanted)?;
    let answers = if args.ask { ask(&model, &chosen) } else { BTreeMap::new() };
    let items: Vec<Item> = chosen.iter().flat_map(|named| items(&model, named, &answers)).collect();
    if context.json {
        output::document("names", &items, &model.notes)?;
    } else {
        output::notes(&model.notes);
        print(context, &items, args.ask)?;
    }
    let differs = items.iter().any(|item| item.answer.as_ref().is_some_and(|answer| !answer.agrees));
    Ok(model.exit(if differs { Exit::Found } else { Exit::Done }))
}

fn chosen<'m>(model: &'m Model, networks: &Networks, wanted: &[String]) -> Result<Vec<&'m Named>, Failure> {
    if wanted.is_empty() {
        return Ok(model.names.iter().collect());
    }
    let mut chosen = Vec::new();
    for text in wanted {
        let of_network: Vec<_> = model.names.iter().filter(|named| named.network == *text).collect();
        if !of_network.is_empty() || networks.named(text).is_some() {
            chosen.extend(of_network);
            continue;
        }
        let ids: BTreeSet<_> = model.resolve(text)?.iter().map(|one| one.container_id.as_str()).collect();
        chosen.extend(model.names.iter().filter(|named| ids.contains(named.container_id.as_str())));
    }
    Ok(chosen)
}

/// Network, name, and for a container that asks inside of its namespace the container.
type Question = (String, String, Option<String>);
type Answers = BTreeMap<Question, io::Result<Vec<IpAddr>>>;

fn question(named: &Named, name: &str) -> Question {
    let inside = named.servers.is_empty().then(|| named.container_id.clone());
    (named.network.clone(), name.to_owned(), inside)
}

/// Asks once for each name of a network. After a server did not answer, it is not asked again.
fn ask(model: &Model, chosen: &[&Named]) -> Answers {
    let mut answers = Answers::new();
    let mut silent = BTreeSet::new();
    for named in chosen {
        for name in &named.names {
            let question = question(named, name);
            if answers.contains_key(&question) {
                continue;
            }
            let server = (question.0.clone(), question.2.clone());
            let answer = match silent.contains(&server) {
                true => Err(io::ErrorKind::TimedOut.into()),
                false => ask_for(model, named, name),
            };
            if answer.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::InvalidData) {
                silent.insert(server);
            }
            answers.insert(question, answer);
        }
    }
    answers
}

fn ask_for(model: &Model, named: &Named, name: &str) -> io::Result<Vec<IpAddr>> {
    if let Some(server) = named.servers.first() {
        return both_families(SocketAddr::new(*server, named.port), name, &named.addresses);
    }
    let path = named.netns.as_deref().ok_or(io::ErrorKind::NotFound)?;
    let Place::At(at) = model.kernel.place(path) else { return Err(io::ErrorKind::NotFound.into()) };
    let namespace = model.kernel.namespaces.get(at).ok_or(io::ErrorKind::NotFound)?;
    let netns = namespace.open().map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
    let asked = std::thread::scope(|scope| {
        let inside = || netns.enter(|| both_families(INSIDE, name, &named.addresses));
        let thread = std::thread::Builder::new().spawn_scoped(scope, inside)?;
        thread.join().map_err(|_| io::Error::other("the thread that asked has ended"))
    })?;
    asked.map_err(|error| io::Error::other(format!("{error:#}")))?
}

/// Asks for the families that the record has.
fn both_families(server: SocketAddr, name: &str, expected: &[IpAddr]) -> io::Result<Vec<IpAddr>> {
    let mut all = Vec::new();
    for family in [IpFamily::V4, IpFamily::V6] {
        if expected.iter().any(|address| IpFamily::of(*address) == family) {
            all.extend(probe::addresses_at(server, name, family, Instant::now() + PATIENCE)?);
        }
    }
    Ok(all)
}

fn items(model: &Model, named: &Named, answers: &Answers) -> Vec<Item> {
    let attachment = model.attachments.iter().find(|one| one.container_id == named.container_id);
    let short = || named.container_id.get(..12).unwrap_or(&named.container_id);
    let container = attachment.map_or_else(short, |one| one.shown_name()).to_owned();
    let item = |name: &String| Item {
        name: name.clone(),
        addresses: named.addresses.clone(),
        container_id: named.container_id.clone(),
        container: container.clone(),
        ifname: named.ifname.clone(),
        network: named.network.clone(),
        answer: answers.get(&question(named, name)).map(|answer| judged(model, named, name, answer)),
    };
    named.names.iter().map(item).collect()
}

fn judged(model: &Model, named: &Named, name: &str, answer: &io::Result<Vec<IpAddr>>) -> Answer {
    match answer {
        Err(error) => Answer { agrees: false, addresses: Vec::new(), error: Some(error.to_string()) },
        Ok(addresses) => {
            let has = |one: &&Named| one.names.iter().any(|other| other == name);
            let known =
                |address: &IpAddr| model.names.iter().filter(has).any(|one| one.addresses.contains(address));
            let agrees = named.addresses.iter().all(|address| addresses.contains(address))
                && addresses.iter().all(known);
            Answer { agrees, addresses: addresses.clone(), error: None }
        }
    }
}

fn print(context: &Context, items: &[Item], asked: bool) -> Result<(), Failure> {
    let heads: &[&'static str] = match asked {
        true => &["NAME", "ADDRESSES", "CONTAINER", "NETWORK", "ANSWER"],
        false => &["NAME", "ADDRESSES", "CONTAINER", "NETWORK"],
    };
    let mut table = Table::new(heads);
    for item in items {
        let mut row =
            vec![item.name.clone(), words(&item.addresses), item.container.clone(), item.network.clone()];
        if asked {
            row.push(item.answer.as_ref().map_or(String::new(), |answer| {
                match (&answer.error, answer.agrees) {
                    (Some(error), _) => format!("none: {error}"),
                    (None, true) => "the same".into(),
                    (None, false) if answer.addresses.is_empty() => "no address".into(),
                    (None, false) => words(&answer.addresses),
                }
            }));
        }
        table.row(row);
    }
    table.print(context)
}

fn words(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
