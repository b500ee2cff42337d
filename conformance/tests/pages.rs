//! The pages of the plugins agree with the tree: a conflist on a page is a file of
//! `testdata/net.d`, the keys in its table are those that the plugin reads, and the cases that it
//! names exist.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

const KEYS: &str = "| Key | Type | Default | Meaning |";
const BETTER: &str = "## Better than the reference";

/// The README.md of a plugin.
struct Page {
    /// The plugin's folder.
    dir: PathBuf,
    text: String,
}

/// A fenced block: what follows the fence, and the text.
struct Block<'p> {
    info: &'p str,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All files below `dir` with that extension, without those of tests.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
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
fn plugins() -> Vec<PathBuf> {
    let rooms = ["plugins", "ipam"].map(|room| fs::read_dir(root().join(room)).unwrap());
    let folders = rooms.into_iter().flatten().map(|entry| entry.unwrap().path());
    let is_plugin = |folder: &PathBuf| {
        let src = folder.join("src");
        src.is_dir() && files(&src, "rs").iter().any(|file| read(file).contains("impl Plugin for "))
    };
    folders.filter(is_plugin).collect()
}

fn pages() -> Vec<Page> {
    let page = |dir: PathBuf| Some(Page { text: fs::read_to_string(dir.join("README.md")).ok()?, dir });
    plugins().into_iter().filter_map(page).collect()
}

impl Page {
    fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let mut is_open = false;
        for line in self.text.lines() {
            match line.strip_prefix("```") {
                Some(_) if is_open => is_open = false,
                Some(info) => {
                    is_open = true;
                    blocks.push(Block { info, text: String::new() });
                }
                None if is_open => {
                    let text = &mut blocks.last_mut().unwrap().text;
                    *text += line;
                    *text += "\n";
                }
                None => {}
            }
        }
        assert!(!is_open, "{}: a block without an end", self.name());
        blocks
    }

    /// Everything between backticks outside of blocks, line by line.
    fn code(&self) -> Vec<&str> {
        let mut is_open = false;
        let mut code = Vec::new();
        for line in self.text.lines() {
            if line.starts_with("```") {
                is_open = !is_open;
            } else if !is_open {
                code.extend(quoted(line));
            }
        }
        code
    }

    /// The first cells of the table of keys.
    fn key_cells(&self) -> Vec<&str> {
        let rows = self.text.lines().skip_while(|line| *line != KEYS).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        rows.map(|row| row.split('|').nth(1).unwrap()).collect()
    }
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_plugin_has_a_page() {
    let plugins = plugins();
    assert!(plugins.len() >= 7, "only these are found: {plugins:?}");
    for plugin in plugins {
        assert!(plugin.join("README.md").is_file(), "{} has no README.md", plugin.display());
    }
}

/// The first word after the fence is the language; the second one, if any, is the file of
/// `testdata/net.d`.
#[test]
fn a_conflist_on_a_page_is_a_file_that_cases_run() {
    let net_d = root().join("testdata/net.d");
    for page in pages() {
        let name = page.name();
        let mut copied = 0;
        for block in page.blocks() {
            let mut info = block.info.split_whitespace();
            if info.next() != Some("json") {
                continue;
            }
            let value: Value =
                serde_json::from_str(&block.text).unwrap_or_else(|error| panic!("{name}: {error}"));
            let Some(file) = info.next() else { continue };
            copied += 1;
            let text = read(&net_d.join(file));
            let whole: Value = serde_json::from_str(&text).unwrap();
            assert!(
                text == block.text || holds(&whole, &value),
                "{name}: not what {file} has:\n{}",
                block.text
            );
            assert!(page.text.contains(&format!("testdata/net.d/{file})")), "{name} has no link to {file}");
        }
        assert!(copied > 0, "{name} has no conflist to copy");
    }
}

/// Whether `part` is an object in `whole`, but not `whole`, of which a page shows the very text.
fn holds(whole: &Value, part: &Value) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match whole {
        Value::Object(map) => Box::new(map.values()),
        Value::Array(list) => Box::new(list.iter()),
        _ => return false,
    };
    inner.any(|value| value == part || holds(value, part))
}

#[test]
fn the_keys_of_a_page_are_those_that_the_plugin_reads() {
    for page in pages() {
        let known = keys_read(&page.dir);
        let mut written = BTreeSet::new();
        for cell in page.key_cells() {
            let mut last = String::new();
            for key in quoted(cell) {
                // `.rangeEnd` after `ranges[][].rangeStart` is `ranges[][].rangeEnd`.
                last = match key.strip_prefix('.') {
                    Some(sibling) => format!("{}.{sibling}", last.rsplit_once('.').unwrap().0),
                    None => key.replace("[]", ""),
                };
                written.insert(last.clone());
            }
        }
        let (args, written): (BTreeSet<_>, BTreeSet<_>) =
            written.into_iter().partition(|key| is_of_cni_args(key));
        assert_eq!(written, known, "{}: left: keys on the page, right: keys of the source", page.name());
        let sources: String = files(&page.dir.join("src"), "rs").iter().map(|file| read(file)).collect();
        for key in args {
            assert!(
                sources.contains(&format!("\"{key}\"")),
                "{} does not read {key} of CNI_ARGS",
                page.name()
            );
        }
    }
}

fn is_of_cni_args(key: &str) -> bool {
    key.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// The keys that a plugin's configuration reads, by the structures that it is decoded into: its own
/// `Conf`, and those of the crate `attach` that its source uses.
fn keys_read(plugin: &Path) -> BTreeSet<String> {
    let own: String = files(&plugin.join("src"), "rs")
        .iter()
        .filter(|file| {
            let inner = file.strip_prefix(plugin.join("src")).unwrap();
            inner.starts_with("config") || inner == Path::new("config.rs")
        })
        .map(|file| read(file))
        .collect();
    let mut keys = if own.is_empty() { BTreeSet::new() } else { keys_of(&own) };
    for file in files(&root().join("plugins/lib/attach/src"), "rs") {
        let shared = read(&file);
        if shared.contains("struct Conf {") && is_asked(&own, &shared) {
            keys.extend(keys_of(&shared));
        }
    }
    // The rest of `ipam` is on the page of the IPAM plugin. Others look into it for hints alone.
    if plugin.parent().unwrap().ends_with("plugins") {
        keys.retain(|key| key == "ipam.type" || !key.starts_with("ipam."));
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

fn keys_of(source: &str) -> BTreeSet<String> {
    let types = types(source);
    assert!(types.structures.contains_key("Conf"), "no structure `Conf` is decoded");
    let mut keys = BTreeSet::new();
    collect(&types, "Conf", "", &mut keys);
    keys
}

fn collect(types: &Types, structure: &str, prefix: &str, keys: &mut BTreeSet<String>) {
    for (name, of) in &types.structures[structure] {
        let key = format!("{prefix}{name}");
        match structure_in(types, of) {
            Some(inner) => collect(types, &inner, &format!("{key}."), keys),
            None => {
                keys.insert(key);
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

#[test]
fn the_cases_that_a_page_names_exist_and_back_what_is_better() {
    let cases: String = files(&root().join("conformance"), "rs").iter().map(|file| read(file)).collect();
    for page in pages() {
        let name = page.name();
        for case in page.code().into_iter().filter(|code| is_case(code)) {
            assert!(cases.contains(&format!("\"{case}\"")), "{name}: there is no case {case}");
        }
        let better = page.text.split(BETTER).nth(1).unwrap_or_else(|| panic!("{name} has no {BETTER}"));
        let better = better.split("\n## ").next().unwrap();
        let promises: Vec<&str> = better.split("\n- ").skip(1).collect();
        assert!(!promises.is_empty(), "{name}: nothing is better");
        for promise in promises {
            assert!(quoted(promise).any(is_case), "{name}: no case backs: {promise}");
        }
    }
}

/// `group/name`.
fn is_case(code: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    code.split_once('/').is_some_and(|(group, name)| plain(group) && plain(name))
}

#[test]
fn keys_are_found_in_the_source() {
    let source = r#"
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Conf {
            /// Some note: of no use.
            is_gateway: Option<bool>,
            #[serde(rename = "hostIP")]
            host_ip: Option<String>,
            ranges: Option<Sets>,
            r#type: Option<String>,
        }
        type Sets = Vec<Vec<Range>>;
        #[derive(Deserialize)]
        struct Range {
            range_end: String,
        }
        struct Other {
            hidden: bool,
        }
    "#;
    let keys: Vec<String> = keys_of(source).into_iter().collect();
    assert_eq!(keys, ["hostIP", "isGateway", "ranges.range_end", "type"]);
}
