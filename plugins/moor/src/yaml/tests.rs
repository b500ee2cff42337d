#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;

/// The tree in JSON; `yes` and its kin as they mean.
fn json(node: &Node) -> Json {
    match &node.value {
        Value::List(list) => list.iter().map(|node| json(node)).collect(),
        Value::Map(map) => {
            Json::Object(map.0.iter().map(|(key, value)| (key.text.to_string(), json(value))).collect())
        }
        Value::Scalar(scalar) => match scalar.meaning() {
            Meaning::Null => Json::Null,
            Meaning::Bool(value) => value.into(),
            Meaning::Int(value) => value.into(),
            Meaning::Float(value) => json!(value),
            Meaning::Text => scalar.text.clone().into(),
        },
    }
}

fn read(text: &str) -> Result<Json, String> {
    load(text.as_bytes(), 0).map(|node| json(&node)).map_err(|fault| fault.to_string())
}

#[test]
fn anchors_and_merge_keys_are_expanded_and_own_keys_win() {
    let text = "base: &base {driver: bridge, internal: no}\n\
                more: &more\n  mtu: 1400\n  driver: macvlan\n\
                front:\n  <<: [*base, *more]\n  internal: yes\n\
                list: [*base, \"<<\"]\n";
    let front = json!({"driver": "bridge", "internal": true, "mtu": 1400});
    assert_eq!(read(text).unwrap()["front"], front);
    assert_eq!(read(text).unwrap()["list"], json!([{"driver": "bridge", "internal": false}, "<<"]));
}

#[test]
fn every_node_and_key_knows_its_place() {
    let node = load("a: 1\nb:\n  - x\n  - {c: d}\n".as_bytes(), 3).unwrap();
    let map = node.map("it").unwrap();
    assert_eq!(map.0[1].0.at, Place { file: 3, line: 2, column: 1 });
    let inner = &map.get("b").unwrap().list("b").unwrap()[1];
    assert_eq!(inner.map("it").unwrap().0[0].1.at, Place { file: 3, line: 4, column: 9 });
}

#[test]
fn faults_have_a_place() {
    for (text, fault) in [
        ("a: 1\na: 2\n", "2:1: the key \"a\" is there twice"),
        ("a: !!python/object x\n", "1:4: the tag tag:yaml.org,2002:python/object is not supported"),
        ("a: !reset []\n", "1:4: the tag !reset is not supported"),
        ("a: &a [*a]\n", "1:8: an alias stands inside of what it refers to"),
        ("a: *b\n", "1:4: while parsing node, found unknown anchor"),
        ("? [a]\n: b\n", "1:3: a key must be a word"),
        ("a: 1\n---\nb: 2\n", "2:1: a second document in one file is not supported"),
        ("<<: [1]\n", "1:6: only a map, or a list of maps, can be merged by <<"),
        (": x\n", "1:1: a key is empty"),
    ] {
        assert_eq!(read(text).unwrap_err(), fault, "{text:?}");
    }
    assert_eq!(load(b"a: \xff", 0).unwrap_err().to_string(), "1:4: the text is not UTF-8");
    assert!(read("a:\n\tb: c\n").unwrap_err().starts_with("2:"));
    assert_eq!(read("\u{feff}a: b").unwrap(), json!({"a": "b"}));
    assert_eq!(read("# nothing\n").unwrap(), Json::Null);
}

/// T-082: a document that grows without end when it is expanded ends at once.
#[test]
fn bombs_are_refused_at_once() {
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..40 {
        let before = n - 1;
        writeln!(laughs, "a{n}: &a{n} [{}]", vec![format!("*a{before}"); 9].join(", ")).unwrap();
    }
    let mut merges = "m0: &m0 {k: v}\n".to_owned();
    for n in 1..40 {
        let before = n - 1;
        writeln!(merges, "m{n}: &m{n}\n  <<: [*m{before}, *m{before}]\n  k{n}: *m{before}").unwrap();
    }
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(500_000), vec!["*a"; 2000].join(","));
    let towers = "&a [".repeat(10_000);
    let steps = "- ".repeat(500_000);
    let large = "x".repeat(SIZE_MAX + 1);
    let keys: String = (0..100_000).fold(String::new(), |text, n| text + &format!("k{n}: v\n"));
    for (bomb, fault) in [
        (&laughs, "more than 10000 nodes"),
        (&merges, "nodes, with aliases expanded"),
        (&long, "more than 1048576 bytes"),
        (&towers, "recursion limit exceeded"),
        (&steps, "nested deeper than 64"),
        (&large, "larger than 1048576 bytes"),
        (&keys, "more than 10000 nodes"),
    ] {
        let began = Instant::now();
        let error = read(bomb).unwrap_err();
        let limit = if cfg!(debug_assertions) { 2000 } else { 100 };
        assert!(error.contains(fault), "{error}");
        assert!(began.elapsed() < Duration::from_millis(limit), "{fault}: {:?}", began.elapsed());
    }
}

#[test]
fn an_alias_of_a_deep_node_counts_with_its_depth() {
    let deep = format!("a: &a {}{}\nb: ", "[".repeat(40), "]".repeat(40));
    assert!(read(&format!("{deep}{}*a{}", "[".repeat(20), "]".repeat(20))).is_ok());
    let fault = read(&format!("{deep}{}*a{}", "[".repeat(30), "]".repeat(30))).unwrap_err();
    assert!(fault.contains("nested deeper"), "{fault}");
}

/// A document, as text in YAML.
#[derive(Clone, Debug)]
enum Written {
    Word(String),
    List(Vec<Written>, bool),
    Map(Vec<(String, Written)>, bool),
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-d]{1,3}",
        "-?(0|[1-9][0-9]{0,6})",
        Just("true".to_owned()),
        Just("null".to_owned()),
        Just("~".to_owned()),
        "(0|[1-9][0-9]?)\\.[0-9]{1,3}",
        "[1-9][0-9]{3}:[1-9][0-9]",
        "10\\.0\\.[1-9]\\.0/24",
        "'[a-z :#{},\\[\\]-]{0,8}'",
        "\"[a-z :#{},\\[\\]-]{0,6}(\\\\n|\\\\x41|\\\\u00e9)?\"",
    ]
}

fn written() -> impl Strategy<Value = Written> {
    word().prop_map(Written::Word).prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            (vec(inner.clone(), 0..5), any::<bool>()).prop_map(|(list, flow)| Written::List(list, flow)),
            (btree_map("[a-f]{1,2}", inner, 0..5), any::<bool>())
                .prop_map(|(map, flow)| Written::Map(map.into_iter().collect(), flow)),
        ]
    })
}

impl Written {
    fn flow(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::List(list, _) => {
                format!("[{}]", list.iter().map(Self::flow).collect::<Vec<_>>().join(", "))
            }
            Self::Map(map, _) => {
                let entries = map.iter().map(|(key, value)| format!("{key}: {}", value.flow()));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn block(&self, indent: usize, text: &mut String) {
        match self {
            Self::List(list, false) if !list.is_empty() => {
                for item in list {
                    write!(text, "\n{:indent$}-", "").unwrap();
                    item.block(indent + 2, text);
                }
            }
            Self::Map(map, false) if !map.is_empty() => {
                for (key, value) in map {
                    write!(text, "\n{:indent$}{key}:", "").unwrap();
                    value.block(indent + 2, text);
                }
            }
            other => write!(text, " {}", other.flow()).unwrap(),
        }
    }
}

fn others(text: &str) -> Result<Json, String> {
    serde_saphyr::from_str::<Json>(text).map_err(|error| error.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// T-082: documents mean what they mean to another loader.
    #[test]
    fn documents_are_read_as_by_another_loader(written in written(), alias in any::<bool>()) {
        let mut text = if alias { "x: &x".to_owned() } else { "x:".to_owned() };
        written.block(2, &mut text);
        text += if alias { "\ny: [*x, {z: *x}]\n" } else { "\n" };
        prop_assert_eq!(read(&text), others(&text), "{}", text);
    }

    /// T-082: a damaged document is refused by both, or means the same to both.
    #[test]
    fn damaged_documents_are_read_alike_or_refused(written in written(), at in any::<prop::sample::Index>(),
        with in "[\\[\\]{}:,&*!'\"#> -]{0,2}")
    {
        let mut text = "x:".to_owned();
        written.block(2, &mut text);
        let at = at.index(text.len());
        if text.is_char_boundary(at) {
            text.insert_str(at, &with);
        }
        if let (Ok(ours), Ok(theirs)) = (read(&text), others(&text)) {
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }
}

#[test]
fn a_shared_node_is_one() {
    let node = load(b"a: &a [1]\nb: *a\n", 0).unwrap();
    let map = node.map("it").unwrap();
    assert!(Rc::ptr_eq(map.get("a").unwrap(), map.get("b").unwrap()));
}
