//! `--filter KEY=VALUE`: one key several times is OR, different keys are AND.

use std::str::FromStr;

use crate::suggest::nearest;

use super::described::Described;

const KEYS: [&str; 7] = ["driver", "id", "in-use", "internal", "label", "name", "type"];

/// One filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    key: &'static str,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let Some(key) = KEYS.into_iter().find(|known| *known == key) else {
            let meant = nearest(key, KEYS).map(|meant| format!("; did you mean {meant:?}?"));
            let keys = KEYS.join(", ");
            return Err(format!("unknown key {key:?}, of {keys}{}", meant.unwrap_or_default()));
        };
        let words: &[&str] = match key {
            "in-use" | "internal" => &["true", "false"],
            "type" => &["custom", "builtin"],
            _ => return Ok(Self { key, value: value.to_owned() }),
        };
        if !words.contains(&value) {
            return Err(format!("{key} is {}", words.join(" or ")));
        }
        Ok(Self { key, value: value.to_owned() })
    }
}

impl Filter {
    /// Whether the answer depends on the attachments.
    pub fn needs_containers(&self) -> bool {
        self.key == "in-use"
    }

    fn accepts(&self, network: &Described) -> bool {
        let value = self.value.as_str();
        match self.key {
            "driver" => network.driver == value,
            "id" => network.id.starts_with(value),
            "in-use" => network.containers.is_some_and(|count| (count > 0).to_string() == value),
            "internal" => network.internal.to_string() == value,
            "name" => network.name.contains(value),
            // All that a file defines is custom.
            "type" => value == "custom",
            _ => has_label(network, value),
        }
    }
}

/// `KEY`, or `KEY=VALUE`.
fn has_label(network: &Described, label: &str) -> bool {
    match label.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|has| has == value),
        None => network.labels.contains_key(label),
    }
}

/// Whether the network passes all keys.
pub fn accepts(filters: &[Filter], network: &Described) -> bool {
    let passes = |key| {
        let mut of_key = filters.iter().filter(|filter| filter.key == key).peekable();
        of_key.peek().is_none() || of_key.any(|filter| filter.accepts(network))
    };
    KEYS.into_iter().all(passes)
}
