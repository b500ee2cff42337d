//! Compares JSON with an expected shape. In the expectation a string `<mac>`, `<veth>`, `<number>`
//! or `<any>` stands for a value that differs between runs.

use serde_json::Value;

/// Lists where `actual` differs from `expected`, one line per JSON path. Empty when they match.
pub fn differences(expected: &Value, actual: &Value) -> Vec<String> {
    let mut found = vec![];
    compare("", expected, actual, &mut found);
    found
}

fn compare(path: &str, expected: &Value, actual: &Value, found: &mut Vec<String>) {
    match (expected, actual) {
        _ if expected == actual => {}
        (Value::String(class), _) if class.starts_with('<') && class.ends_with('>') => {
            if !is_of_class(class, actual) {
                found.push(format!("{}: expected {class}, is {actual}", at(path)));
            }
        }
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, value) in expected {
                let path = format!("{path}.{key}");
                match actual.get(key) {
                    Some(actual) => compare(&path, value, actual, found),
                    None => found.push(format!("{}: expected {value}, is absent", at(&path))),
                }
            }
            for (key, value) in actual.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                found.push(format!("{path}.{key}: expected nothing, is {value}"));
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(&format!("{path}[{index}]"), expected, actual, found);
            }
        }
        _ => found.push(format!("{}: expected {expected}, is {actual}", at(path))),
    }
}

fn at(path: &str) -> &str {
    if path.is_empty() { "the document" } else { path }
}

fn is_of_class(class: &str, actual: &Value) -> bool {
    match (class, actual) {
        ("<any>", _) => true,
        ("<number>", Value::Number(_)) => true,
        ("<mac>", Value::String(text)) => is_mac(text),
        ("<veth>", Value::String(text)) => is_veth(text),
        _ => false,
    }
}

/// Six lower-case hex pairs with colons.
pub fn is_mac(text: &str) -> bool {
    let hex = |part: &str| {
        part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    text.split(':').count() == 6 && text.split(':').all(hex)
}

/// `veth` and eight hex digits.
pub fn is_veth(text: &str) -> bool {
    text.strip_prefix("veth")
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::differences;

    #[test]
    fn a_class_matches_its_values_and_no_others() {
        let expected = json!({"mac": "<mac>", "name": "<veth>"});
        assert!(
            differences(&expected, &json!({"mac": "0a:00:00:00:00:01", "name": "veth0123abcd"})).is_empty()
        );
        assert_eq!(differences(&expected, &json!({"mac": "0a:00", "name": "eth0"})).len(), 2);
    }

    #[test]
    fn missing_added_and_changed_values_are_listed_with_their_paths() {
        let expected = json!({"a": {"b": 1}, "c": [1, 2], "d": true});
        let actual = json!({"a": {}, "c": [1, 3], "d": true, "e": null});
        assert_eq!(
            differences(&expected, &actual),
            [".a.b: expected 1, is absent", ".c[1]: expected 2, is 3", ".e: expected nothing, is null"]
        );
    }

    #[test]
    fn lists_of_different_lengths_differ() {
        assert_eq!(differences(&json!([1]), &json!([1, 1])).len(), 1);
    }
}
