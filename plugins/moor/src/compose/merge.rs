//! Several files: a later one adds to maps and lists, and replaces words.

use std::rc::Rc;

use crate::yaml::{Key, Map, Node, Scalar, Value};

/// The tree of `base` with `over` laid over it. `path` leads to both.
pub fn merge(base: &Rc<Node>, over: &Rc<Node>, path: &mut Vec<Rc<str>>) -> Rc<Node> {
    if over.is_null() {
        return Rc::clone(base);
    }
    let (base, over) = (as_map(base, path), as_map(over, path));
    let value = match (&base.value, &over.value) {
        (Value::Map(base), Value::Map(over)) => Value::Map(maps(base, over, path)),
        (Value::List(base), Value::List(over)) if is(path, &["networks", "*", "ipam", "config"]) => {
            Value::List(by_subnet(base, over, path))
        }
        (Value::List(base), Value::List(over)) => {
            let new = over.iter().filter(|one| !base.iter().any(|known| same(known, one)));
            Value::List(base.iter().chain(new).cloned().collect())
        }
        _ => return over,
    };
    Rc::new(Node { at: over.at, value })
}

fn maps(base: &Map, over: &Map, path: &mut Vec<Rc<str>>) -> Map {
    let mut merged = base.clone();
    for (key, value) in &over.0 {
        match merged.0.iter_mut().find(|(known, _)| known.text == key.text) {
            None => merged.0.push((key.clone(), Rc::clone(value))),
            Some((_, known)) => {
                path.push(Rc::clone(&key.text));
                *known = merge(known, value, path);
                path.pop();
            }
        }
    }
    merged
}

/// The subnets of a network: one of the same subnet is changed, another one added.
fn by_subnet(base: &[Rc<Node>], over: &[Rc<Node>], path: &mut Vec<Rc<str>>) -> Vec<Rc<Node>> {
    let mut merged = base.to_vec();
    for config in over {
        let subnet = subnet(config);
        match merged.iter_mut().find(|known| subnet.is_some() && self::subnet(known) == subnet) {
            Some(known) => *known = merge(known, config, path),
            None => merged.push(Rc::clone(config)),
        }
    }
    merged
}

fn subnet(config: &Node) -> Option<&str> {
    config.map("").ok()?.get("subnet")?.text("").ok()
}

/// What may be written as a list or as a map becomes a map, so that both can be merged.
fn as_map(node: &Rc<Node>, path: &[Rc<str>]) -> Rc<Node> {
    let Value::List(list) = &node.value else { return Rc::clone(node) };
    let separator = match path {
        _ if is(path, &["services", "*", "networks"]) => None,
        _ if is(path, &["networks", "*", "labels"]) => Some('='),
        _ => return Rc::clone(node),
    };
    let mut map = Map::default();
    for entry in list {
        let Ok(text) = entry.text("") else { return Rc::clone(node) };
        let (key, value) = match separator {
            Some(separator) => text.split_once(separator).unwrap_or((text, "")),
            None => (text, ""),
        };
        let key = Key { at: entry.at, text: key.into() };
        let value = Scalar { text: value.into(), plain: separator.is_none() };
        map.0.push((key, Node::scalar(entry.at, value)));
    }
    Rc::new(Node { at: node.at, value: Value::Map(map) })
}

fn is(path: &[Rc<str>], pattern: &[&str]) -> bool {
    path.len() == pattern.len()
        && path.iter().zip(pattern).all(|(part, wanted)| *wanted == "*" || &**part == *wanted)
}

/// Whether both hold the same, wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.value, &other.value) {
        (Value::Scalar(one), Value::Scalar(other)) => one.text == other.text,
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            let has = |key: &Key, value| other.get(&key.text).is_some_and(|other| same(value, other));
            one.0.len() == other.0.len() && one.0.iter().all(|(key, value)| has(key, value))
        }
        _ => false,
    }
}
