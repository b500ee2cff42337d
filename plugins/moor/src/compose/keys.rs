//! The keys of a compose file: a slip is found, since a network that is passed over is missed.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::suggest::nearest;
use crate::yaml::{Fault, Key, Map, Node, Value};

/// The keys of a document that are read.
const TOP: [&str; 3] = ["name", "networks", "services"];
/// Its others.
const TOP_OTHERS: [&str; 5] = ["version", "volumes", "configs", "secrets", "models"];
/// The keys of a service that are read.
const SERVICE: [&str; 7] =
    ["container_name", "expose", "links", "mac_address", "network_mode", "networks", "ports"];

/// What is read of a document, before variables are replaced: one that only an image needs may
/// have no value here.
pub fn select(document: &Rc<Node>) -> Result<Rc<Node>, Fault> {
    let mut selected = Map::default();
    for (key, value) in &document.map("a compose file")?.0 {
        match &*key.text {
            "include" => return Err(not_read(key)),
            "services" => selected.0.push((key.clone(), services(value)?)),
            text if TOP.contains(&text) => selected.0.push((key.clone(), Rc::clone(value))),
            text if TOP_OTHERS.contains(&text) || text.starts_with("x-") => {}
            text => return Err(unknown(key, text, &[&TOP[..], &TOP_OTHERS].concat())),
        }
    }
    Ok(Rc::new(Node { at: document.at, value: Value::Map(selected) }))
}

fn not_read(key: &Key) -> Fault {
    let text = format!("{:?} is not read: networks could be missed; name each file with -f", key.text);
    Fault::new(key.at, text)
}

fn services(services: &Rc<Node>) -> Result<Rc<Node>, Fault> {
    let mut selected = Map::default();
    for (name, service) in &services.map("\"services\"")?.0 {
        selected.0.push((name.clone(), self::service(service, &name.text)?));
    }
    Ok(Rc::new(Node { at: services.at, value: Value::Map(selected) }))
}

/// Most keys of a service are a runtime's; only a slip of a key that is read is found.
fn service(service: &Rc<Node>, name: &str) -> Result<Rc<Node>, Fault> {
    let mut selected = Map::default();
    for (key, value) in &service.map(&format!("the service {name:?}"))?.0 {
        match &*key.text {
            "extends" => return Err(not_read(key)),
            text if SERVICE.contains(&text) => selected.0.push((key.clone(), Rc::clone(value))),
            text => {
                if let Some(meant) = nearest(text, SERVICE) {
                    return Err(Fault::new(key.at, format!("unknown key {text:?}; did you mean {meant:?}?")));
                }
            }
        }
    }
    Ok(Rc::new(Node { at: service.at, value: Value::Map(selected) }))
}

/// Refuses a key that is not one of these, except `x-*`.
pub fn ensure_known(map: &Map, known: &[&str]) -> Result<(), Fault> {
    let is_unknown = |key: &&Key| !known.contains(&&*key.text) && !key.text.starts_with("x-");
    match map.0.iter().map(|(key, _)| key).find(is_unknown) {
        Some(key) => Err(unknown(key, &key.text, known)),
        None => Ok(()),
    }
}

fn unknown(key: &Key, text: &str, known: &[&str]) -> Fault {
    let meant = nearest(text, known.iter().copied()).map(|meant| format!("; did you mean {meant:?}?"));
    let keys = || format!("; the keys are {}", known.join(", "));
    Fault::new(key.at, format!("unknown key {text:?}{}", meant.unwrap_or_else(keys)))
}

/// Text by key, written as a map or as a list of `KEY=VALUE`.
pub fn pairs(node: &Node, what: &str) -> Result<BTreeMap<String, String>, Fault> {
    let mut pairs = BTreeMap::new();
    match &node.value {
        Value::List(list) => {
            for entry in list {
                let text = entry.text(what)?;
                let (key, value) = text.split_once('=').unwrap_or((text, ""));
                pairs.insert(key.to_owned(), value.to_owned());
            }
        }
        _ => {
            for (key, value) in &node.map(what)?.0 {
                let value =
                    if value.is_null() { "" } else { value.text(&format!("{what}, {}", key.text))? };
                pairs.insert(key.text.to_string(), value.to_owned());
            }
        }
    }
    Ok(pairs)
}

/// The words of a list.
pub fn words(node: &Node, what: &str) -> Result<Vec<String>, Fault> {
    node.list(what)?.iter().map(|word| Ok(word.text(what)?.to_owned())).collect()
}
