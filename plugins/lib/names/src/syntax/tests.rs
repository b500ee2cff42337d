use proptest::prelude::*;

use super::*;

#[test]
fn names_that_runtimes_use_are_valid() {
    for (text, name) in [
        ("web", "web"),
        ("Web-1", "web-1"),
        ("proj_db_1", "proj_db_1"),
        ("_srv", "_srv"),
        ("example.org", "example.org"),
        ("Web.", "web"),
        ("xn--bcher-kva", "xn--bcher-kva"),
        ("1a", "1a"),
        ("0123456789ab", "0123456789ab"),
        ("999999999999", "999999999999"),
        ("256.1.1.1", "256.1.1.1"),
    ] {
        assert_eq!(parse(text, None).unwrap(), name);
    }
    assert!(parse(&"a".repeat(63), None).is_ok());
    assert!(parse(&["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join("."), None).is_ok());
}

/// D-009, and names with another meaning.
#[test]
fn invalid_names_are_rejected() {
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(62)].join(".");
    for text in [
        "",
        ".",
        "a..",
        ".a",
        "a..b",
        "-a",
        "a-",
        "a.-b",
        "a b",
        "a,b",
        "a\n10.9.9.9 injected",
        "a\0",
        "ä",
        "a/b",
        "a:b",
        "*",
        &"a".repeat(64),
        &long,
    ] {
        assert!(matches!(parse(text, None), Err(Invalid::Syntax(_))), "{text:?}");
    }
    for text in
        ["localhost", "LocalHost", "a.localhost", "10.0.0.1", "10.1", "167772161", "0x7f.1", "010.0.0.1"]
    {
        assert!(matches!(parse(text, None), Err(Invalid::Reserved(_))), "{text:?}");
    }
    assert!(parse(&"a".repeat(60), Some(&long[..192])).is_ok());
    assert!(parse(&"a".repeat(61), Some(&long[..192])).is_err());
}

/// D-007
#[test]
fn every_container_id_has_a_short_name() {
    for (id, name) in [
        ("0123456789ABcdef", "0123456789ab"),
        ("c1", "c1"),
        ("pod-name--..x", "pod-name"),
        ("a..b", "a__b"),
        ("a.-b", "a__b"),
    ] {
        assert_eq!(short_id(id), name);
    }
}

#[test]
fn an_external_name_has_dots_and_none_of_our_suffixes() {
    for (name, outside) in [
        ("web", false),
        ("registry-1.docker.io", true),
        ("web.foo.io", false),
        ("foo.io", true),
        ("web.net", false),
        ("web.xnet", true),
    ] {
        assert_eq!(is_external(name, Some("foo.io"), "Net"), outside, "{name}");
    }
}

#[test]
fn duplicate_names_are_removed() {
    let names = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(deduplicate(names(&["a", "b", "a"])).unwrap(), names(&["a", "b"]));
    let many: Vec<String> = (0..65).map(|n| format!("n{n}")).collect();
    assert_eq!(deduplicate(many.clone()).unwrap_err(), 65);
    assert_eq!(deduplicate(many[..64].to_vec()).unwrap().len(), 64);
}

proptest! {
    /// D-009: a text becomes at most one name, and no other one.
    #[test]
    fn valid_names_follow_the_grammar(text in "\\PC{0,80}") {
        if let Ok(name) = parse(&text, None) {
            let same = text.to_ascii_lowercase();
            prop_assert_eq!(&name, same.strip_suffix('.').unwrap_or(&same));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)));
        }
    }

    #[test]
    fn short_names_follow_the_grammar(id in "[A-Za-z0-9][A-Za-z0-9_.-]{0,30}") {
        prop_assert!(check_syntax(&short_id(&id)).is_ok());
    }
}
