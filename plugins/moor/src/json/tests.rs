//! The reader against serde_json and jsonc-parser.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use jsonc_parser::ast;
use proptest::prelude::*;
use serde_json::{Map, Value as Plain};

use super::*;

/// The value without places; of duplicates the last.
fn plain(node: &Node) -> Plain {
    match &node.value {
        Value::Null => Plain::Null,
        Value::Bool(value) => Plain::Bool(*value),
        Value::Number(number) => Plain::Number(number.clone()),
        Value::Text(text) => Plain::String(text.clone()),
        Value::Array(items) => Plain::Array(items.iter().map(plain).collect()),
        Value::Object(members) => {
            let members = members.iter().map(|member| (member.key.clone(), plain(&member.value)));
            Plain::Object(members.collect::<Map<_, _>>())
        }
    }
}

fn agrees_with_serde(text: &[u8]) {
    let reading = Reading::of(text);
    match serde_json::from_slice::<Plain>(text) {
        Ok(value) => {
            assert_eq!(reading.faults, [], "{}", String::from_utf8_lossy(text));
            assert_eq!(plain(&reading.root.unwrap()), value);
        }
        Err(_) => assert!(!reading.faults.is_empty(), "{}", String::from_utf8_lossy(text)),
    }
}

/// The places of all values, in order.
fn places(node: &Node, found: &mut Vec<Span>) {
    found.push(node.span.clone());
    node.items().iter().for_each(|item| places(item, found));
    for member in node.members() {
        found.push(member.span.clone());
        places(&member.value, found);
    }
}

fn places_of_oracle(value: &ast::Value<'_>, found: &mut Vec<Span>) {
    use jsonc_parser::common::Ranged;
    found.push(value.start()..value.end());
    match value {
        ast::Value::Array(array) => array.elements.iter().for_each(|item| places_of_oracle(item, found)),
        ast::Value::Object(object) => {
            for member in &object.properties {
                found.push(member.name.start()..member.name.end());
                places_of_oracle(&member.value, found);
            }
        }
        _ => {}
    }
}

fn any_json() -> impl Strategy<Value = Plain> {
    let leaf = prop_oneof![
        Just(Plain::Null),
        any::<bool>().prop_map(Plain::Bool),
        any::<i64>().prop_map(|number| Plain::Number(number.into())),
        any::<f64>()
            .prop_map(|number| serde_json::Number::from_f64(number).map_or(Plain::Null, Plain::Number)),
        any::<String>().prop_map(Plain::String),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Plain::Array),
            prop::collection::vec((any::<String>(), inner), 0..6)
                .prop_map(|members| Plain::Object(members.into_iter().collect())),
        ]
    })
}

/// Texts near JSON.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"a\"",
        "'a'",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\\",
        "\"",
        "0",
        "-1",
        "01",
        "1e9",
        "1e999",
        "1.",
        "-",
        "true",
        "null",
        "nul",
        " ",
        "\n",
        "#",
        "//",
        "/*",
        "*/",
        "\u{feff}",
        "é",
        "\t",
    ]);
    prop::collection::vec(pieces, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_document_is_read_as_serde_reads_it(value in any_json(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        agrees_with_serde(text.unwrap().as_bytes());
    }

    #[test]
    fn any_text_is_json_exactly_when_serde_takes_it(text in nearly_json()) {
        agrees_with_serde(&text);
    }

    #[test]
    fn any_bytes_are_json_exactly_when_serde_takes_them(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        agrees_with_serde(&bytes);
    }

    #[test]
    fn places_are_those_of_jsonc_parser(value in any_json()) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        let oracle = jsonc_parser::parse_to_ast(&text, &Default::default(), &Default::default()).unwrap();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        places(&Reading::of(text.as_bytes()).root.unwrap(), &mut ours);
        places_of_oracle(&oracle.value.unwrap(), &mut theirs);
        prop_assert_eq!(ours, theirs);
    }
}

/// T-063.
#[test]
fn what_people_write_is_named_and_the_rest_is_read() {
    for (text, kind, span) in [
        ("# mine\n{\"a\": 1}", FaultKind::Comment, 0..6),
        ("{\"a\": 1 // mine\n}", FaultKind::Comment, 8..15),
        ("{\"a\": /* mine\n */ 1}", FaultKind::Comment, 6..13),
        ("{\"a\": 1,}", FaultKind::TrailingComma, 7..8),
        ("{\"a\": [1, 2, ]}", FaultKind::TrailingComma, 11..12),
        ("\u{feff}{\"a\": 1}", FaultKind::ByteOrderMark, 0..3),
        ("{'a': 1}", FaultKind::SingleQuotes, 1..4),
        ("{a: 1}", FaultKind::UnquotedKey, 1..2),
        ("{\"b\": 2 \"a\": 1}", FaultKind::MissingComma, 7..7),
        ("{\"a\": 1}}", FaultKind::TrailingText, 8..9),
    ] {
        let reading = Reading::of(text.as_bytes());
        assert_eq!(reading.faults, [Fault { kind, span }], "{text}");
        assert!(reading.root.unwrap().member("a").is_some(), "{text}");
    }
}

#[test]
fn a_text_that_cannot_be_read_on_has_one_fault_at_its_place() {
    for (text, kind, span) in [
        ("", FaultKind::End("text"), 0..0),
        ("{\"a\": ", FaultKind::End("a value"), 6..6),
        ("{\"a\": 1", FaultKind::End("an object"), 7..7),
        ("{\"a", FaultKind::End("a string"), 1..2),
        ("{\"a\n\": 1}", FaultKind::ControlCharacter, 3..4),
        ("{\"a\" 1}", FaultKind::MissingColon, 1..4),
        ("{\"a\": 01}", FaultKind::Number, 6..8),
        ("{\"a\": True}", FaultKind::Unexpected, 6..10),
        ("{\"a\": \"\\x\"}", FaultKind::Escape, 7..8),
    ] {
        let reading = Reading::of(text.as_bytes());
        assert_eq!(reading.faults, [Fault { kind, span }], "{text}");
        assert!(reading.root.is_none(), "{text}");
    }
    assert_eq!(Reading::of(b"{\"a\": \"\xff\"}").faults[0].kind, FaultKind::NotUtf8);
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Reading::of(nested(DEPTH_MAX).as_bytes()).faults.is_empty());
    let deep = Reading::of(nested(100_000).as_bytes());
    assert_eq!(deep.faults[0], Fault { kind: FaultKind::TooDeep, span: DEPTH_MAX..DEPTH_MAX + 1 });
}
