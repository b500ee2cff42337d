//! The tables of keys that the tool checks configurations by are those of the structures that the
//! plugins decode, both ways.

#![allow(clippy::unwrap_used, reason = "tests")]

mod source;

use std::collections::BTreeMap;

use cni::keys::{Key, Keys, Kind};

use source::{keys_of, keys_read, plugins, read, root};

/// The keys of a table, each with the shape of its value. The section of an IPAM plugin has a table
/// of its own.
fn listed(keys: Keys) -> BTreeMap<String, &'static str> {
    let mut found = BTreeMap::new();
    keys.iter().for_each(|part| list(part, "", &mut found));
    found
}

fn list(keys: &[Key], prefix: &str, found: &mut BTreeMap<String, &'static str>) {
    for key in keys {
        let path = format!("{prefix}{}", key.name);
        match inner(key.kind) {
            Kind::Object(keys) => list(keys, &format!("{path}."), found),
            Kind::Ipam => drop(found.insert(format!("{path}.type"), "text")),
            kind => drop(found.insert(path, shape(kind, key.kind))),
        }
    }
}

/// What an array of arrays holds.
fn inner(kind: Kind) -> Kind {
    match kind {
        Kind::List(element) => inner(*element),
        kind => kind,
    }
}

fn shape(inner: Kind, kind: Kind) -> &'static str {
    match inner {
        Kind::Bool => "bool",
        Kind::Number(..) => "number",
        Kind::Mtu(_) => "mtu",
        Kind::Map(_) => "map",
        Kind::Text | Kind::OneOf(_) if matches!(kind, Kind::List(_)) => "texts",
        Kind::Text | Kind::OneOf(_) => "text",
        Kind::Any => "any",
        Kind::List(_) | Kind::Object(_) | Kind::Ipam => unreachable!("they are looked into"),
    }
}

/// The shape of the values that a Rust type is decoded from; `None` for a structure of another
/// crate.
fn decoded(of: &str) -> Option<&'static str> {
    let of = of.trim_end_matches(',');
    let words: Vec<&str> =
        of.split(|c: char| !c.is_alphanumeric()).filter(|word| *word != "Option").collect();
    Some(match words.iter().find(|word| !word.is_empty() && **word != "Vec" && **word != "cni")? {
        &"bool" => "bool",
        &"u8" | &"u32" | &"u64" | &"i64" => "number",
        &"String" if words.contains(&"Vec") => "texts",
        &"String" => "text",
        &"MtuConf" => "mtu",
        &"BTreeMap" | &"Written" => "map",
        &"Json" => "any",
        &"Dns" | &"DnsConf" | &"Route" => return None,
        other => panic!("what is a {other}?"),
    })
}

/// T-062.
#[test]
fn a_table_of_keys_is_what_the_decoder_takes_both_ways() {
    for plugin in plugins() {
        let name = plugin.file_name().unwrap().to_string_lossy().into_owned();
        let table = moor::lint::keys_of_plugin(&name).unwrap_or_else(|| panic!("{name} has no table"));
        let mut listed = listed(table);
        for (key, of) in keys_read(&plugin) {
            match decoded(&of) {
                Some(shape) => assert_eq!(listed.remove(&key), Some(shape), "{name}: {key}"),
                None => {
                    let before = listed.len();
                    listed.retain(|path, _| !path.starts_with(&format!("{key}.")));
                    assert!(listed.len() < before, "{name}: {key}");
                }
            }
        }
        assert!(listed.is_empty(), "{name} does not decode {:?}", listed.keys());
    }
}

#[test]
fn the_keys_of_dns_are_those_of_its_structure() {
    let source = read(&root().join("plugins/lib/cni/src/dns.rs")).replace("DnsConf", "Conf");
    let dns: Vec<String> = keys_of(&source).into_keys().collect();
    let table = listed(&[&[Key { name: "dns", kind: cni::keys::DNS }]]);
    assert_eq!(
        table.into_keys().collect::<Vec<_>>(),
        dns.iter().map(|key| format!("dns.{key}")).collect::<Vec<_>>()
    );
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
    let keys: Vec<String> = keys_of(source).into_keys().collect();
    assert_eq!(keys, ["hostIP", "isGateway", "ranges.range_end", "type"]);
}
