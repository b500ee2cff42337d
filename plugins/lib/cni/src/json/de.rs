//! Decodes a tree into Rust types, by the rules of the reference's decoder (C-027, C-028).

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::Json;
use crate::text::quoted;

/// Why a document, or a value in it, could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The path to the value: `ipam.ranges[0][1].subnet`; empty for the document.
    path: String,
    what: String,
}

impl DecodeError {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { path: String::new(), what: what.into() }
    }

    /// The error with `key` in front of its path.
    pub fn below(mut self, key: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{}{dot}{}", quoted(key), self.path);
        self
    }

    pub(crate) fn at(mut self, index: usize) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{dot}{}", self.path);
        self
    }

    fn mismatch(expected: &str, found: &Json) -> Self {
        Self::new(format!("expected {expected}, found {}", found.kind()))
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let found = match found {
            Unexpected::Bool(_) => "boolean".into(),
            Unexpected::Signed(number) => format!("number {number}"),
            Unexpected::Unsigned(number) => format!("number {number}"),
            Unexpected::Float(number) => format!("number {number:?}"),
            Unexpected::Str(_) => "string".into(),
            Unexpected::Unit => "null".into(),
            Unexpected::Seq => "array".into(),
            Unexpected::Map => "object".into(),
            other => quoted(&other.to_string()),
        };
        Self::new(format!("expected {expected}, found {found}"))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("expected {expected}, found {}", quoted(&found.to_string())))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("unknown value \"{}\", expected one of {expected:?}", quoted(variant)))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new("missing").below(field)
    }
}

/// The deserializer over a tree.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a Json);

/// An integer has no fraction and no exponent: `1400.0` is refused (C-028).
macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            match self.0 {
                Json::Number(number) if !number.is_f64() => self.deserialize_any(visitor),
                found => Err(DecodeError::mismatch("an integer", found)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Json::Null => visitor.visit_unit(),
            Json::Bool(value) => visitor.visit_bool(*value),
            Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(value), _, _) => visitor.visit_u64(value),
                (_, Some(value), _) => visitor.visit_i64(value),
                (_, _, Some(value)) => visitor.visit_f64(value),
                _ => Err(DecodeError::new("a number that is not finite")),
            },
            Json::String(text) => visitor.visit_str(text),
            Json::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            Json::Object(members) => visitor.visit_map(Members { members: members.iter(), value: None }),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Json::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Json::Null => visitor.visit_seq(Items { items: &[], next: 0 }),
            Json::Array(items) => visitor.visit_seq(Items { items, next: 0 }),
            found => Err(DecodeError::mismatch("an array", found)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.0 {
            Json::Null => visitor.visit_map(Members { members: [].iter(), value: None }),
            Json::Object(members) => visitor.visit_map(Members { members: members.iter(), value: None }),
            found => Err(DecodeError::mismatch("an object", found)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Json::Null | Json::Object(_) => {
                visitor.visit_map(Fields { object: self.0, fields: fields.iter(), value: None })
            }
            found => Err(DecodeError::mismatch("an object", found)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.0 {
            Json::String(text) => {
                let text: StrDeserializer<'_, DecodeError> = text.as_str().into_deserializer();
                visitor.visit_enum(text)
            }
            found => Err(DecodeError::mismatch("a string", found)),
        }
    }

    forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

struct Items<'a> {
    items: &'a [Json],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let value = seed.deserialize(Reader(item)).map_err(|error| error.at(self.next))?;
        self.next += 1;
        Ok(Some(value))
    }
}

/// The members of a map, keys unchanged.
struct Members<'a> {
    members: std::slice::Iter<'a, (String, Json)>,
    value: Option<&'a (String, Json)>,
}

impl<'de> MapAccess<'de> for Members<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.value = self.members.next();
        match self.value {
            Some((key, _)) => {
                let key: StrDeserializer<'_, DecodeError> = key.as_str().into_deserializer();
                seed.deserialize(key).map(Some)
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        match self.value.take() {
            Some((key, value)) => seed.deserialize(Reader(value)).map_err(|error| error.below(key)),
            None => Err(DecodeError::new("a value was read before its key")),
        }
    }
}

/// The members of an object for which a struct has a field, with the field's spelling of the key.
struct Fields<'a> {
    object: &'a Json,
    fields: std::slice::Iter<'static, &'static str>,
    value: Option<(&'static str, &'a Json)>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let object = self.object;
        self.value = self.fields.find_map(|field| object.get(field).map(|value| (*field, value)));
        match self.value {
            Some((field, _)) => {
                let field: StrDeserializer<'_, DecodeError> = field.into_deserializer();
                seed.deserialize(field).map(Some)
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        match self.value.take() {
            Some((field, value)) => seed.deserialize(Reader(value)).map_err(|error| error.below(field)),
            None => Err(DecodeError::new("a value was read before its key")),
        }
    }
}
