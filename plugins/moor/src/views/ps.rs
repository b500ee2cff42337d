//! `moor ps`: the attachments of every runtime.

use std::borrow::Cow;

use clap::Args;

use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::model::{Attachment, Model, Port, State};
use crate::networks::Networks;
use crate::output::{self, Note, Table, escaped};
use crate::overlay::{self, Remote};

/// The arguments of `moor ps`.
#[derive(Args)]
pub struct PsArgs {
    /// Networks or containers; all when there is none
    #[arg(value_name = "NETWORK|CONTAINER")]
    wanted: Vec<String>,
    /// Also those that are gone, unrecorded or unknown
    #[arg(short, long)]
    all: bool,
    /// Also those on other hosts of the cluster, as this host's agent knows them
    #[arg(long)]
    hosts: bool,
    /// Only those that match: network, runtime, state, name, id or pod
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = Filter::parse)]
    filter: Vec<Filter>,
    /// Print only the containers' ids
    #[arg(short, long)]
    quiet: bool,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
}

const KEYS: [&str; 6] = ["network", "runtime", "state", "name", "id", "pod"];

/// A filter: several of one key are alternatives, and all keys must match.
#[derive(Clone, Debug)]
struct Filter {
    key: &'static str,
    value: String,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let known = KEYS.into_iter().find(|known| *known == key);
        let key = known.ok_or_else(|| format!("unknown key {key:?}; known are {}", KEYS.join(", ")))?;
        Ok(Self { key, value: value.to_owned() })
    }

    fn matches(&self, one: &Attachment) -> bool {
        let is = |text: Option<&str>| text == Some(self.value.as_str());
        match self.key {
            "network" => one.network == self.value,
            "runtime" => is(one.runtime.as_deref()),
            "state" => one.state.word() == self.value,
            "name" => is(one.name.as_deref()),
            "id" => one.container_id.starts_with(&self.value),
            _ => one.pod.as_ref().is_some_and(|pod| {
                pod.name == self.value || format!("{}/{}", pod.namespace, pod.name) == self.value
            }),
        }
    }
}

/// Prints the attachments.
pub fn run(context: &Context, args: &PsArgs) -> Result<Exit, Failure> {
    let networks = Networks::read(context);
    let model = Model::read(context, &networks);
    let mut chosen: Vec<Cow<'_, Attachment>> =
        chosen(&model, &networks, args)?.into_iter().map(Cow::Borrowed).collect();
    let mut notes = model.notes.clone();
    if args.hosts {
        let others = overlay::containers(&mut notes).into_iter().map(remote);
        chosen.extend(others.filter(|one| is_wanted(one, args)).map(Cow::Owned));
    }
    print(context, &notes, &chosen, args)?;
    Ok(if notes.is_empty() { Exit::Done } else { Exit::Incomplete })
}

fn chosen<'m>(model: &'m Model, networks: &Networks, args: &PsArgs) -> Result<Vec<&'m Attachment>, Failure> {
    let mut wanted: Vec<&Attachment> = Vec::new();
    for text in &args.wanted {
        let of_network: Vec<_> = model.attachments.iter().filter(|one| one.network == *text).collect();
        let found = if of_network.is_empty() && networks.named(text).is_none() {
            model.resolve(text)?
        } else {
            of_network
        };
        wanted.extend(found);
    }
    let mut chosen = if args.wanted.is_empty() { model.attachments.iter().collect() } else { wanted };
    let asks_for_states = args.filter.iter().any(|filter| filter.key == "state");
    let is_shown = |one: &&Attachment| {
        let alive = matches!(one.state, State::Up | State::Drift) && one.ifname != "lo";
        args.all || asks_for_states || alive
    };
    chosen.retain(|one| is_shown(one) && matches(one, args));
    chosen.sort_by_key(|one| (&one.network, &one.container_id, &one.ifname));
    chosen.dedup_by(|a, b| std::ptr::eq(*a, *b));
    Ok(chosen)
}

fn matches(one: &Attachment, args: &PsArgs) -> bool {
    KEYS.iter().all(|key| {
        let mut of_key = args.filter.iter().filter(|filter| filter.key == *key).peekable();
        of_key.peek().is_none() || of_key.any(|filter| filter.matches(one))
    })
}

/// A container on another host, which has neither a link nor a runtime here.
fn remote(one: Remote) -> Attachment {
    Attachment {
        network: one.network,
        name: one.names.first().cloned(),
        addresses: one.addresses,
        names: one.names,
        host: Some(if one.host.is_empty() { one.host_id } else { one.host }),
        state: if one.silent { State::Silent } else { State::Remote },
        ..Attachment::default()
    }
}

/// Whether a container on another host is one that was asked for: by its network or a name.
fn is_wanted(one: &Attachment, args: &PsArgs) -> bool {
    let named = |text: &String| one.network == *text || one.names.contains(text);
    (args.wanted.is_empty() || args.wanted.iter().any(named)) && matches(one, args)
}

fn print(
    context: &Context,
    notes: &[Note],
    chosen: &[Cow<'_, Attachment>],
    args: &PsArgs,
) -> Result<(), Failure> {
    if context.json {
        let items: Vec<&Attachment> = chosen.iter().map(AsRef::as_ref).collect();
        return output::document("attachments", &items, notes);
    }
    output::notes(notes);
    if args.quiet {
        let here = chosen.iter().filter(|one| one.host.is_none());
        let mut ids: Vec<&str> = here.map(|one| one.container_id.as_str()).collect();
        ids.dedup();
        let text: String = ids.iter().map(|id| format!("{}\n", escaped(id).replace('\n', "\\n"))).collect();
        return output::print(&text);
    }
    let heads =
        ["CONTAINER", "NETWORK", "IF", "ADDRESSES", "MAC", "HOST LINK", "PORTS", "NAMES", "RUNTIME", "STATE"];
    let mut table = Table::new(&heads);
    for one in chosen {
        let name = match (&one.name, args.no_trunc) {
            (Some(name), _) => name.clone(),
            (None, true) => one.container_id.clone(),
            (None, false) => one.short_id().to_owned(),
        };
        table.row(vec![
            name,
            one.network.clone(),
            one.ifname.clone(),
            words(&one.addresses),
            one.mac.clone().unwrap_or_default(),
            one.host
                .as_ref()
                .map_or_else(|| one.host_link.clone().unwrap_or_default(), |host| format!("on {host}")),
            words(&one.ports),
            words(&one.names),
            one.runtime.clone().unwrap_or_default(),
            one.state.word().to_owned(),
        ]);
    }
    table.print(context)
}

fn words<T: ToString>(all: &[T]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host_ip.filter(|ip| !ip.is_unspecified()) {
            Some(ip) if ip.is_ipv6() => write!(f, "[{ip}]:")?,
            Some(ip) => write!(f, "{ip}:")?,
            None => {}
        }
        write!(f, "{}->{}/{}", self.host_port, self.container_port, self.protocol)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        ps: PsArgs,
    }

    #[test]
    fn containers_on_other_hosts_are_chosen_by_network_and_name() {
        let of = |host: &str, silent, name: &str| {
            remote(Remote {
                network: "front".into(),
                host: host.into(),
                host_id: "00000000000000aa".into(),
                silent,
                names: vec![name.into(), "www".into()],
                addresses: vec!["10.9.0.80".parse().unwrap()],
            })
        };
        let all = [of("node-b", false, "web"), of("", true, "db")];
        assert_eq!((all[0].host.as_deref(), all[0].state.word()), (Some("node-b"), "remote"));
        assert_eq!((all[1].host.as_deref(), all[1].state.word()), (Some("00000000000000aa"), "silent"));
        let chosen = |line: &str| {
            let args = Line::try_parse_from(["ps"].into_iter().chain(line.split_whitespace())).unwrap().ps;
            all.iter().filter(|one| is_wanted(one, &args)).map(Attachment::shown_name).collect::<Vec<_>>()
        };
        assert_eq!(chosen("--hosts"), ["web", "db"]);
        assert_eq!(chosen("--hosts front"), ["web", "db"]);
        assert_eq!(chosen("--hosts db"), ["db"]);
        assert_eq!(chosen("--hosts -f state=silent"), ["db"]);
        assert_eq!(chosen("--hosts back"), [""; 0]);
    }
}
