use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Conf {
    host_port: u16,
    mtu: Option<i64>,
    names: Vec<String>,
    inner: Inner,
    list: Vec<Vec<Inner>>,
    map: BTreeMap<String, String>,
    odd: Json,
    kind: Option<Kind>,
    ratio: f64,
    on: bool,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Inner {
    subnet: String,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Private,
    Vepa,
}

fn decode(text: &str) -> Result<Conf, String> {
    let tree = Json::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    tree.decode().map_err(|error: DecodeError| error.to_string())
}

/// C-027: duplicates may differ in case.
#[test]
fn keys_match_without_regard_to_case_and_the_last_wins() {
    let conf = decode(r#"{"HostPort":1,"MTU":5,"Inner":{"SUBNET":"a"},"hostport":2,"mtu":6}"#).unwrap();
    assert_eq!((conf.host_port, conf.mtu, conf.inner.subnet.as_str()), (2, Some(6), "a"));
    let tree = Json::parse(br#"{"name":"a","NAME":"b"}"#).unwrap();
    assert_eq!(tree.get("Name").and_then(Json::as_str), Some("b"));
}

/// C-026, C-028
#[test]
fn null_means_absent_and_unknown_keys_are_ignored() {
    let all = r#"{"hostPort":null,"mtu":null,"names":null,"inner":null,"list":null,"map":null,"odd":null,
        "kind":null,"ratio":null,"on":null,"capabilities":{"x":true},"y":[1,{"z":[]}]}"#;
    assert_eq!(decode(all).unwrap(), Conf::default());
    assert_eq!(decode("{}").unwrap(), Conf::default());
    assert_eq!(decode("null").unwrap(), Conf::default());
    assert_eq!(decode(r#"{"list":[null,[null]]}"#).unwrap().list, [vec![], vec![Inner::default()]]);
    assert_eq!(decode(r#"{"mtu":5,"mtu":null}"#).unwrap().mtu, None);
}

/// C-028: an integer has no fraction.
#[test]
fn an_error_names_the_path_to_the_value() {
    for (text, msg) in [
        (r#"{"mtu":1400.0}"#, "mtu: expected an integer, found number 1400.0"),
        (r#"{"mtu":"1400"}"#, "mtu: expected an integer, found string"),
        (r#"{"mtu":1e3}"#, "mtu: expected an integer, found number 1000.0"),
        (r#"{"inner":{"subnet":5}}"#, "inner.subnet: expected a string, found number 5"),
        (r#"{"list":[[],[{},{"Subnet":{}}]]}"#, "list[1][1].subnet: expected a string, found object"),
        (r#"{"names":["a",1]}"#, "names[1]: expected a string, found number 1"),
        (r#"{"names":["a",null]}"#, "names[1]: expected a string, found null"),
        (r#"{"names":"a"}"#, "names: expected an array, found string"),
        (r#"{"inner":[]}"#, "inner: expected an object, found array"),
        (r#"{"map":{"Aa":true}}"#, "map.Aa: expected a string, found boolean"),
        (r#"{"kind":"odd"}"#, "kind: unknown value \"odd\", expected one of [\"private\", \"vepa\"]"),
        (r#"{"kind":1}"#, "kind: expected a string, found number 1"),
        (r#"{"on":"true"}"#, "on: expected a boolean, found string"),
        ("[]", "expected an object, found array"),
    ] {
        assert_eq!(decode(text).unwrap_err(), msg, "{text}");
    }
    for number in ["-1", "65536", "18446744073709551615", "123456789012345678901234567890"] {
        let error = decode(&format!("{{\"hostPort\":{number}}}")).unwrap_err();
        assert!(error.starts_with("hostPort: expected"), "{error}");
    }
}

#[test]
fn maps_keep_their_keys_and_open_types_their_values() {
    let conf = decode(r#"{"map":{"Aa":"1","aA":"2"},"odd":{"B":[1,null]},"kind":"vepa","ratio":2}"#).unwrap();
    assert_eq!(
        conf.map.into_iter().collect::<Vec<_>>(),
        [("Aa".into(), "1".into()), ("aA".into(), "2".into())]
    );
    assert_eq!(conf.odd.print(Style::Compact), br#"{"B":[1,null]}"#);
    assert_eq!((conf.kind, conf.ratio), (Some(Kind::Vepa), 2.0));
}

/// C-021
#[test]
fn malformed_documents_are_refused() {
    let deep = "[".repeat(100_000);
    let closed = format!("{}{}", "[".repeat(128), "]".repeat(128));
    for text in ["", " ", "{", "{}x", "{}{}", "{\"a\":}", "[1,]", "'a'", &deep, &closed] {
        assert!(Json::parse(text.as_bytes()).is_err());
    }
    for bytes in
        [&b"{\"a\":\"\xff\"}"[..], b"\xff", b"{\"a\":1}\0", b"\xef\xbb\xbf{}", b"{\"a\":\"\\ud800\"}"]
    {
        assert!(Json::parse(bytes).is_err());
    }
    let fits = format!("{}{}", "[".repeat(127), "]".repeat(127));
    assert!(Json::parse(fits.as_bytes()).is_ok());
}

/// A value of two bytes takes 32 bytes of memory.
#[test]
fn the_number_of_values_is_limited() {
    let with = |values: usize| {
        let mut text = vec![b'['];
        text.extend(b"0,".repeat(values - 2));
        text.extend(b"0]");
        Json::parse(&text)
    };
    assert!(with(MOST_VALUES).is_ok());
    let error = with(MOST_VALUES + 1).unwrap_err().to_string();
    assert!(error.starts_with("more than 1048576 values"), "{error}");
}

/// C-004
#[test]
fn documents_are_indented_by_four_spaces_without_a_newline() {
    let text = br#"{"b":[1,-2,2.5,true,null,"\"<\n"],"a":{},"c":[]}"#;
    let tree = Json::parse(text).unwrap();
    assert_eq!(tree.print(Style::Compact), text);
    let indented = "{\n    \"b\": [\n        1,\n        -2,\n        2.5,\n        true,\n        null,\n        \
                    \"\\\"<\\n\"\n    ],\n    \"a\": {},\n    \"c\": []\n}";
    assert_eq!(String::from_utf8(tree.print(Style::Indented)).unwrap(), indented);
}

pub(crate) fn any_tree() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(|number| Json::Number(number.into())),
        any::<u64>().prop_map(|number| Json::Number(number.into())),
        ".{0,8}".prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::Array),
            prop::collection::vec((".{0,4}", inner), 0..6).prop_map(Json::Object),
        ]
    })
}

proptest! {
    #[test]
    fn a_printed_tree_reads_back(tree in any_tree()) {
        for style in [Style::Compact, Style::Indented] {
            prop_assert_eq!(&Json::parse(&tree.print(style)).unwrap(), &tree);
        }
    }

    #[test]
    fn decoding_never_panics(tree in any_tree()) {
        let _ = tree.decode::<Conf>().is_ok();
    }

    #[test]
    fn parsing_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Json::parse(&bytes).is_ok();
    }
}
