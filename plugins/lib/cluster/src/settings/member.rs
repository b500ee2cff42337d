//! Members of the file by their types. `null` counts as absent.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The longest text, in bytes.
const TEXT_MAX: usize = 4096;

/// The key at fault, and why.
type Fault = (&'static str, String);

/// The members of the file.
pub(super) struct Members(pub(super) Map<String, Value>);

impl Members {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A boolean; false if absent.
    pub(super) fn bool(&self, key: &'static str) -> Result<bool, Fault> {
        self.get(key)
            .map_or(Ok(false), |value| value.as_bool().ok_or_else(|| (key, wrong(value, "true or false"))))
    }

    /// An integer between these bounds, both included.
    pub(super) fn number(&self, key: &'static str, default: u32, low: u32, high: u32) -> Result<u32, Fault> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (low..=high).contains(number));
        number.ok_or_else(|| (key, wrong(value, &format!("a number from {low} to {high}"))))
    }

    /// A port.
    pub(super) fn port(&self, key: &'static str, default: u16) -> Result<u16, Fault> {
        let number = self.number(key, default.into(), 1, u16::MAX.into())?;
        Ok(u16::try_from(number).unwrap_or(default))
    }

    /// A string.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, Fault> {
        self.get(key).map(|value| text(key, value)).transpose()
    }

    /// A list of strings.
    pub(super) fn texts(&self, key: &'static str) -> Result<Option<Vec<String>>, Fault> {
        match self.get(key) {
            Some(value) if !value.is_array() => Err((key, wrong(value, "a list of strings"))),
            _ => self.text_or_texts(key),
        }
    }

    /// A list of strings, or one string.
    pub(super) fn text_or_texts(&self, key: &'static str) -> Result<Option<Vec<String>>, Fault> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(items)) => {
                items.iter().map(|item| text(key, item)).collect::<Result<_, _>>().map(Some)
            }
            Some(value) => text(key, value).map(|text| Some(vec![text])),
        }
    }

    /// An absolute path.
    pub(super) fn path(&self, key: &'static str) -> Result<Option<PathBuf>, Fault> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        if !Path::new(&text).is_absolute() {
            return Err((key, format!("{:?} is not an absolute path", cni::shortened(&text))));
        }
        Ok(Some(text.into()))
    }
}

fn text(key: &'static str, value: &Value) -> Result<String, Fault> {
    let text = value.as_str().ok_or_else(|| (key, wrong(value, "a string")))?;
    if text.len() > TEXT_MAX || text.contains('\0') {
        return Err((key, "it is too long, or has a NUL".into()));
    }
    Ok(text.to_owned())
}

fn wrong(value: &Value, wanted: &str) -> String {
    format!("{} is not {wanted}", cni::shortened(&value.to_string()))
}
