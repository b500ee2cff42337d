//! A JSON document as a tree that keeps the order of keys, their case and their duplicates.

mod de;

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Number;
use serde_json::ser::{CompactFormatter, PrettyFormatter};

pub use de::DecodeError;

/// A JSON value. A plugin keeps one for a key of variable type, and reads it with [`Json::decode`].
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Json {
    /// `null`, which means absent everywhere.
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number; one with a fraction or an exponent is not an integer.
    Number(Number),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object: its members in order, with duplicates.
    Object(Vec<(String, Json)>),
}

/// The most values that a document may have. A value takes 32 bytes of memory but as few as two of
/// the text, so the limit on the text alone would not limit the memory.
const MOST_VALUES: usize = 1 << 20;

/// How a tree is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// On one line.
    Compact,
    /// Indented by four spaces (C-004).
    Indented,
}

impl Json {
    /// Reads one document.
    ///
    /// # Errors
    /// The text is not JSON, not UTF-8, deeper than 127 levels, has more than a million values, or
    /// is followed by anything but white space.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        let budget = Cell::new(MOST_VALUES);
        let mut reader = serde_json::Deserializer::from_slice(text);
        Grow(&budget)
            .deserialize(&mut reader)
            .and_then(|tree| reader.end().map(|()| tree))
            .map_err(|error| DecodeError::new(error.to_string()))
    }

    /// Decodes the value. Keys match struct fields without regard to case (keys of maps stay as
    /// they are), the last duplicate wins, `null` means absent, and unknown keys are ignored.
    ///
    /// # Errors
    /// A value has the wrong type or is out of range; the error names the path to it.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        T::deserialize(de::Reader(self))
    }

    /// The member of an object by its key without regard to case; of duplicates the last, and
    /// `None` when that is `null`.
    pub fn get(&self, key: &str) -> Option<&Json> {
        let Self::Object(members) = self else { return None };
        let (_, value) = members.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        (*value != Self::Null).then_some(value)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// Prints the tree, without a newline at the end.
    pub fn print(&self, style: Style) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        let done = match style {
            Style::Compact => {
                self.serialize(&mut serde_json::Serializer::with_formatter(&mut out, CompactFormatter))
            }
            Style::Indented => self.serialize(&mut serde_json::Serializer::with_formatter(
                &mut out,
                PrettyFormatter::with_indent(b"    "),
            )),
        };
        debug_assert!(done.is_ok(), "a tree with string keys always prints");
        out
    }

    /// The kind of value, for messages: `string`, `number 5`.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Bool(_) => "boolean".into(),
            Self::Number(number) => format!("number {number}"),
            Self::String(_) => "string".into(),
            Self::Array(_) => "array".into(),
            Self::Object(_) => "object".into(),
        }
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self::Number(number.into())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(number) => number.serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members.iter().map(|(key, value)| (key, value))),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let budget = Cell::new(MOST_VALUES);
        Grow(&budget).deserialize(deserializer)
    }
}

/// Builds a tree from a deserializer, up to the budget of values.
struct Grow<'b>(&'b Cell<usize>);

impl Grow<'_> {
    fn again(&self) -> Self {
        Grow(self.0)
    }
}

impl<'de> DeserializeSeed<'de> for Grow<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        match self.0.get().checked_sub(1) {
            Some(left) => self.0.set(left),
            None => {
                return Err(serde::de::Error::custom(format_args!("more than {MOST_VALUES} values")));
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Grow<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_none<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Json, E> {
        Number::from_f64(value).map(Json::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::String(text.into()))
    }

    fn visit_string<E>(self, text: String) -> Result<Json, E> {
        Ok(Json::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self.again())? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            members.push((key, access.next_value_seed(self.again())?));
        }
        Ok(Json::Object(members))
    }
}

#[cfg(test)]
pub(crate) mod tests;
