//! `moor network ls`.

use clap::Args;
use nix::unistd::geteuid;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::Model;
use crate::networks::Networks;
use crate::output::{Note, Table, document, notes, print};
use crate::subnets::Subnet;

use super::described::Described;
use super::filter::{self, Filter};
use super::rm::of_network;

/// The kind of its document.
pub const KIND: &str = "networks";

/// How many characters of an id a table has.
const SHORT: usize = 12;

/// The arguments of `moor network ls`.
#[derive(Args)]
pub struct LsArgs {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Only networks with driver, id, in-use, internal, label, name or type as given
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Do not cut ids
    #[arg(long)]
    no_trunc: bool,
}

/// Lists the networks of every conflist.
pub fn run(context: &Context, args: &LsArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let described = networks.all.iter().enumerate().map(|(order, network)| Described::new(network, order));
    let mut listed = Listed { networks: described.collect(), notes: networks.notes.clone(), complete: true };
    listed.complete = listed.notes.is_empty();
    let needs_containers = args.filter.iter().any(Filter::needs_containers);
    if !args.quiet || context.json || needs_containers {
        listed.count(context, &networks, needs_containers);
    }
    listed.networks.retain(|network| filter::accepts(&args.filter, network));
    listed.print(context, args)?;
    Ok(if listed.complete { Exit::Done } else { Exit::Incomplete })
}

struct Listed {
    networks: Vec<Described>,
    notes: Vec<Note>,
    complete: bool,
}

impl Listed {
    /// Counts attachments. Who may not see them gets the list all the same, unless it depends on
    /// them.
    fn count(&mut self, context: &Context, networks: &Networks, necessary: bool) {
        if !geteuid().is_root() {
            let text = "needs root to count containers";
            self.complete &= !necessary;
            return self.notes.push(Note::new("containers", text));
        }
        let model = Model::of_attachments(context, networks);
        for network in &mut self.networks {
            let attached = of_network(&model, &network.name).filter(|one| one.may_be_alive());
            network.containers = Some(attached.count());
        }
        // What keeps them from being counted wholly is reported where the answer depends on it.
        self.complete &= !necessary || model.notes.is_empty();
        if necessary || context.json || context.verbose {
            self.notes.extend(model.notes);
        }
    }

    fn print(&self, context: &Context, args: &LsArgs) -> Result<(), Failure> {
        if context.json {
            return document(KIND, &self.networks, &self.notes);
        }
        notes(&self.notes);
        if args.quiet {
            let line = |network: &Described| format!("{}\n", id(network, args));
            return print(&self.networks.iter().map(line).collect::<String>());
        }
        let mut table = Table::new(&["NETWORK ID", "NAME", "DRIVER", "SUBNETS", "CONTAINERS", "FILE"]);
        for network in &self.networks {
            table.row(vec![
                id(network, args),
                network.name.clone(),
                network.driver.clone(),
                subnets(network),
                network.containers.map_or("?".into(), |count| count.to_string()),
                format!("{}{}", network.file_name(), if network.first { " (first: pods)" } else { "" }),
            ]);
        }
        table.print(context)
    }
}

fn id(network: &Described, args: &LsArgs) -> String {
    if args.no_trunc { network.id.clone() } else { network.id.chars().take(SHORT).collect() }
}

fn subnets(network: &Described) -> String {
    let text = |subnet: &Subnet| subnet.subnet.to_string();
    let all = network.subnets.iter().map(text).collect::<Vec<_>>().join(",");
    let internal = if network.internal { "(internal)" } else { "" };
    [all.as_str(), internal].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn described(files: &[(&str, &str)]) -> Vec<Described> {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, text)| std::fs::write(dir.path().join(name), text).unwrap());
        let networks = Networks::of(&[dir.path().to_owned()]);
        networks.all.iter().enumerate().map(|(order, network)| Described::new(network, order)).collect()
    }

    fn names(filters: &[&str], networks: &[Described]) -> Vec<String> {
        let filters: Vec<Filter> = filters.iter().map(|text| text.parse().unwrap()).collect();
        let passed = networks.iter().filter(|network| filter::accepts(&filters, network));
        passed.map(|network| network.name.clone()).collect()
    }

    const FRONT: &str = r#"{"name":"front","nerdctlLabels":{"team":"shop"},"plugins":[{"type":"bridge","bridge":"b",
        "isGateway":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}]]}}]}"#;
    const BACK: &str = r#"{"name":"back","args":{"podman_labels":{"team":"ops"}},
        "plugins":[{"type":"bridge","ipam":{"type":"host-local","subnet":"10.2.0.0/24"}}]}"#;
    const LAN: &str = r#"{"name":"lan","plugins":[{"type":"macvlan","master":"eth0"}]}"#;

    #[test]
    fn a_network_is_described_by_its_first_plugin_and_its_labels() {
        let all = described(&[("1.conflist", FRONT), ("2.conflist", BACK), ("3.conflist", LAN)]);
        let shown: Vec<_> = all.iter().map(|n| (n.driver.as_str(), subnets(n), n.internal)).collect();
        assert_eq!(shown[0], ("bridge", "10.1.0.0/24".into(), false));
        assert_eq!(shown[1], ("bridge", "10.2.0.0/24 (internal)".into(), true));
        assert_eq!(shown[2], ("macvlan", String::new(), false));
        assert_eq!((all[1].link.as_deref(), all[2].parent.as_deref()), (Some("cni0"), Some("eth0")));
    }

    #[test]
    fn filters_of_one_key_are_alternatives_and_of_two_keys_conditions() {
        let all = described(&[("1.conflist", FRONT), ("2.conflist", BACK), ("3.conflist", LAN)]);
        assert_eq!(names(&["label=team"], &all), ["front", "back"]);
        assert_eq!(names(&["label=team=ops"], &all), ["back"]);
        assert_eq!(names(&["name=front", "name=lan"], &all), ["front", "lan"]);
        assert_eq!(names(&["driver=bridge", "internal=false"], &all), ["front"]);
        assert_eq!(names(&["type=builtin"], &all), [""; 0]);
        assert_eq!(names(&["id=2d8d693177ac"], &all), ["front"]);
    }

    #[test]
    fn an_unknown_filter_is_refused_with_what_was_meant() {
        let refused = "lable=x".parse::<Filter>().unwrap_err();
        assert!(refused.contains("did you mean \"label\""), "{refused}");
        assert!("internal=yes".parse::<Filter>().is_err() && "driver".parse::<Filter>().is_err());
    }
}
