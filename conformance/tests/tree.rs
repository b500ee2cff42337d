//! The shape of the source tree: no import circle between the modules of a crate, no library that
//! imports upwards, no file over 400 lines. It reads the sources as text, as rustfmt leaves them.
//!
//! A module counts as one with its children, which may import each other. The crate's root counts
//! as a module of its own; a name that it only re-exports counts as its module's.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The longest file, in lines.
const LINES_MAX: usize = 400;

/// The name of a crate's root among its modules.
const ROOT: &str = "crate";

/// The libraries that plugins are made of, each with what it may import of them.
const LIBRARIES: [(&str, &[&str]); 8] = [
    ("cni", &[]),
    ("sys", &[]),
    ("netlink", &["sys"]),
    ("nft", &["netlink", "sys"]),
    ("host", &["netlink", "nft", "sys"]),
    ("attach", &["cni", "host", "netlink", "sys"]),
    ("leases", &["cni", "sys"]),
    ("runtime", &[]),
];

/// Which module imports which, with a place where it does.
type Imports = BTreeMap<String, BTreeMap<String, String>>;

#[test]
fn modules_of_a_crate_import_in_no_circle() {
    let mut circles = Vec::new();
    for source in crates() {
        let imports = imports(&source);
        circles.extend(
            pairs_in_circles(&imports)
                .iter()
                .map(|(from, to)| format!("{}: {from} -> {to} ({})", source.display(), imports[from][to])),
        );
    }
    assert!(circles.is_empty(), "{} imports are part of circles:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn libraries_import_downwards() {
    for (name, below) in LIBRARIES {
        let manifest = fs::read_to_string(tree().join("plugins/lib").join(name).join("Cargo.toml")).unwrap();
        let keys = manifest.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        for used in keys.filter(|key| LIBRARIES.iter().any(|(library, _)| library == key)) {
            assert!(below.contains(&used), "{name} imports {used}");
        }
    }
}

#[test]
fn no_file_is_longer_than_400_lines() {
    let long: Vec<_> = sources(&tree())
        .into_iter()
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn paths_are_resolved_as_the_compiler_does() {
    let (root, piece) = (vec![], vec!["piece".to_owned(), "child".to_owned()]);
    let text = "use crate::{file::{self, Hold}, rules};\nuse super::Part;\nuse super::super::owner;\n";
    assert_eq!(targets(text, &piece), ["file", "file", "rules", "piece", "owner"]);
    assert_eq!(targets("let x = crate::nft::open();\n", &root), ["nft"]);
    let tests = "mod tests {\n    use super::*;\n    use super::super::names::X;\n}\nfn f() { super::y() }\n";
    assert_eq!(targets(tests, &piece), ["piece", "piece", "piece"]);
    assert_eq!(targets("// crate::a\n//! [`crate::b`]\n", &root), [""; 0]);
    let exports = "mod a;\npub use a::{One, two};\npub use b::Three;\n";
    let exports = re_exports(exports);
    assert_eq!((&exports["One"][..], &exports["two"][..], &exports["Three"][..]), ("a", "a", "b"));
}

#[test]
fn a_circle_of_three_is_found_and_what_leads_to_it_is_not_in_it() {
    let mut imports = Imports::new();
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("d", "a"), ("a", "e")] {
        imports.entry(from.into()).or_default().insert(to.into(), String::new());
    }
    let found: Vec<_> = pairs_in_circles(&imports);
    let all = [("a", "b"), ("b", "c"), ("c", "a")].map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(found, all);
}

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(sources(&path));
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The source folders of all crates.
fn crates() -> BTreeSet<PathBuf> {
    let of_root = |file: &PathBuf| {
        let name = file.file_name().unwrap();
        (name == "lib.rs" || name == "main.rs") && file.parent().unwrap().ends_with("src")
    };
    sources(&tree()).into_iter().filter(of_root).map(|file| file.parent().unwrap().to_owned()).collect()
}

/// Which modules of a crate import which, at the level right below its root.
fn imports(source: &Path) -> Imports {
    let read = |name: &str| fs::read_to_string(source.join(name)).unwrap_or_default();
    let exports = re_exports(&(read("lib.rs") + &read("main.rs")));
    let modules: BTreeSet<String> =
        sources(source).iter().filter_map(|file| module(source, file).into_iter().next()).collect();
    let mut imports = Imports::new();
    for file in sources(source) {
        let path = module(source, &file);
        let text = fs::read_to_string(&file).unwrap();
        let from = path.first().map_or(ROOT, String::as_str);
        let mut targets = targets(&text, &path);
        if path.is_empty() {
            targets.extend(used_by_root(&text, &modules));
        }
        for target in targets {
            let to = match exports.get(&target) {
                Some(module) => module,
                None if modules.contains(&target) => &target,
                None => ROOT,
            };
            if to != from {
                let at = file.strip_prefix(source).unwrap().display().to_string();
                imports.entry(from.into()).or_default().entry(to.to_owned()).or_insert(at);
            }
        }
    }
    imports
}

/// The path of the module in a file: empty for the crate's root.
fn module(source: &Path, file: &Path) -> Vec<String> {
    let path = file.strip_prefix(source).unwrap().with_extension("");
    let mut path: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        path.pop();
    }
    path
}

/// What the crate's root gives other names to: name and module.
fn re_exports(root: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for item in code(root).split(';') {
        let Some((_, path)) = item.split_once("pub use ").or_else(|| item.split_once("pub(crate) use "))
        else {
            continue;
        };
        for path in flat(path) {
            let name = path.last().unwrap().split_whitespace().last().unwrap().to_owned();
            found.insert(name, path.iter().find(|part| *part != ROOT).unwrap().clone());
        }
    }
    found
}

/// The modules that the crate's root itself uses, beside re-exporting from them.
fn used_by_root(root: &str, modules: &BTreeSet<String>) -> Vec<String> {
    let text = code(root);
    let own = text.split(';').filter(|item| !item.contains("pub use ") && !item.contains("pub(crate) use "));
    let words = own
        .flat_map(|item| item.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c)).map(str::to_owned));
    words
        .filter_map(|word| word.split_once("::").map(|(first, _)| first.to_owned()))
        .filter(|first| modules.contains(first))
        .collect()
}

/// The first part, below the crate's root, of every path that begins with `crate` or `super`, in a
/// module's file.
fn targets(text: &str, module: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside = 0;
    let text = code(text);
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        // A module in the file, as rustfmt has it.
        match *line {
            "}" => inside = 0,
            line if line.contains("mod ") && !line.starts_with(' ') && line.ends_with('{') => inside = 1,
            _ => {}
        }
        for start in ["crate::", "super::"] {
            for (at, _) in line.match_indices(start) {
                let before = line.get(..at).unwrap_or_default();
                if before.ends_with(|c: char| c.is_alphanumeric() || "_:$".contains(c)) {
                    continue;
                }
                let rest = line.get(at..).unwrap_or_default().to_owned() + &lines[number + 1..].concat();
                let end =
                    if before.trim_end().ends_with("use") { rest.find(';') } else { rest.find(not_of_path) };
                let path = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                found.extend(flat(path).iter().filter_map(|path| target(path, module, inside)));
            }
        }
    }
    found
}

fn not_of_path(c: char) -> bool {
    !c.is_alphanumeric() && !"_:".contains(c)
}

/// The module or item right below the crate's root that a path leads to; none when that is the
/// root's own content.
fn target(path: &[String], module: &[String], inside: usize) -> Option<String> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let rest = path.get(ups.max(1)..).unwrap_or_default();
    let kept = if ups == 0 { 0 } else { (module.len() + inside).saturating_sub(ups) };
    if kept == 0 {
        // `*` and `self` of the root itself.
        return Some(
            rest.first()
                .filter(|part| !matches!(part.as_str(), "*" | "self"))
                .map_or(ROOT, |part| part)
                .to_owned(),
        );
    }
    Some(module.first().cloned().unwrap_or(ROOT.to_owned()))
}

/// The text without comments.
fn code(text: &str) -> String {
    let line = |line: &str| {
        line.find("//").map_or(line, |at| line.get(..at).unwrap_or_default()).trim_end().to_owned()
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The paths of a use tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn flat(tree: &str) -> Vec<Vec<String>> {
    let tree = tree.trim();
    let Some((before, inner)) = tree.split_once('{') else {
        return vec![tree.split("::").map(|part| part.trim().to_owned()).collect()];
    };
    let before: Vec<String> =
        before.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let inner = inner.rsplit_once('}').map_or(inner, |(inner, _)| inner);
    let mut depth = 0;
    let parts = inner.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    let parts = parts.filter(|part| !part.trim().is_empty());
    parts.flat_map(flat).map(|rest| [before.clone(), rest].concat()).collect()
}

/// The imports that lead back to where they start.
fn pairs_in_circles(imports: &Imports) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (from, all) in imports {
        found
            .extend(all.keys().filter(|to| leads_to(imports, to, from)).map(|to| (from.clone(), to.clone())));
    }
    found
}

fn leads_to(imports: &Imports, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        if module == to {
            return true;
        }
        if seen.insert(module) {
            next.extend(imports.get(module).into_iter().flat_map(|all| all.keys()).map(String::as_str));
        }
    }
    false
}
