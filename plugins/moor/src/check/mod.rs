//! `moor check`: whether attachments are as their records say. First by comparing record and
//! kernel, whoever made the attachment, then by CHECK of its plugins.

mod compare;
mod expected;
mod fix;
mod plugins;
mod seen;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use netlink::Netlink;
use runtime::Conflist;
use serde::Serialize;
use serde_json::Value;

use crate::context::{Context, require_root};
use crate::doctor;
use crate::failure::{Exit, Failure};
use crate::model::{Attachment, Drift, Model, State};
use crate::networks::Networks;
use crate::output::{Note, document, escaped, notes, print};

use expected::Expected;
use plugins::{Fault, Manner};

/// The arguments of `moor check`.
#[derive(Args)]
pub struct CheckArgs {
    /// Containers or networks; all attachments when there is none
    #[arg(value_name = "CONTAINER|NETWORK")]
    wanted: Vec<String>,
    /// Mend rules, names, leases and bridge ports; with `readd`, attach one container again
    #[arg(long, visible_alias = "repair", value_name = "HOW", num_args = 0..=1, require_equals = true,
        default_missing_value = "mild")]
    fix: Option<Fix>,
}

/// How far mending goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fix {
    /// Without a new attachment
    Mild,
    /// DEL and ADD, for one container
    Readd,
}

/// The state of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Drift,
    Unknown,
}

/// One attachment.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    network: String,
    container_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    ifname: String,
    state: Verdict,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drift: Vec<Drift>,
    /// What the plugins found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<Fault>,
    /// Why CHECK was not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_checked: Option<String>,
    /// `changed` or `missing`, compared with the list at the time of ADD.
    #[serde(skip_serializing_if = "Option::is_none")]
    conflist: Option<&'static str>,
    /// What was mended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixed: Vec<String>,
    /// What could not be mended.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record_file: Option<PathBuf>,
}

/// Runs the command.
pub fn run(context: &Context, args: &CheckArgs) -> Result<Exit, Failure> {
    require_root("records and namespaces are visible to root only")?;
    let networks = Networks::read(context);
    let model = Model::read(context, &networks);
    let chosen = chosen(&model, &networks, &args.wanted)?;
    if args.fix == Some(Fix::Readd) {
        let ids: std::collections::BTreeSet<_> = chosen.iter().map(|one| &one.container_id).collect();
        if args.wanted.len() != 1 || ids.len() != 1 {
            return Err(Failure::usage("--fix=readd is for one container: name it"));
        }
    }
    let before: Vec<Item> =
        chosen.iter().map(|one| Check::new(context, &networks, &model, one).item(false)).collect();
    let Some(fix) = args.fix else { return report(context, &model, &before) };
    let mut mended = Vec::new();
    let common = match fix::rules() {
        Ok(done) => done,
        Err(reason) => vec![format!("not made again: {reason}")],
    };
    for (one, item) in chosen.iter().zip(&before) {
        mended.push(Check::new(context, &networks, &model, one).mend(fix, item));
    }
    // Looks again: what is wrong now is what could not be mended.
    let model = Model::read(context, &networks);
    let again = self::chosen(&model, &networks, &args.wanted)?;
    let mut items = Vec::new();
    for one in again {
        let mut item = Check::new(context, &networks, &model, one).item(true);
        let is_same = |before: &&Item| before.is(one);
        if let Some(at) = before.iter().position(|before| is_same(&before)) {
            (item.fixed, item.failed) = std::mem::take(&mut mended[at]);
            if item.state == Verdict::Ok && !before[at].plugins.is_empty() {
                item.fixed.extend(common.clone());
            }
        }
        items.push(item);
    }
    if items.iter().all(|item| item.fixed.is_empty()) && !common.is_empty() {
        common.iter().for_each(|line| eprintln!("moor: {line}"));
    }
    report(context, &model, &items)
}

/// The recorded attachments that were asked for.
fn chosen<'m>(
    model: &'m Model,
    networks: &Networks,
    wanted: &[String],
) -> Result<Vec<&'m Attachment>, Failure> {
    let mut chosen: Vec<&Attachment> = Vec::new();
    for text in wanted {
        let of_network: Vec<_> = model.attachments.iter().filter(|one| one.network == *text).collect();
        let is_network = !of_network.is_empty() || networks.named(text).is_some();
        chosen.extend(if is_network { of_network } else { model.resolve(text)? });
    }
    if wanted.is_empty() {
        chosen = model.attachments.iter().collect();
    }
    chosen.retain(|one| one.record.is_some());
    chosen.sort_by_key(|one| (&one.network, &one.container_id, &one.ifname));
    chosen.dedup_by(|a, b| std::ptr::eq(*a, *b));
    Ok(chosen)
}

/// The check of one attachment.
struct Check<'c> {
    context: &'c Context,
    networks: &'c Networks,
    model: &'c Model,
    one: &'c Attachment,
    /// The list of the time of ADD, else the present one.
    list: Option<Conflist>,
    expected: Expected,
}

impl<'c> Check<'c> {
    fn new(context: &'c Context, networks: &'c Networks, model: &'c Model, one: &'c Attachment) -> Self {
        let record = one.record.as_deref();
        let cached = record.and_then(|record| Conflist::from_bytes(&record.config).ok());
        let list = cached.or_else(|| networks.named(&one.network).map(|network| network.list.clone()));
        let expected =
            record.map(|record| Expected::of(record, list.as_ref(), &context.cache_dir)).unwrap_or_default();
        Self { context, networks, model, one, list, expected }
    }

    fn item(&self, may_mend: bool) -> Item {
        let Self { model, one, .. } = self;
        let mut item = Item {
            network: one.network.clone(),
            container_id: one.container_id.clone(),
            name: one.name.clone(),
            ifname: one.ifname.clone(),
            state: Verdict::Ok,
            drift: Vec::new(),
            plugins: Vec::new(),
            not_checked: None,
            conflist: self.conflist(),
            fixed: Vec::new(),
            failed: Vec::new(),
            record_file: one.record_file.clone(),
        };
        match one.state {
            State::Unknown if !self.is_seen() => {
                item.state = Verdict::Unknown;
                item.not_checked = Some("the namespace could not be looked at".into());
                return item;
            }
            State::Gone if one.namespace.is_none() => {
                let path = one.netns.clone().unwrap_or_default();
                item.drift.push(Drift { what: "namespace", expected: path, actual: "gone".into() });
            }
            _ => item.drift = compare::drifts(&self.expected, &seen::look(model, one, &self.expected)),
        }
        if one.namespace.is_some() {
            self.ask(&mut item, may_mend);
        }
        if !item.drift.is_empty() || !item.plugins.is_empty() {
            item.state = Verdict::Drift;
        }
        item
    }

    /// Whether its namespace was looked at. A process's may be another one by now.
    fn is_seen(&self) -> bool {
        let namespace = self.one.namespace.and_then(|at| self.model.kernel.namespaces.get(at));
        let is_by_process = self.one.netns.as_deref().is_none_or(|path| path.starts_with("/proc"));
        namespace.is_some_and(|namespace| namespace.fault.is_none()) && !is_by_process
    }

    /// CHECK of the plugins.
    fn ask(&self, item: &mut Item, may_mend: bool) {
        let (Some(list), Some(record)) = (&self.list, &self.one.record) else {
            item.not_checked = Some("there is no list of its plugins".into());
            return;
        };
        if !may_mend && item.drift.iter().any(|drift| drift.what == "lease") {
            // CHECK of host-local brings its index up to date.
            item.not_checked = Some("its lease is not as it was".into());
            return;
        }
        let cookie = Netlink::open().ok().and_then(|netlink| netlink.netns_cookie());
        let responder = doctor::responder(cookie);
        let manner = if may_mend { Manner::Mend } else { Manner::Look };
        let has_dns = list.plugins.iter().any(|plugin| plugin.plugin_type == "dns");
        // CHECK of dns would start it.
        let asks_dns = may_mend || responder != Some(false);
        if has_dns && !asks_dns {
            item.drift.push(Drift {
                what: "responder",
                expected: "runs".into(),
                actual: "does not run".into(),
            });
        }
        let checked = plugins::check(self.context, list, &record.attachment, manner, asks_dns);
        item.plugins = checked.faults;
        item.not_checked = checked.not_run;
    }

    /// Whether the present list differs from that of ADD.
    fn conflist(&self) -> Option<&'static str> {
        let record = self.one.record.as_deref().filter(|record| !record.config.is_empty())?;
        let Some(present) = self.networks.named(&self.one.network) else { return Some("missing") };
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
        (value(&record.config) != value(&present.list.bytes)).then_some("changed")
    }

    /// Mends this attachment. What was done, and what failed.
    fn mend(&self, fix: Fix, before: &Item) -> (Vec<String>, Vec<String>) {
        let seen = seen::look(self.model, self.one, &self.expected);
        let (mut fixed, mut failed) = (Vec::new(), Vec::new());
        let mut outcomes = Vec::new();
        if before.state == Verdict::Drift && self.one.namespace.is_some() {
            outcomes.extend(fix::attachment(self.model, self.one, &self.expected, &seen));
        }
        let needs_add = seen.link.is_none() || before.drift.iter().any(|drift| drift.what != "lease");
        if fix == Fix::Readd && before.state == Verdict::Drift && needs_add && self.one.namespace.is_some() {
            outcomes.push(match (&self.one.record, &self.list) {
                (Some(record), Some(list)) => fix::readd(self.context, record, list, &self.expected),
                _ => Err("there is no list of its plugins".into()),
            });
        }
        for outcome in outcomes {
            match outcome {
                Ok(done) => fixed.push(done),
                Err(reason) => failed.push(reason),
            }
        }
        (fixed, failed)
    }
}

impl Item {
    fn is(&self, one: &Attachment) -> bool {
        self.network == one.network && self.container_id == one.container_id && self.ifname == one.ifname
    }

    fn text(&self) -> String {
        let word = match self.state {
            Verdict::Ok => "ok",
            Verdict::Drift => "drift",
            Verdict::Unknown => "cannot tell",
        };
        let name = self.name.as_deref().unwrap_or(&self.container_id);
        let mut lines = vec![format!("{word:<11}  {} {name} {}", self.network, self.ifname)];
        lines.extend(self.drift.iter().map(|Drift { what, expected, actual }| {
            format!("{:13}{what}: expected {expected}, actual {actual}", "")
        }));
        lines.extend(
            self.plugins.iter().map(|fault| format!("{:13}CHECK of {}: {}", "", fault.plugin, fault.text)),
        );
        lines.extend(self.not_checked.iter().map(|why| format!("{:13}CHECK was not run: {why}", "")));
        lines.extend(self.conflist.iter().map(|how| match *how {
            "missing" => format!("{:13}its conflist is no more", ""),
            _ => format!("{:13}its conflist has changed since ADD", ""),
        }));
        lines.extend(self.fixed.iter().map(|done| format!("{:13}fixed: {done}", "")));
        lines.extend(self.failed.iter().map(|reason| format!("{:13}not fixed: {reason}", "")));
        lines.iter().map(|line| escaped(line).replace('\n', "\\n") + "\n").collect()
    }
}

fn report(context: &Context, model: &Model, items: &[Item]) -> Result<Exit, Failure> {
    let said: &[Note] = &model.notes;
    if context.json {
        document("check", items, said)?;
    } else {
        notes(said);
        print(&items.iter().map(Item::text).collect::<String>())?;
    }
    let any = |state: Verdict| items.iter().any(|item| item.state == state);
    Ok(if any(Verdict::Drift) {
        Exit::Found
    } else if any(Verdict::Unknown) || !said.is_empty() {
        Exit::Incomplete
    } else {
        Exit::Done
    })
}
