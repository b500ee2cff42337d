//! Whether a network that is there is the one that is asked for, key by key.

use std::collections::BTreeMap;

use serde_json::Value;

/// The keys whose values differ, each as a line for people.
pub fn differences(present: &Value, wanted: &Value) -> Vec<String> {
    let (present, wanted) = (leaves(present), leaves(wanted));
    let mut keys: Vec<&String> = present.keys().chain(wanted.keys()).collect();
    keys.sort();
    keys.dedup();
    let shown = |value: Option<&String>| value.map_or("absent", String::as_str).to_owned();
    keys.into_iter()
        .map(|key| (key, present.get(key), wanted.get(key)))
        .filter(|(_, present, wanted)| present != wanted)
        .map(|(key, present, wanted)| format!("{key}: is {}, asked for {}", shown(present), shown(wanted)))
        .collect()
}

/// Each value that is no object or array, by its path. An empty one counts as a value.
fn leaves(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    visit(value, String::new(), &mut found);
    found
}

fn visit(value: &Value, path: String, found: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            members.iter().for_each(|(key, value)| visit(value, below(key), found));
        }
        Value::Array(items) if !items.is_empty() => {
            let each = items.iter().enumerate();
            each.for_each(|(index, item)| visit(item, format!("{path}[{index}]"), found));
        }
        leaf => drop(found.insert(path, leaf.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_key_that_differs_is_named_with_both_values() {
        let present = json!({"name": "a", "plugins": [{"type": "bridge", "mtu": 1400}], "labels": {}});
        let wanted = json!({"name": "a", "plugins": [{"type": "bridge", "mtu": 9000}, {"type": "dns"}]});
        let expected = [
            "labels: is {}, asked for absent",
            "plugins[0].mtu: is 1400, asked for 9000",
            "plugins[1].type: is absent, asked for \"dns\"",
        ];
        assert_eq!(differences(&present, &wanted), expected);
        assert!(differences(&present, &present).is_empty());
    }
}
