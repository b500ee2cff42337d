//! Discovery and parsing: LR-1, LR-2, C-130, C-131.

use std::fs;

use runtime::{ConfError, Conflist};

use crate::support::House;

fn error(text: &str) -> String {
    Conflist::from_bytes(text.as_bytes()).unwrap_err().to_string()
}

fn minimal(name: &str, plugin: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"{plugin}"}}]}}"#)
}

fn types(list: &Conflist) -> Vec<&str> {
    list.plugins.iter().map(|plugin| plugin.plugin_type.as_str()).collect()
}

/// The texts are libcni's.
#[test]
fn each_error_of_a_list_has_its_text() {
    let rows = [
        (r#"{}"#, "no name"),
        (r#"null"#, "no name"),
        (r#"{"name":5}"#, "invalid name type float64"),
        (r#"{"name":null}"#, "invalid name type <nil>"),
        (r#"{"name":"n","cniVersion":true}"#, "invalid cniVersion type bool"),
        (r#"{"name":"n","disableGC":"Yes"}"#, r#"invalid value "yes" for disableGC"#),
        (r#"{"name":"n","disableCheck":[]}"#, "invalid type []interface {} for disableCheck"),
        (
            r#"{"name":"n","loadOnlyInlinedPlugins":true}"#,
            "`loadOnlyInlinedPlugins` is true, and no 'plugins' key",
        ),
        (r#"{"name":"n","plugins":{}}"#, "invalid 'plugins' type map[string]interface {}"),
        (r#"{"name":"n","plugins":[]}"#, "no plugins in list"),
        (r#"{"name":"n","cniVersions":"1.0.0"}"#, "invalid type for cniVersions: string"),
        (r#"{"name":"n","cniVersions":["1.0.0",1]}"#, "invalid type for cniVersions index 1: float64"),
    ];
    for (text, wanted) in rows {
        assert_eq!(error(text), format!("error parsing configuration list: {wanted}"), "{text}");
    }
    for text in ["", "[]", "{", "{}{}", "\"x\""] {
        assert!(error(text).starts_with("error parsing configuration list: "), "{text}");
    }
    let bad_version = error(r#"{"name":"n","cniVersions":["1.0.0","1.x"]}"#);
    assert!(bad_version.contains("invalid cniVersions entry 1.x at index 1: "), "{bad_version}");
}

/// The texts are libcni's, without the list's prefix.
#[test]
fn each_error_of_a_plugin_has_its_text() {
    for plugin in ["{}", "null", r#"{"type":""}"#] {
        let text = format!(r#"{{"name":"n","plugins":[{{"type":"a"}},{plugin}]}}"#);
        let wanted = "failed to parse plugin config 1: error parsing configuration: missing 'type'";
        assert_eq!(error(&text), wanted);
    }
    for fault in [r#""type":5"#, r#""type":"a","ipam":"b""#, r#""type":"a","capabilities":{"x":"yes"}"#] {
        let text = error(&format!(r#"{{"name":"n","plugins":[{{{fault}}}]}}"#));
        assert!(text.starts_with("failed to parse plugin config 0: error parsing configuration: "), "{text}");
    }
    // C-130: without a file there is no side directory.
    assert_eq!(error(r#"{"name":"n"}"#), "no plugin configs found");
}

/// disableCheck, disableGC and loadOnlyInlinedPlugins, as in libcni.
#[test]
fn booleans_may_be_strings_in_any_case() {
    let text = r#"{"name":"n","disableCheck":"TRUE","disableGC":true,"loadOnlyInlinedPlugins":"False",
        "plugins":[{"type":"a"}]}"#;
    let list = Conflist::from_bytes(text.as_bytes()).unwrap();
    assert_eq!((list.disable_check, list.disable_gc, list.only_inlined), (true, true, false));
}

/// C-131, LR-2.
#[test]
fn the_highest_version_that_is_not_newer_than_ours_is_chosen() {
    let rows = [
        (r#""cniVersion":"1.0.0","cniVersions":["0.4.0","1.1.0","9.9.9"],"#, "1.1.0"),
        (r#""cniVersion":"1.1.0","cniVersions":["0.4.0"],"#, "1.1.0"),
        (r#""cniVersion":"9.9.9","cniVersions":["0.3.1","0.4.0"],"#, "0.4.0"),
        (r#""cniVersions":["9.9.9"],"#, ""),
        (r#""cniVersion":"9.9.9","#, "9.9.9"),
        (r#""cniVersion":"9.9.9","cniVersions":["8.8.8"],"#, "9.9.9"),
        ("", ""),
    ];
    for (keys, wanted) in rows {
        let text = format!(r#"{{{keys}"name":"n","plugins":[{{"type":"a"}}]}}"#);
        assert_eq!(Conflist::from_bytes(text.as_bytes()).unwrap().version, wanted, "{keys}");
    }
}

/// LR-1: `.conflist` in byte order, the first of that name; directories, other files are skipped.
#[test]
fn the_first_list_of_that_name_in_byte_order_wins() {
    let house = House::new();
    house.file("net.d/20-b.conflist", &minimal("net", "late"));
    house.file("net.d/10-a.conflist", &minimal("net", "early"));
    house.file("net.d/00-z.conflist", &minimal("other", "other"));
    house.file("net.d/00-a.conf", r#"{"name":"net","type":"single"}"#);
    house.file("net.d/00-a.conflist.bak", "broken");
    fs::create_dir(house.path("net.d/00-dir.conflist")).unwrap();
    let list = Conflist::load(house.path("net.d"), "net").unwrap();
    assert_eq!(types(&list), ["early"]);
    assert_eq!(list.bytes, minimal("net", "early").as_bytes());
}

/// LR-1: the error names the file.
#[test]
fn a_broken_file_of_another_network_aborts_the_search() {
    let house = House::new();
    let broken = house.file("net.d/00-broken.conflist", r#"{"name":7}"#);
    house.file("net.d/10-a.conflist", &minimal("net", "a"));
    let error = Conflist::load(house.path("net.d"), "net").unwrap_err();
    let wanted = "error parsing configuration list: invalid name type float64";
    assert_eq!(error.to_string(), format!("{wanted} (in {})", broken.display()));

    fs::remove_file(&broken).unwrap();
    // A broken single configuration does not matter as long as a list is found before it.
    house.file("net.d/00-broken.json", "{}");
    assert!(Conflist::load(house.path("net.d"), "net").is_ok());
    let error = Conflist::load(house.path("net.d"), "elsewhere").unwrap_err().to_string();
    assert!(error.starts_with("error parsing configuration: missing 'type' (in "), "{error}");

    house.file("net.d/00-broken.json", r#"{"type":"x"}"#);
    std::os::unix::fs::symlink("/nonexistent", house.path("net.d/00.conflist")).unwrap();
    let error = Conflist::load(house.path("net.d"), "net").unwrap_err();
    assert!(matches!(error, ConfError::Read { .. }), "{error}");
}

/// LR-1: a missing directory counts as empty.
#[test]
fn a_missing_network_and_an_empty_directory_have_different_texts() {
    let house = House::new();
    let dir = house.path("net.d");
    let text = |name: &str| Conflist::load(&dir, name).unwrap_err().to_string();
    assert_eq!(text("x"), format!("no net configurations found in {}", dir.display()));
    house.file("net.d/readme.txt", "");
    assert_eq!(text("x"), format!("no net configurations found in {}", dir.display()));
    house.file("net.d/a.conflist", &minimal("net", "a"));
    assert_eq!(text("x"), format!("no net configuration with name \"x\" in {}", dir.display()));
    fs::remove_file(dir.join("a.conflist")).unwrap();
    house.file("net.d/a.conf", r#"{"name":"net","type":"a"}"#);
    assert_eq!(text("x"), format!("no net configuration with name \"x\" in {}", dir.display()));
    let error = Conflist::load(dir.join("a.conf"), "x").unwrap_err();
    assert!(matches!(error, ConfError::ReadDir { .. }), "{error}");
}

/// LR-1.
#[test]
fn a_single_configuration_becomes_a_list_of_one_plugin() {
    let house = House::new();
    house.file("net.d/b.json", r#"{"Name":"net","cniVersion":"0.4.0","Type":"b","mtu":1400.0}"#);
    house.file("net.d/a.conf", r#"{"name":"other","type":"a"}"#);
    // Only lists have a side directory.
    house.file("net.d/net/x.conf", r#"{"type":"x"}"#);
    let list = Conflist::load(house.path("net.d"), "net").unwrap();
    assert_eq!((list.name.as_str(), list.version.as_str()), ("net", "0.4.0"));
    assert_eq!(types(&list), ["b"]);
    assert_eq!(
        String::from_utf8(list.bytes).unwrap(),
        r#"{"cniVersion":"0.4.0","name":"net","plugins":[{"Name":"net","Type":"b","cniVersion":"0.4.0","mtu":1400}]}"#
    );
}

/// LR-1: the bytes for the cache do not contain them (LR-4).
#[test]
fn plugins_of_the_side_directory_are_appended_unless_forbidden() {
    let house = House::new();
    let text = minimal("net", "inline");
    let path = house.file("net.d/a.conflist", &text);
    house.file("net.d/net/20.conf", r#"{"type":"second"}"#);
    house.file("net.d/net/10.conf", r#"{"type":"first"}"#);
    house.file("net.d/net/30.conflist", "not looked at");
    let list = Conflist::from_file(&path).unwrap();
    assert_eq!(types(&list), ["inline", "first", "second"]);
    assert_eq!(list.bytes, text.as_bytes());

    let only = text.replacen('{', r#"{"loadOnlyInlinedPlugins":true,"#, 1);
    house.file("net.d/a.conflist", &only);
    assert_eq!(types(&Conflist::from_file(&path).unwrap()), ["inline"]);

    house.file("net.d/a.conflist", r#"{"name":"net"}"#);
    assert_eq!(types(&Conflist::from_file(&path).unwrap()), ["first", "second"]);

    house.file("net.d/net/20.conf", r#"{"type":""}"#);
    let error = Conflist::from_file(&path).unwrap_err().to_string();
    assert!(error.starts_with("error parsing configuration: missing 'type' (in "), "{error}");
}

/// C-130.
#[test]
fn a_list_without_plugins_is_an_error() {
    let house = House::new();
    let path = house.file("net.d/a.conflist", r#"{"name":"net"}"#);
    let error = Conflist::from_file(&path).unwrap_err().to_string();
    assert_eq!(error, format!("no plugin configs found (in {})", path.display()));
}

/// C-022: no plugin would accept such a name.
#[test]
fn a_name_that_is_a_path_has_no_side_directory() {
    let house = House::new();
    house.file("secret/x.conf", r#"{"type":"x"}"#);
    house.file("net.d/y.conf", r#"{"type":"y"}"#);
    for name in ["../secret", "", "."] {
        let path = house.file("net.d/a.conflist", &minimal(name, "inline"));
        assert_eq!(types(&Conflist::from_file(&path).unwrap()), ["inline"], "{name:?}");
    }
}
