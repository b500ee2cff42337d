//! `moor network create`: a description becomes a conflist, by a pure function; then it is held
//! against the host and the other networks; then it is written.

mod address;
mod args;
mod choose;
mod conflist;
mod driver;
mod host;
mod options;
mod overlay;
mod plan;
mod same;
mod spec;

use std::env;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::networks::{self, Network, Networks};
use crate::output::{Note, document, notes, print};
use crate::subnets::{self, Subnet};

use super::directory::Directory;
use host::Host;
use plan::{Driver, Ipam, Plan};

pub use args::CreateArgs;
pub use choose::first_address;
pub use conflist::{AUX_LABEL, Suite};
pub use host::bridges;
pub use spec::Spec;

/// The kind of its document.
pub const KIND: &str = "network";

/// How a network is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Nothing is written.
    pub dry_run: bool,
    /// A network that is there with the same content is no error.
    pub ignore: bool,
    /// The file may be the first of the directory.
    pub first: bool,
    /// A given subnet may overlap others.
    pub allow_overlap: bool,
}

/// A network that was made, or that was there already.
#[derive(Debug)]
pub struct Created {
    /// The file.
    pub file: PathBuf,
    /// Its text, as it is or would be.
    pub text: Vec<u8>,
    /// False when it was there.
    pub made: bool,
    /// What the person should know.
    pub notes: Vec<Note>,
}

/// Runs the command.
pub fn run(context: &Context, args: &CreateArgs) -> Result<Exit, Failure> {
    let (spec, manner) = (args.spec()?, args.manner());
    let created = create(context, &spec, manner)?;
    if context.json {
        return report(&spec, &created, manner);
    }
    notes(&created.notes);
    if manner.dry_run {
        print(&String::from_utf8_lossy(&created.text))?;
    } else {
        print(&format!("{}\n", spec.name))?;
    }
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Item<'i> {
    id: String,
    name: &'i str,
    file: &'i Path,
    made: bool,
    list: Value,
}

fn report(spec: &Spec, created: &Created, manner: Manner) -> Result<Exit, Failure> {
    let item = Item {
        id: networks::id(&spec.name),
        name: &spec.name,
        file: &created.file,
        made: created.made && !manner.dry_run,
        list: value(&created.text)?,
    };
    document(KIND, &[item], &created.notes)?;
    Ok(Exit::Done)
}

/// Checks a description for itself: neither the host nor other networks are looked at.
pub fn check(spec: &Spec) -> Result<(), Failure> {
    Plan::of(spec).map(drop)
}

/// The conflist of a description, as text. A subnet that is to be chosen is missing in it.
pub fn conflist(spec: &Spec, suite: Suite) -> Result<Vec<u8>, Failure> {
    Ok(conflist::text(&Plan::of(spec)?, suite))
}

/// Whether a network that is there has other content than one of this description would have.
pub fn differs(context: &Context, spec: &Spec, present: &Network) -> Result<bool, Failure> {
    let plan = Plan::of(spec)?;
    let suite = suite(context, &plan)?;
    Ok(there(present, plan, suite, Manner { ignore: true, ..Manner::default() }).is_err())
}

/// Makes a network. `dry_run` changes nothing and waits for nobody.
pub fn create(context: &Context, spec: &Spec, manner: Manner) -> Result<Created, Failure> {
    let mut plan = Plan::of(spec)?;
    let suite = suite(context, &plan)?;
    overlay::ensure_cluster(&plan)?;
    let dir = context.dirs.first().ok_or_else(|| Failure::usage("there is no configuration directory"))?;
    let directory = if manner.dry_run { None } else { Some(Directory::lock(dir)?) };
    let networks = Networks::read(context);
    if let Some(present) = networks.named(&plan.name) {
        return there(present, plan, suite, manner);
    }
    let host = Host::read()?;
    if let Some(net) = host.of_cluster(&plan.name).filter(|_| plan.driver == Driver::Overlay) {
        overlay::follow(&mut plan, net)?;
    }
    host.ensure_links(&plan, &networks)?;
    if !manner.allow_overlap {
        host.ensure_no_overlap(&plan, &networks)?;
    }
    let chosen = choose(&mut plan, &host, &networks)?;
    let mut notes = networks.notes.clone();
    notes.extend(remarks(&plan, suite, &host, chosen, dir));
    let name = file_name(&plan);
    notes.extend(ensure_place(dir, &name, manner)?);
    let text = conflist::text(&plan, suite);
    if let Some(directory) = directory {
        directory.create(&name, &text)?;
    }
    Ok(Created { file: dir.join(name), text, made: true, notes })
}

/// Which optional plugins there are. Those that the list must have are looked for, too.
fn suite(context: &Context, plan: &Plan) -> Result<Suite, Failure> {
    let has = |name: &str| runtime::find_plugin(name, &context.cni_path).is_ok();
    let path = || context.cni_path.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    let publishes = matches!(plan.driver, Driver::Bridge | Driver::Overlay);
    let portmap = publishes && !plan.internal && plan.ipam.has_subnets();
    let needed = [
        Some(plan.driver.plugin()),
        plan.ipam.plugin(),
        portmap.then_some("portmap"),
        (plan.dns == Some(true)).then_some("dns"),
        (plan.isolate == Some(true)).then_some("firewall"),
    ];
    if let Some(missing) = needed.into_iter().flatten().find(|name| !has(name)) {
        return Err(Failure::refused(format!("plugin {missing} is not in {}", path()))
            .hint("--cni-path names others"));
    }
    Ok(Suite::found(context))
}

/// A network of this name is there.
fn there(present: &Network, mut plan: Plan, suite: Suite, manner: Manner) -> Result<Created, Failure> {
    let file = present.file.display();
    if !manner.ignore {
        let line = line_of_name(present).map_or(String::new(), |line| format!(":{line}"));
        return Err(Failure::refused(format!("network {} is there already: {file}{line}", plan.name)));
    }
    // What was not asked for is as it is.
    for subnet in subnets::of(&present.list) {
        let lacks = if subnet.subnet.is_ipv4() { &mut plan.lacks_ipv4 } else { &mut plan.lacks_ipv6 };
        if std::mem::take(lacks) {
            // In the order in which `choose` has them.
            let at = if subnet.subnet.is_ipv4() { 0 } else { plan.subnets.len() };
            plan.subnets.insert(at, subnet);
        }
    }
    let text = conflist::text(&plan, suite);
    let different = same::differences(&Value::Object(present.object.clone()), &value(&text)?);
    if different.is_empty() {
        let notes = Vec::new();
        return Ok(Created { file: present.file.clone(), text, made: false, notes });
    }
    let text = format!("network {} is there with other content: {file}", plan.name);
    Err(Failure::refused(text).hint(different.join("\n")))
}

fn value(text: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(text).map_err(|error| Failure::refused(format!("read what was made: {error}")))
}

/// The line of the file that has the network's name.
fn line_of_name(network: &Network) -> Option<usize> {
    let bytes = crate::files::read(&network.file, networks::SIZE_MAX).ok()?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let name = serde_json::to_string(network.name()).ok()?;
    let line = text.lines().position(|line| line.contains("\"name\"") && line.contains(&name))?;
    Some(line + 1)
}

/// Chooses the subnets that are not given; true when one was.
fn choose(plan: &mut Plan, host: &Host, networks: &Networks) -> Result<bool, Failure> {
    let before = plan.subnets.len();
    let is_free = |subnet| host.is_free(subnet, networks);
    if plan.lacks_ipv4 {
        let pool = choose::Pool::of(env::var(choose::VARIABLE).ok().as_deref())?;
        let subnet = pool.first_free(is_free)?;
        plan.subnets.insert(0, chosen(subnet));
    }
    if plan.lacks_ipv6 {
        let subnet = choose::unique_local(&host::machine_id(), &plan.name, is_free)?;
        plan.subnets.push(chosen(subnet));
    }
    Ok(plan.subnets.len() > before)
}

fn chosen(subnet: ipnetwork::IpNetwork) -> Subnet {
    Subnet { subnet, gateway: Some(first_address(subnet)), ranges: Vec::new() }
}

fn remarks(plan: &Plan, suite: Suite, host: &Host, chosen: bool, dir: &Path) -> Vec<Note> {
    let mut notes = Vec::new();
    let mut note = |code, text: &str| notes.push(Note::new(code, text));
    let bridge = plan.driver == Driver::Bridge;
    if plan.driver == Driver::Overlay {
        note("every-host", "the network is one over all hosts that have this file: copy it as it is");
        if chosen && host.of_cluster(&plan.name).is_none() {
            note(
                "chosen",
                "the subnet is free here: make sure that no other host uses it for something else",
            );
        }
    }
    let wire = matches!(plan.driver, Driver::Macvlan | Driver::Ipvlan);
    if bridge && !suite.firewall && plan.isolate.is_none() && plan.ipam != Ipam::Nobody {
        note("not-isolated", "no plugin firewall in the path: bridges of this host reach each other");
    }
    if wire && !plan.internal && chosen {
        note(
            "gateway",
            "the subnet is a chosen one: give --subnet and --gateway of the wire to reach the outside",
        );
    }
    if wire && !plan.internal && plan.parent.is_none() && !host.has_uplink() {
        note("parent", "this host has no default route, so there is no parent yet: -o parent=LINK names one");
    }
    if host::podman_prunes(dir) {
        note(
            "podman-prune",
            "podman network prune removes every network that no container of podman's uses, this one too",
        );
    }
    notes
}

fn file_name(plan: &Plan) -> String {
    let prefix = if plan.for_nerdctl { "nerdctl" } else { "moor" };
    format!("{prefix}-{}.conflist", plan.name)
}

/// Containerd and CRI-O give pods the first file: a new one must not become it unasked.
fn ensure_place(dir: &Path, name: &str, manner: Manner) -> Result<Option<Note>, Failure> {
    let names = networks::file_names(dir)
        .map_err(|error| Failure::refused(format!("list {}: {error}", dir.display())))?;
    match names.first() {
        None => {
            Ok(Some(Note::new("first", "the first network here: containerd and CRI-O would use it for pods")))
        }
        Some(first) if name < first.as_str() && !manner.first => {
            let text =
                format!("{name} would come before {first}, which containerd and CRI-O give to pods now");
            Err(Failure::refused(text).hint("--first insists"))
        }
        Some(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
