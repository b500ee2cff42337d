//! The tree of a document.

use std::rc::Rc;

use super::fault::{Fault, Place};
use super::scalar::{Meaning, Scalar};

/// A node and its place. Nodes are shared: an alias is the node that it refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub at: Place,
    /// What it holds.
    pub value: Value,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A word.
    Scalar(Scalar),
    /// A list.
    List(Vec<Rc<Node>>),
    /// A map.
    Map(Map),
}

/// The key of an entry, and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Where it begins.
    pub at: Place,
    /// The text.
    pub text: Rc<str>,
}

/// The entries of a map in the order of the file; no key is there twice.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(pub Vec<(Key, Rc<Node>)>);

impl Map {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Rc<Node>> {
        self.0.iter().find(|(known, _)| &*known.text == key).map(|(_, value)| value)
    }
}

impl Node {
    /// A word at a place.
    pub fn scalar(at: Place, scalar: Scalar) -> Rc<Self> {
        Rc::new(Self { at, value: Value::Scalar(scalar) })
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.meaning() == Meaning::Null)
    }

    /// The map that it is; `what` names it in the error.
    pub fn map(&self, what: &str) -> Result<&Map, Fault> {
        match &self.value {
            Value::Map(map) => Ok(map),
            _ => Err(self.is_not(what, "a map")),
        }
    }

    /// The list that it is.
    pub fn list(&self, what: &str) -> Result<&[Rc<Node>], Fault> {
        match &self.value {
            Value::List(list) => Ok(list),
            _ => Err(self.is_not(what, "a list")),
        }
    }

    /// The text of a word: a number or `yes` without quotes is taken as written.
    pub fn text(&self, what: &str) -> Result<&str, Fault> {
        match &self.value {
            Value::Scalar(scalar) if scalar.meaning() != Meaning::Null => Ok(&scalar.text),
            _ => Err(self.is_not(what, "text")),
        }
    }

    /// Whether it is `true`. A word in quotes counts by its text: a variable may stand in them.
    pub fn bool(&self, what: &str) -> Result<bool, Fault> {
        match self.plain_meaning() {
            Some(Meaning::Bool(value)) => Ok(value),
            _ => Err(self.is_not(what, "true or false")),
        }
    }

    /// The whole number that it is, in quotes or not.
    pub fn int(&self, what: &str) -> Result<i64, Fault> {
        match self.plain_meaning() {
            Some(Meaning::Int(value)) => Ok(value),
            _ => Err(self.is_not(what, "a whole number")),
        }
    }

    fn plain_meaning(&self) -> Option<Meaning> {
        match &self.value {
            Value::Scalar(scalar) => Some(Scalar { text: scalar.text.clone(), plain: true }.meaning()),
            _ => None,
        }
    }

    fn is_not(&self, what: &str, wanted: &str) -> Fault {
        let is = match &self.value {
            Value::Map(_) => "a map".to_owned(),
            Value::List(_) => "a list".to_owned(),
            Value::Scalar(_) if self.is_null() => "empty".to_owned(),
            Value::Scalar(scalar) => format!("{:?}", scalar.text.chars().take(40).collect::<String>()),
        };
        Fault::new(self.at, format!("{what} must be {wanted}, and is {is}"))
    }
}
