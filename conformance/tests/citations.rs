//! Source, data and pages cite clauses by their ids in `testdata/clauses`, and no page or issue
//! that is not in the tree. Public specifications may be cited.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What tools make, and the licence.
const OTHERS: &[&str] = &[".git", "target", "bin", "Cargo.lock", "LICENSE"];
/// Pages that readers of the tree do not have, by the names that citations used.
const PAGES_ELSEWHERE: &[&str] = &["NEEDS", "DESIGN", "CRATES"];
/// Publishers of numbered sections that everybody can read.
const PUBLISHERS: &[&str] = &["RFC", "IEEE"];

/// What a citation may name.
struct Tree {
    ids: BTreeSet<String>,
    pages: BTreeSet<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![root()];
    while let Some(path) = left.pop() {
        if path.is_symlink() || OTHERS.contains(&name_of(&path).as_str()) {
            continue;
        } else if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn tree(files: &[PathBuf]) -> Tree {
    let pages = files.iter().filter(|path| path.extension().is_some_and(|is| is == "md"));
    let mut ids = BTreeSet::new();
    for entry in fs::read_dir(root().join("testdata/clauses")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let clauses = text.lines().filter(|line| !line.starts_with('#'));
        ids.extend(clauses.filter_map(|line| line.split_once(' ')).map(|(id, _)| id.to_owned()));
    }
    Tree { ids, pages: pages.map(|path| name_of(path)).collect() }
}

/// One or two capitals, a hyphen, at most one capital, digits: `C-042`, `BR-K5`.
fn is_id(word: &str) -> bool {
    let Some((prefix, rest)) = word.split_once('-') else { return false };
    let digits = rest.strip_prefix(|c: char| c.is_ascii_uppercase()).unwrap_or(rest);
    (1..=2).contains(&prefix.len())
        && prefix.bytes().all(|byte| byte.is_ascii_uppercase())
        && !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_issue_of_a_repository(word: &str) -> bool {
    word.split_once('#').is_some_and(|(repository, number)| {
        repository.ends_with(|c: char| c.is_ascii_alphabetic())
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_number(word: &str) -> bool {
    word.trim_start_matches('#').starts_with(|c: char| c.is_ascii_digit())
}

fn words(line: &str) -> Vec<&str> {
    let split = line.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.#/".contains(c)));
    split.map(|word| word.trim_end_matches('.')).filter(|word| !word.is_empty()).collect()
}

/// Why this word, with the one after it, cannot be cited.
fn fault(tree: &Tree, word: &str, next: &str, is_public: bool) -> Option<String> {
    let page = word.rsplit('/').next().filter(|name| name.len() > 3 && name.ends_with(".md"));
    let unknown_id = word.split('/').find(|part| is_id(part) && !tree.ids.contains(*part));
    let absent = page.is_some_and(|page| !tree.pages.contains(page))
        || PAGES_ELSEWHERE.contains(&word)
        || word.starts_with("contract/")
        || is_issue_of_a_repository(word);
    let one_of = |names: [&str; 2]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    if let Some(id) = unknown_id {
        Some(format!("{id} is not in testdata/clauses"))
    } else if absent {
        Some(format!("{word} is not in the tree"))
    } else if is_number(next) && one_of(["issue", "issues"]) {
        Some(format!("{word} {next} is not in the tree"))
    } else if is_number(next) && one_of(["section", "sections"]) && !is_public {
        Some(format!("the page of {word} {next} is not named"))
    } else {
        None
    }
}

/// The faults of a text, each with its line.
fn faults(tree: &Tree, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut previous = "";
    for (index, line) in text.lines().enumerate() {
        let is_public = PUBLISHERS.iter().any(|name| line.contains(name) || previous.contains(name));
        let words = words(line);
        for (nth, word) in words.iter().enumerate() {
            let next = words.get(nth + 1).copied().unwrap_or_default();
            let fault = fault(tree, word, next, is_public);
            faults.extend(fault.map(|fault| format!("{}: {fault}", index + 1)));
        }
        previous = line;
    }
    faults
}

#[test]
fn citations_are_of_clauses_and_of_pages_in_the_tree() {
    let files = files();
    let tree = tree(&files);
    let mut found = Vec::new();
    for path in files.iter().filter(|path| name_of(path) != "citations.rs") {
        // What is no text cites nothing.
        let Ok(text) = String::from_utf8(fs::read(path).unwrap()) else { continue };
        let short = path.strip_prefix(root()).unwrap().display().to_string();
        found.extend(faults(&tree, &text).into_iter().map(|fault| format!("{short}:{fault}")));
    }
    assert!(found.is_empty(), "{} citations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn planted_citations_are_found() {
    let tree = Tree {
        ids: ["C-042", "BR-K5"].map(str::to_owned).into(),
        pages: ["README.md"].map(str::to_owned).into(),
    };
    for text in [
        "/// C-999.",
        "Case::new(\"a/b\", &[\"C-042\", \"BR-K99\"], run),",
        "// As in C-042/C-043.",
        "//! The chain (bridge.md section 5).",
        "//! See contract/bridge",
        "// issue 4",
        "# Issue #4: ports",
        "// plugins#939",
        "// NEEDS 3",
        "// DESIGN, rule 5",
        "/// Section 8, rule 4.",
    ] {
        assert!(!faults(&tree, text).is_empty(), "{text}");
    }
    for text in [
        "/// C-042, BR-K5: SHA-512, CVE-2019-9946, UTF-8, README.md.",
        "/// RFC 1035, section 4.1.1: the header's length.",
        "/// as RFC 4862,\n/// section 5.4 has it",
        "let text = r#\"a\"#; // the issue is open",
        "const NEED: u8 = 1; // *.md",
    ] {
        assert_eq!(faults(&tree, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn promises_without_a_case_are_cited_by_a_test() {
    let own = root().join("conformance/tests/citations.rs");
    let tests =
        files().into_iter().filter(|path| path.extension().is_some_and(|is| is == "rs") && *path != own);
    let texts: Vec<_> = tests.map(|path| fs::read_to_string(path).unwrap()).collect();
    let pages: Vec<_> = ["tool-unit.txt", "overlay-unit.txt"]
        .iter()
        .map(|page| fs::read_to_string(root().join("testdata/clauses").join(page)).unwrap())
        .collect();
    let lines = pages.iter().flat_map(|page| page.lines()).filter(|line| !line.starts_with('#'));
    let ids = lines.filter_map(|line| line.split_once(' '));
    let alone: Vec<_> = ids.filter(|(id, _)| !texts.iter().any(|text| text.contains(id))).collect();
    assert!(alone.is_empty(), "{alone:#?}");
}
