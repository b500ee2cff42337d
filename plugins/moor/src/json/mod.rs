//! JSON of which every value has its place in the text, so that a diagnostic can show it. A file
//! that a person wrote is read on after a fault that is easily meant (a comment, a trailing comma),
//! and the fault is named.

mod read;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use serde_json::Number;

/// A range of bytes of the text.
pub type Span = Range<usize>;

/// The deepest nesting of arrays and objects.
pub const DEPTH_MAX: usize = 64;

/// A value, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value's text, quotes and brackets included.
    pub span: Span,
    /// The value.
    pub value: Value,
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(String),
    /// An array.
    Array(Vec<Node>),
    /// An object: its members in order, with duplicates.
    Object(Vec<Member>),
}

/// A key of an object, and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The key.
    pub key: String,
    /// The key's text, quotes included.
    pub span: Span,
    /// The value.
    pub value: Node,
}

/// What a text holds.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The document; `None` when it could not be read to its end.
    pub root: Option<Node>,
    /// Why it is no JSON, in the order of the text; empty for JSON.
    pub faults: Vec<Fault>,
}

/// A place where a text is no JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// The reason.
    pub kind: FaultKind,
    /// The place.
    pub span: Span,
}

/// Why a text is no JSON.
#[derive(Clone, Debug, PartialEq)]
pub enum FaultKind {
    /// `#`, `//` or `/* */`.
    Comment,
    /// A comma before a closing bracket.
    TrailingComma,
    /// No comma between two values.
    MissingComma,
    /// A byte order mark (U+FEFF) at the start.
    ByteOrderMark,
    /// A string in single quotes.
    SingleQuotes,
    /// A key without quotes.
    UnquotedKey,
    /// No colon after a key.
    MissingColon,
    /// Bytes that are no UTF-8.
    NotUtf8,
    /// A line break or another control character in a string.
    ControlCharacter,
    /// A backslash before something that it cannot precede.
    Escape,
    /// Something like a number.
    Number,
    /// Deeper nesting than [`DEPTH_MAX`].
    TooDeep,
    /// The end, inside of this.
    End(&'static str),
    /// More text after the document.
    TrailingText,
    /// Anything else.
    Unexpected,
}

impl Reading {
    /// Reads a document.
    pub fn of(bytes: &[u8]) -> Self {
        read::document(bytes)
    }
}

impl Node {
    /// The members of an object; of any other value none.
    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of an array; of any other value none.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Array(items) => items,
            _ => &[],
        }
    }

    /// The text of a string.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The last member of that very key, which counts where a reader of maps looks it up.
    pub fn member(&self, key: &str) -> Option<&Member> {
        self.members().iter().rev().find(|member| member.key == key)
    }

    /// The member of that key in any case, as a plugin takes it: a runtime sorts the keys, and of
    /// several the last counts. `null` is absent.
    pub fn any_case(&self, key: &str) -> Option<&Member> {
        let members = self.members().iter().filter(|member| member.key.eq_ignore_ascii_case(key));
        let member = members.max_by(|one, other| one.key.cmp(&other.key))?;
        (member.value.value != Value::Null).then_some(member)
    }

    /// The kind of the value, for a sentence.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Comment => "a comment: JSON has none",
            Self::TrailingComma => "a trailing comma: JSON has none before a closing bracket",
            Self::MissingComma => "a comma is missing",
            Self::ByteOrderMark => "a byte order mark (BOM): JSON begins with its first value",
            Self::SingleQuotes => "single quotes: JSON has strings in double quotes",
            Self::UnquotedKey => "a key without quotes",
            Self::MissingColon => "a colon is missing after the key",
            Self::NotUtf8 => "not UTF-8",
            Self::ControlCharacter => "a line break or control character in a string",
            Self::Escape => "an escape that JSON does not have",
            Self::Number => "not a number as JSON has them",
            Self::TooDeep => return write!(f, "nested deeper than {DEPTH_MAX} levels"),
            Self::End("text") => "the file is empty",
            Self::End(inside) => return write!(f, "the file ends inside of {inside}"),
            Self::TrailingText => "text after the end of the document",
            Self::Unexpected => "not JSON",
        })
    }
}

impl FaultKind {
    /// How it is mended, where that is plain.
    pub fn fix(&self) -> Option<&'static str> {
        match self {
            Self::Comment => Some("remove the comment, or write it as a key, such as \"_comment\""),
            Self::TrailingComma => Some("remove this comma"),
            Self::MissingComma => Some("insert a comma here"),
            Self::ByteOrderMark => Some("save the file as UTF-8 without BOM"),
            Self::SingleQuotes | Self::UnquotedKey => Some("write double quotes"),
            Self::End(_) => Some("close what is open"),
            _ => None,
        }
    }
}
