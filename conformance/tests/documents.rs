//! The documents agree with the tree: the paths, links and cases that they name exist, and pages
//! are short.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// What paths in the documents begin with, but for files of the root.
const ROOMS: [&str; 6] = ["plugins/", "ipam/", "conformance/", "testdata/", ".ci/", ".github/"];
/// Read in five minutes.
const PAGE_LINES_MAX: usize = 150;

/// The page of the tool, which is a tutorial.
const TUTORIAL: (&str, usize) = ("plugins/moor/README.md", 400);
const COLUMNS_MAX: usize = 120;
const TABLE_COLUMNS_MAX: usize = 200;

struct Document {
    path: PathBuf,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// All files below `dir` with that extension, but for what builds leave.
fn files(dir: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "bin", ".git"].contains(&name.as_str()) {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|is| is == extension) {
            found.push(path);
        }
    }
}

fn documents() -> Vec<Document> {
    let mut paths = Vec::new();
    files(&root(), "md", &mut paths);
    paths.sort();
    paths.into_iter().map(|path| Document { text: fs::read_to_string(&path).unwrap(), path }).collect()
}

impl Document {
    fn name(&self) -> String {
        self.path.strip_prefix(root()).unwrap().display().to_string()
    }

    fn dir(&self) -> &Path {
        self.path.parent().unwrap()
    }

    /// Everything between backticks outside of fenced blocks. A pair of them is on one line.
    fn code(&self) -> Vec<&str> {
        let mut is_fenced = false;
        let mut code = Vec::new();
        for line in self.text.lines() {
            if line.starts_with("```") {
                is_fenced = !is_fenced;
            } else if !is_fenced && !line.starts_with("    ") {
                code.extend(line.split('`').skip(1).step_by(2));
            }
        }
        code
    }
}

fn is_path(code: &str) -> bool {
    ROOMS.iter().any(|room| code.starts_with(room)) && !code.contains(char::is_whitespace)
}

/// `group/name`, as cases are called; a `*` stands for any end of it.
fn is_case(code: &str) -> bool {
    let is_plain = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let name = code.strip_suffix('*').unwrap_or(code);
    !is_path(code) && name.split_once('/').is_some_and(|(group, name)| is_plain(group) && is_plain(name))
}

/// The part of a path that stands for itself: `plugins` of `plugins/<name>/README.md`.
fn literal(path: &str) -> PathBuf {
    path.split('/').take_while(|part| !part.contains(['<', '*', '{'])).collect()
}

#[test]
fn paths_that_a_document_names_exist() {
    for document in documents() {
        for path in document.code().into_iter().filter(|code| is_path(code)) {
            let is_there = root().join(literal(path)).exists();
            assert!(is_there, "{}: there is no {path}", document.name());
        }
    }
}

#[test]
fn links_of_a_document_lead_to_files() {
    for document in documents() {
        for link in document.text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            let is_elsewhere = link.contains("://") || path.is_empty();
            let is_there = is_elsewhere || document.dir().join(path).exists();
            assert!(is_there, "{}: {link} leads nowhere", document.name());
        }
    }
}

#[test]
fn cases_that_a_document_names_exist() {
    let mut sources = Vec::new();
    files(&root().join("conformance"), "rs", &mut sources);
    let sources: String = sources.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    for document in documents() {
        for case in document.code().into_iter().filter(|code| is_case(code)) {
            let quoted = match case.strip_suffix('*') {
                Some(start) => format!("\"{start}"),
                None => format!("\"{case}\""),
            };
            assert!(sources.contains(&quoted), "{}: there is no case {case}", document.name());
        }
    }
}

#[test]
fn pages_are_short_and_lines_fit() {
    for document in documents() {
        let name = document.name();
        if name.ends_with("README.md") {
            let lines = document.text.lines().count();
            let most = if name == TUTORIAL.0 { TUTORIAL.1 } else { PAGE_LINES_MAX };
            assert!(lines <= most, "{name} has {lines} lines, at most {most}");
        }
        for line in document.text.lines() {
            let most = if line.starts_with('|') { TABLE_COLUMNS_MAX } else { COLUMNS_MAX };
            let columns = line.chars().count();
            assert!(columns <= most, "{name}: {columns} columns, at most {most}: {line}");
        }
    }
}

#[test]
fn a_path_is_told_from_a_case() {
    assert!(is_path("plugins/bridge") && !is_case("plugins/bridge"));
    assert!(is_case("bridge/port_flags") && is_case("harness/a_hostile_plugin_*"));
    assert_eq!(literal("plugins/<name>/README.md"), Path::new("plugins"));
    assert_eq!(literal("plugins/bridge/src/lib.rs"), Path::new("plugins/bridge/src/lib.rs"));
}
