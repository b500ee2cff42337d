//! What a runtime needs of a network: its name, its version, its plugins (L01x).

use cni::Version;
use runtime::version;

use crate::json::{Member, Node, Span, Value};
use crate::suggest::nearest;

use super::read::shortened;
use super::report::{File, Form, Report};

/// The keys of a list that a runtime reads.
const KEYS: [&str; 7] =
    ["cniVersion", "cniVersions", "disableCheck", "disableGC", "loadOnlyInlinedPlugins", "name", "plugins"];

/// podman up to 4 refuses the results of later versions.
const PODMAN_VERSION: &str = "1.0.0";

/// Checks a file as its runtime reads it.
pub(super) fn check(file: &File, report: &mut Report) {
    let Some(root) = &file.root else { return };
    match (&root.value, file.form) {
        (Value::Object(_), Form::List) => list(file, root, report),
        (Value::Object(_), Form::Single) => single(file, root, report),
        (Value::Object(_), Form::Part) => plugin(file, root, report),
        _ => {
            let text = format!("a network is an object, and this is {}", root.kind());
            report.error("L010", &file.source, &root.span, text);
        }
    }
}

fn list(file: &File, root: &Node, report: &mut Report) {
    name(file, root, root.member("name"), report);
    versions(file, root, report);
    for key in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
        flag(file, root.member(key), report);
    }
    match root.member("plugins") {
        None if file.parts > 0 => {}
        None => {
            let near = root.members().iter().find(|member| nearest(&member.key, ["plugins"]).is_some());
            let is_plugin = root.any_case("type").is_some();
            let text = if is_plugin {
                "one plugin in a .conflist, which is read as a list"
            } else {
                "the list has no \"plugins\""
            };
            let fix = match near {
                Some(_) => Some("did you mean \"plugins\"?"),
                None => {
                    is_plugin.then_some("put it into \"plugins\": [ ... ], without its name and cniVersion")
                }
            };
            let span = near.map_or(opening(root), |member| member.span.clone());
            report.error("L013", &file.source, &span, text).fix_if(fix.map(str::to_owned));
        }
        Some(plugins) => match &plugins.value.value {
            Value::Array(items) if items.is_empty() => {
                let text = "the list of plugins is empty";
                report.error("L013", &file.source, &plugins.value.span, text);
            }
            Value::Array(items) => items.iter().for_each(|item| plugin(file, item, report)),
            _ => {
                let text =
                    format!("\"plugins\" is an array of objects, and this is {}", plugins.value.kind());
                report.error("L013", &file.source, &plugins.value.span, text);
            }
        },
    }
    side_directory(file, root, report);
    nerdctl_id(file, root, report);
}

fn single(file: &File, root: &Node, report: &mut Report) {
    name(file, root, root.any_case("name"), report);
    let written = root.any_case("cniVersion");
    if let Some(member) = written {
        let known = known_version(file, member, report);
        if known && member.value.text().is_some_and(|text| version::at_least(text, "1.0.0") == Ok(true)) {
            let text = "CNI 1.0 has no files of one plugin, only lists";
            report
                .warning("L004", &file.source, &member.value.span, text)
                .fix("write a list into a .conflist");
        }
    }
    if root.member("plugins").is_none() {
        plugin(file, root, report);
    }
}

fn name(file: &File, root: &Node, written: Option<&Member>, report: &mut Report) {
    let Some(member) = written else {
        let near = root.members().iter().find(|member| member.key.eq_ignore_ascii_case("name"));
        let fix = near.map(|_| "keys of a list are in this case: \"name\"".to_owned());
        let span = near.map_or(opening(root), |member| member.span.clone());
        return report.error("L011", &file.source, &span, "the network has no \"name\"").fix_if(fix);
    };
    let span = &member.value.span;
    match member.value.text() {
        None => {
            let text = format!("\"name\" is a string, and this is {}", member.value.kind());
            report.error("L011", &file.source, span, text).fix_if(None);
        }
        Some(name) if !is_name(name) => report
            .error(
                "L011",
                &file.source,
                span,
                format!("{:?} cannot be the name of a network", shortened(name)),
            )
            .fix("a letter or digit, then letters, digits, '_', '.' and '-'"),
        Some(_) => {}
    }
}

/// The specification's rule for names, which every ADD checks.
fn is_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_part)
}

fn versions(file: &File, root: &Node, report: &mut Report) {
    let single = root.member("cniVersion");
    if let Some(member) = single
        && known_version(file, member, report)
        && member.value.text().is_some_and(|text| version::at_least(text, PODMAN_VERSION) == Ok(true))
        && member.value.text() != Some(PODMAN_VERSION)
    {
        let text = "podman up to 4 runs no network of a \"cniVersion\" above 1.0.0";
        report
            .warning("L016", &file.source, &member.value.span, text)
            .fix("\"1.0.0\", and \"cniVersions\": [\"1.0.0\", \"1.1.0\"] for those that know it");
    }
    let Some(many) = root.member("cniVersions") else { return };
    match &many.value.value {
        Value::Array(items) => items.iter().for_each(|item| listed_version(file, item, report)),
        _ => {
            let text = format!("\"cniVersions\" is an array of strings, and this is {}", many.value.kind());
            report.error("L015", &file.source, &many.value.span, text);
        }
    }
    if single.is_none() {
        let text = "\"cniVersions\" without \"cniVersion\": runtimes before 1.1 take this for 0.1.0";
        report.warning("L017", &file.source, &many.span, text).fix("add \"cniVersion\": \"1.0.0\"");
    }
}

/// A later version is of a later runtime, and is passed over by others.
fn listed_version(file: &File, item: &Node, report: &mut Report) {
    let is_version = item.text().is_some_and(|text| version::compare(text, text).is_ok());
    if !is_version {
        report.error("L015", &file.source, &item.span, "this is no version, such as \"1.0.0\"");
    }
}

/// L015: whether the version is one of the specification's.
fn known_version(file: &File, member: &Member, report: &mut Report) -> bool {
    let span = &member.value.span;
    let Some(text) = member.value.text() else {
        let text = format!("\"{}\" is a string, and this is {}", member.key, member.value.kind());
        report.error("L015", &file.source, span, text).fix("write \"1.0.0\", with quotes");
        return false;
    };
    let known = text.is_empty() || Version::ALL.iter().any(|version| version.to_string() == text);
    if !known {
        let names: Vec<String> = Version::ALL.iter().map(ToString::to_string).collect();
        let found = format!("CNI has no version {:?}", shortened(text));
        report.error("L015", &file.source, span, found).fix(format!("one of {}", names.join(", ")));
    }
    known
}

/// A boolean of a list, which may be a string.
fn flag(file: &File, member: Option<&Member>, report: &mut Report) {
    let Some(member) = member else { return };
    let is_flag = match &member.value.value {
        Value::Bool(_) => true,
        Value::Text(word) => matches!(word.to_lowercase().as_str(), "true" | "false"),
        _ => false,
    };
    if !is_flag {
        let text = format!("{:?} is true or false", member.key);
        report.error("L010", &file.source, &member.value.span, text);
    }
}

/// What libcni requires of any plugin's object.
fn plugin(file: &File, node: &Node, report: &mut Report) {
    if !matches!(node.value, Value::Object(_) | Value::Null) {
        let text = format!("a plugin is an object, and this is {}", node.kind());
        report.error("L013", &file.source, &node.span, text);
        return;
    }
    let of_type = node.any_case("type");
    match of_type.map(|member| (&member.value, member.value.text())) {
        Some((_, Some(name))) if !name.is_empty() => {}
        Some((value, None)) => {
            let text = format!("\"type\" is the name of a plugin, and this is {}", value.kind());
            report.error("L014", &file.source, &value.span, text);
        }
        _ => {
            let span = of_type.map_or(opening(node), |member| member.value.span.clone());
            let text = "the plugin has no \"type\": the name of its executable";
            report.error("L014", &file.source, &span, text);
        }
    }
    let common = [
        ("name", "a string"),
        ("cniVersion", "a string"),
        ("ipam", "an object"),
        ("dns", "an object"),
        ("prevResult", "an object"),
        ("capabilities", "an object"),
    ];
    for (key, kind) in common {
        let whole = file.form == Form::Single && matches!(key, "name" | "cniVersion");
        if let Some(member) = node.any_case(key).filter(|member| !whole && member.value.kind() != kind) {
            let text = format!("\"{key}\" is {kind}, and this is {}", member.value.kind());
            report.error("L020", &file.source, &member.value.span, text);
        }
    }
    let capabilities = node.any_case("capabilities").map(|member| member.value.members());
    for member in capabilities.into_iter().flatten() {
        if !matches!(member.value.value, Value::Bool(_) | Value::Null) {
            let text = "a capability is true or false".to_owned();
            report.error("L020", &file.source, &member.value.span, text);
        }
    }
}

/// L018
fn side_directory(file: &File, root: &Node, report: &mut Report) {
    if file.parts > 0
        && let Some(name) = root.member("name")
    {
        let text = format!("{} more plugins are appended from the directory of this name", file.parts);
        report
            .warning("L018", &file.source, &name.value.span, text)
            .fix("\"loadOnlyInlinedPlugins\": true keeps them out");
    }
}

/// L019
fn nerdctl_id(file: &File, root: &Node, report: &mut Report) {
    let (Some(id), Some((name, _))) = (root.member("nerdctlID"), file.name()) else { return };
    let expected = crate::networks::id(name);
    if id.value.text() != Some(expected.as_str()) {
        let text = "the \"nerdctlID\" is not that of the name: nerdctl does not find the network by it";
        report.warning("L019", &file.source, &id.value.span, text).fix(format!("\"{expected}\""));
    }
}

/// The bracket that an object begins with.
fn opening(node: &Node) -> Span {
    node.span.start..(node.span.start + 1).min(node.span.end)
}

/// Keys of a list that are a slip of one that a runtime reads.
pub(super) fn slips(file: &File, report: &mut Report) {
    let Some(root) = file.root.as_ref().filter(|_| file.form == Form::List) else { return };
    let known = |key: &str| KEYS.contains(&key);
    for member in root.members().iter().filter(|member| !known(&member.key)) {
        let missing = KEYS.into_iter().filter(|key| root.member(key).is_none());
        let Some(near) = nearest(&member.key, missing) else { continue };
        // These are errors already.
        if near != "name" && near != "plugins" {
            let text = format!("no runtime knows the key {:?} of a list", shortened(&member.key));
            report.warning("L021", &file.source, &member.span, text).fix(format!("did you mean \"{near}\"?"));
        }
    }
}
