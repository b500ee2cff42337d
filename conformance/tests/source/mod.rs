//! The source of the plugins as text: where it is, and which keys it decodes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `dir` with that extension, without those of tests.
pub fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|is| is == extension) && !is_of_tests(dir, &path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn is_of_tests(dir: &Path, path: &Path) -> bool {
    path.strip_prefix(dir).unwrap().iter().any(|part| part.to_string_lossy().contains("tests"))
}

/// The folders of all plugins: crates that implement `Plugin`.
pub fn plugins() -> Vec<PathBuf> {
    let rooms = ["plugins", "ipam"].map(|room| fs::read_dir(root().join(room)).unwrap());
    let folders = rooms.into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_plugin = |folder: &PathBuf| {
        let src = folder.join("src");
        src.is_dir() && files(&src, "rs").iter().any(|file| read(file).contains("impl Plugin for "))
    };
    folders.filter(is_plugin).collect()
}

/// The keys that a plugin's configuration reads, each with the type that it is decoded into, by the structures that it is decoded into: its own
/// `Conf`, and those of the crates `attach` and `names` that its source uses.
pub fn keys_read(plugin: &Path) -> BTreeMap<String, String> {
    let own: String = files(&plugin.join("src"), "rs")
        .iter()
        .filter(|file| {
            let inner = file.strip_prefix(plugin.join("src")).unwrap();
            inner.starts_with("config") || inner == Path::new("config.rs")
        })
        .map(|file| read(file))
        .collect();
    let mut keys = if own.is_empty() { BTreeMap::new() } else { keys_of(&own) };
    let shared =
        ["attach", "names"].map(|room| files(&root().join("plugins/lib").join(room).join("src"), "rs"));
    for file in shared.iter().flatten() {
        let shared = read(file);
        if shared.contains("struct Conf {") && is_asked(&own, &shared) {
            keys.extend(keys_of(&shared));
        }
    }
    // The rest of `ipam` is on the page of the IPAM plugin. Others look into it for hints alone.
    if plugin.parent().unwrap().ends_with("plugins") {
        keys.retain(|key, _| key == "ipam.type" || !key.starts_with("ipam."));
    }
    keys
}

/// Whether `source` calls a function of `shared` that takes a request: `Type::of(request)`,
/// `function(request)`.
fn is_asked(source: &str, shared: &str) -> bool {
    let names = |keyword: &str| {
        let names = shared.lines().filter_map(|line| line.strip_prefix(keyword));
        names.map(|rest| rest.split(|c: char| !is_word(c)).next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    names("pub struct ").iter().any(|name| source.contains(&format!("{name}::of(request)")))
        || names("pub fn ").iter().any(|name| source.contains(&format!("{name}(request)")))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Fields of structures that are decoded, and the meaning of other names of types.
#[derive(Default)]
struct Types {
    structures: BTreeMap<String, Vec<(String, String)>>,
    aliases: BTreeMap<String, String>,
}

pub fn keys_of(source: &str) -> BTreeMap<String, String> {
    let types = types(source);
    assert!(types.structures.contains_key("Conf"), "no structure `Conf` is decoded");
    let mut keys = BTreeMap::new();
    collect(&types, "Conf", "", &mut keys);
    keys
}

fn collect(types: &Types, structure: &str, prefix: &str, keys: &mut BTreeMap<String, String>) {
    for (name, of) in &types.structures[structure] {
        let key = format!("{prefix}{name}");
        match structure_in(types, of) {
            Some(inner) => collect(types, &inner, &format!("{key}."), keys),
            None => {
                keys.insert(key, of.clone());
            }
        }
    }
}

/// The structure that a field of that type leads to.
fn structure_in(types: &Types, of: &str) -> Option<String> {
    of.split(|c: char| !is_word(c)).find_map(|word| match types.aliases.get(word) {
        Some(meaning) => structure_in(types, meaning),
        None => types.structures.contains_key(word).then(|| word.to_owned()),
    })
}

fn types(source: &str) -> Types {
    let mut types = Types::default();
    let mut attributes = String::new();
    let mut lines = source.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if line.starts_with("#[") {
            attributes += line;
            continue;
        }
        let line = unqualified(line);
        if let Some((name, meaning)) = line.strip_prefix("type ").and_then(|rest| rest.split_once(" = ")) {
            types.aliases.insert(name.to_owned(), meaning.to_owned());
        }
        let structure = line.strip_prefix("struct ").and_then(|rest| rest.strip_suffix(" {"));
        if let Some(name) = structure.filter(|_| attributes.contains("Deserialize")) {
            let is_camel = attributes.contains("rename_all = \"camelCase\"");
            let body = lines.by_ref().take_while(|line| *line != "}");
            types.structures.insert(name.to_owned(), fields(body, is_camel));
        }
        attributes.clear();
    }
    types
}

fn fields<'s>(body: impl Iterator<Item = &'s str>, is_camel: bool) -> Vec<(String, String)> {
    let mut fields = Vec::new();
    let mut renamed = None;
    for line in body {
        if let Some((_, rest)) = line.split_once("rename = \"") {
            renamed = rest.split('"').next();
        } else if let Some((name, of)) =
            unqualified(line).split_once(": ").filter(|_| !line.starts_with("//"))
        {
            let name = name.trim_start_matches("r#");
            let own = if is_camel { camel_case(name) } else { name.to_owned() };
            fields.push((renamed.take().map_or(own, str::to_owned), of.to_owned()));
        }
    }
    fields
}

fn unqualified(line: &str) -> &str {
    let line = line.strip_prefix("pub(super) ").unwrap_or(line);
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    line.strip_prefix("pub ").unwrap_or(line)
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |camel, word| {
        let (head, tail) = word.split_at(1);
        camel + &head.to_uppercase() + tail
    })
}
