//! The pages of the plugins agree with the tree: a conflist on a page is a file of
//! `testdata/net.d`, the keys in its table are those that the plugin reads, and the cases that it
//! names exist.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use source::{files, keys_read, plugins, read, root};

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
        let known: BTreeSet<String> = keys_read(&page.dir).into_keys().collect();
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
        let mut sources: String = files(&page.dir.join("src"), "rs").iter().map(|file| read(file)).collect();
        if sources.contains("names::Sources") || sources.contains("use names::") {
            sources.extend(files(&root().join("plugins/lib/names/src"), "rs").iter().map(|file| read(file)));
        }
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
