//! The keys of the plugins with a table: unknown ones, and values of another type or out of range
//! (L02x).

use cni::keys::{Key, Keys, Kind};
use serde_json::Number;

use crate::json::{Member, Node, Span, Value};
use crate::suggest::nearest;

use super::host::Plugins;
use super::read::shortened;
use super::report::{File, Plugin, Report};
use super::tables;

/// Checks the keys of one plugin, and those of its IPAM plugin.
pub(super) fn check(file: &File, plugin: &Plugin<'_>, plugins: Option<&Plugins>, report: &mut Report) {
    let Some(keys) = tables::keys_of_plugin(plugin.name).filter(|_| !tables::is_ipam(plugin.name)) else {
        return;
    };
    let ipam_keys = plugin.ipam.and_then(|(name, _)| tables::keys_of_plugin(name)).unwrap_or_default();
    let mut walk = Walk { file, report, name: plugin.name, plugins };
    for member in plugin.node.members() {
        match tables::kind_of(keys, &member.key) {
            Some(Kind::Ipam) => {}
            Some(kind) if !is_of_runtime(&member.key) => {
                walk.value(kind, &member.value, &member.key);
                walk.only_moors(member, &member.key, Some(kind));
            }
            // An IPAM plugin is given the whole configuration, and may have keys outside of `ipam`.
            None if !tables::is_common(&member.key) => match tables::kind_of(ipam_keys, &member.key) {
                Some(kind) => walk.value(kind, &member.value, &member.key),
                None => walk.unknown(member, keys, ""),
            },
            _ => {}
        }
    }
    for key in ["runtimeConfig", "args"] {
        if let Some(member) = plugin.node.any_case(key) {
            let known = [tables::section(keys, key), tables::section(ipam_keys, key)];
            walk.known_members(&known, &member.value, key);
        }
    }
    if let Some(member) = plugin.node.any_case("ipam")
        && matches!(tables::kind_of(keys, "ipam"), Some(Kind::Ipam))
    {
        walk.ipam(&member.value, plugin.ipam, ipam_keys);
    }
}

/// Sections that runtimes fill, with whatever they have.
fn is_of_runtime(key: &str) -> bool {
    key.eq_ignore_ascii_case("runtimeConfig") || key.eq_ignore_ascii_case("args")
}

struct Walk<'f, 'r> {
    file: &'f File,
    report: &'r mut Report,
    /// The plugin that the keys are of.
    name: &'f str,
    plugins: Option<&'f Plugins>,
}

impl<'f> Walk<'f, '_> {
    /// The section of an IPAM plugin.
    fn ipam(&mut self, node: &Node, of_type: Option<(&'f str, &Span)>, keys: Keys) {
        let source = &self.file.source;
        let Some((name, span)) = of_type else {
            if let Some(first) = node.members().first() {
                let text = "ipam has no \"type\", so no plugin gives addresses";
                self.report
                    .error("L024", source, &first.span, text)
                    .fix("add \"type\": \"host-local\", or another one");
            }
            return;
        };
        if tables::keys_of_plugin(name).is_none() || !tables::is_ipam(name) {
            return self.unknown_ipam(name, span);
        }
        let known = tables::section(keys, "ipam");
        let before = std::mem::replace(&mut self.name, name);
        for member in node.members().iter().filter(|member| !member.key.eq_ignore_ascii_case("type")) {
            match known.iter().find(|key| key.name.eq_ignore_ascii_case(&member.key)) {
                Some(key) => {
                    self.value(key.kind, &member.value, &format!("ipam.{}", key.name));
                    self.only_moors(member, &format!("ipam.{}", key.name), None);
                }
                None => self.unknown(member, &[known], "ipam."),
            }
        }
        self.name = before;
    }

    /// A plugin of others may have any name, but a slip of one of these is none.
    fn unknown_ipam(&mut self, name: &str, span: &Span) {
        if self.plugins.is_some_and(|plugins| plugins.find(name).is_some()) {
            return;
        }
        let near = nearest(name, tables::names().filter(|known| tables::is_ipam(known)));
        let is_other = tables::keys_of_plugin(name).is_some();
        if near.is_none() && !is_other {
            return;
        }
        let text = match is_other {
            true => format!("{name} gives no addresses: it is no IPAM plugin"),
            false => format!("there is no IPAM plugin {:?}", shortened(name)),
        };
        let fix =
            near.map_or("host-local, static or dhcp".to_owned(), |near| format!("did you mean \"{near}\"?"));
        self.report.error("L024", &self.file.source, span, text).fix(fix);
    }

    /// A value by its kind; `path` is its key.
    fn value(&mut self, kind: Kind, node: &Node, path: &str) {
        if node.value == Value::Null {
            return;
        }
        match (kind, &node.value) {
            (Kind::Bool, Value::Bool(_)) | (Kind::Text, Value::Text(_)) | (Kind::Any, _) => {}
            (Kind::Mtu(_), Value::Text(text)) if text == "auto" => {}
            (Kind::Number(least, most), Value::Number(number)) => {
                let fits = within(number, least, most);
                self.range(fits, node, path, &format!("an integer from {least} to {most}"));
            }
            (Kind::Mtu(most), Value::Number(number)) => {
                let fits = number.as_i64().map(|value| value <= most.try_into().unwrap_or(i64::MAX));
                self.range(fits, node, path, &format!("a number of bytes up to {most}, or \"auto\""));
            }
            (Kind::OneOf(words), Value::Text(text)) => self.word(words, text, node, path),
            (Kind::List(element), Value::Array(items)) => {
                items.iter().for_each(|item| self.value(*element, item, path));
            }
            (Kind::Object(keys), Value::Object(members)) => {
                for member in members {
                    match keys.iter().find(|key| key.name.eq_ignore_ascii_case(&member.key)) {
                        Some(key) => self.value(key.kind, &member.value, &format!("{path}.{}", key.name)),
                        None => self.unknown(member, &[keys], &format!("{path}.")),
                    }
                }
            }
            (Kind::Map(values), Value::Object(members)) => {
                members.iter().for_each(|member| self.value(*values, &member.value, path));
            }
            _ => self.wrong_type(kind, node, path),
        }
    }

    /// The members that have a key of one of these; the others are of other plugins.
    fn known_members(&mut self, known: &[&[Key]], node: &Node, path: &str) {
        for member in node.members() {
            let mut all = known.iter().flat_map(|keys| keys.iter());
            match all.find(|key| key.name.eq_ignore_ascii_case(&member.key)).map(|key| key.kind) {
                Some(Kind::Object(keys)) if path == "args" => {
                    self.known_members(&[keys], &member.value, "args.cni");
                }
                Some(kind) => self.value(kind, &member.value, &format!("{path}.{}", member.key)),
                None => {}
            }
        }
    }

    fn range(&mut self, fits: Option<bool>, node: &Node, path: &str, expected: &str) {
        if fits != Some(true) {
            let text = format!("{} of {} is {expected}", shortened(path), self.name);
            self.report.error("L022", &self.file.source, &node.span, text);
        }
    }

    fn word(&mut self, words: &[&'static str], text: &str, node: &Node, path: &str) {
        if text.is_empty() || words.contains(&text) {
            return;
        }
        let found = format!("{} of {} cannot be {:?}", shortened(path), self.name, shortened(text));
        let fix = match nearest(text, words.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("one of {}", words.join(", ")),
        };
        self.report.error("L022", &self.file.source, &node.span, found).fix(fix);
    }

    fn wrong_type(&mut self, kind: Kind, node: &Node, path: &str) {
        let expected = match kind {
            Kind::Bool => "true or false",
            Kind::Number(..) => "an integer",
            Kind::Mtu(_) => "a number of bytes, or \"auto\"",
            Kind::Text | Kind::OneOf(_) => "a string",
            Kind::List(Kind::List(_)) => "an array of arrays",
            Kind::List(_) => "an array",
            Kind::Object(_) | Kind::Map(_) | Kind::Ipam | Kind::Any => "an object",
        };
        let text = format!("{} of {} is {expected}, and this is {}", shortened(path), self.name, node.kind());
        let quoted = matches!(kind, Kind::Bool | Kind::Number(..) | Kind::Mtu(_)) && node.text().is_some();
        let fix = quoted.then(|| "without quotes".to_owned());
        self.report.error("L020", &self.file.source, &node.span, text).fix_if(fix);
    }

    fn unknown(&mut self, member: &Member, known: &[&'static [Key]], prefix: &str) {
        if is_note(&member.key) {
            return;
        }
        let key = shortened(&member.key);
        let source = &self.file.source;
        if prefix.is_empty()
            && let Some((owner, inside)) = tables::owner_of(&member.key)
        {
            let of = if inside { format!("ipam of {owner}") } else { owner.to_owned() };
            let text = format!("{key:?} is a key of {of}, and {} does not read it", self.name);
            let fix = if inside { "move it into \"ipam\"" } else { "move it, or remove it" };
            return self.report.warning("L026", source, &member.span, text).fix(fix);
        }
        let near = nearest(&member.key, known.iter().flat_map(|keys| keys.iter()).map(|key| key.name));
        let text = format!("no plugin {} knows the key \"{prefix}{}\"", self.name, key.escape_debug());
        let fix = near.map(|near| format!("did you mean \"{near}\"?"));
        self.report.warning("L021", source, &member.span, text).fix_if(fix);
    }

    /// L025: a key, or a value, that the installed plugin would ignore.
    fn only_moors(&mut self, member: &Member, path: &str, kind: Option<Kind>) {
        let Some(plugins) = self.plugins.filter(|_| !path.eq_ignore_ascii_case("dns")) else { return };
        let is_auto = matches!(kind, Some(Kind::Mtu(_))) && member.value.text().is_some();
        let is_moors = tables::reference_reads(self.name, path) == Some(false);
        // To know whose plugin it is, its file must be read.
        if !(is_auto || is_moors) || !plugins.is_references(self.name) {
            return;
        }
        let source = &self.file.source;
        if is_moors {
            let text = format!(
                "{path:?} is Moor's, and the reference's {} is installed, which ignores it",
                self.name
            );
            return self.report.warning("L025", source, &member.span, text).fix("install Moor's plugin");
        }
        if is_auto {
            let text =
                format!("the reference's {} is installed, which has no {path:?} of \"auto\"", self.name);
            self.report.warning("L025", source, &member.value.span, text).fix("install Moor's plugin");
        }
    }
}

/// Whether an integer is between these; `None` for a number with a fraction.
fn within(number: &Number, least: i64, most: u64) -> Option<bool> {
    match number.as_u64() {
        Some(value) => Some(value <= most && i64::try_from(value).map_or(true, |value| value >= least)),
        None => number.as_i64().map(|value| value >= least),
    }
}

/// What people write into JSON instead of comments, and what others add under names of their own.
fn is_note(key: &str) -> bool {
    let is_comment = key.to_ascii_lowercase().contains("comment");
    key.starts_with(['_', '#', '$']) || key.starts_with("x-") || key.contains(['.', '/', ':']) || is_comment
}
