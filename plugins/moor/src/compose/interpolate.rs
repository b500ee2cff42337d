//! Variables in the words of a file: `$NAME`, `${NAME}`, `${NAME:-default}` and their kin.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::yaml::{Fault, Key, Map, Node, SIZE_MAX, Scalar, Value};

/// How deep a default may hold a variable with a default.
const DEPTH_MAX: usize = 16;

/// Replaces variables, and keeps the names of those that are not set.
pub struct Interpolation<'v> {
    variable: &'v dyn Fn(&str) -> Option<String>,
    unset: BTreeSet<String>,
    bytes: usize,
}

impl<'v> Interpolation<'v> {
    /// With the variables that `variable` knows.
    pub fn new(variable: &'v dyn Fn(&str) -> Option<String>) -> Self {
        Self { variable, unset: BTreeSet::new(), bytes: 0 }
    }

    /// The variables that had no value and no default.
    pub fn unset(self) -> BTreeSet<String> {
        self.unset
    }

    /// The tree with its words replaced; keys stay.
    pub fn tree(&mut self, node: &Rc<Node>) -> Result<Rc<Node>, Fault> {
        let value = match &node.value {
            Value::Scalar(scalar) if !scalar.text.contains('$') => return Ok(Rc::clone(node)),
            Value::Scalar(scalar) => {
                let text = self.text(&scalar.text, 0).map_err(|what| Fault::new(node.at, what))?;
                Value::Scalar(Scalar { text, plain: scalar.plain })
            }
            Value::List(list) => {
                Value::List(list.iter().map(|node| self.tree(node)).collect::<Result<_, _>>()?)
            }
            Value::Map(map) => {
                let entries = map.0.iter().map(|(key, node)| Ok((key.clone(), self.tree(node)?)));
                Value::Map(Map(entries.collect::<Result<Vec<(Key, _)>, _>>()?))
            }
        };
        Ok(Rc::new(Node { at: node.at, value }))
    }

    fn text(&mut self, text: &str, depth: usize) -> Result<String, String> {
        if depth > DEPTH_MAX {
            return Err("variables are nested too deep".into());
        }
        let (mut done, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('$') {
            done += &rest[..at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                done.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let end = closing(after).ok_or("\"${\" has no \"}\"")?;
                done += &self.braced(&after[..end], depth)?;
                rest = &after[end + 1..];
            } else {
                let length = name_length(rest);
                if length == 0 {
                    return Err("\"$\" is followed by no name; write \"$$\" for the character".into());
                }
                done += &self.value(&rest[..length]);
                rest = &rest[length..];
            }
            self.bytes += done.len();
            if self.bytes > SIZE_MAX {
                return Err(format!("more than {SIZE_MAX} bytes, with variables replaced"));
            }
        }
        Ok(done + rest)
    }

    /// What stands in braces: a name, and after an operator a word.
    fn braced(&mut self, inner: &str, depth: usize) -> Result<String, String> {
        let (name, rest) = inner.split_at(name_length(inner));
        if name.is_empty() {
            return Err(format!("\"${{{inner}}}\" names no variable"));
        }
        let operator = [":-", "-", ":?", "?", ":+", "+"].into_iter().find(|known| rest.starts_with(known));
        let Some(operator) = operator else {
            if rest.is_empty() {
                return Ok(self.value(name));
            }
            return Err(format!("\"${{{inner}}}\" has something other than :- - :? ? :+ + after its name"));
        };
        let word = &rest[operator.len()..];
        let is_empty_unset = operator.starts_with(':');
        let value = (self.variable)(name).filter(|value| !(is_empty_unset && value.is_empty()));
        match (operator.trim_start_matches(':'), value) {
            ("+", Some(_)) | ("-", None) => self.text(word, depth + 1),
            ("+", None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (_, None) if word.is_empty() => Err(format!("the variable {name} is required")),
            (_, None) => Err(format!("the variable {name} is required: {}", self.text(word, depth + 1)?)),
        }
    }

    fn value(&mut self, name: &str) -> String {
        (self.variable)(name).unwrap_or_else(|| {
            self.unset.insert(name.to_owned());
            String::new()
        })
    }
}

fn name_length(text: &str) -> usize {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return 0;
    }
    text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len())
}

/// Where the brace closes that was open before the text.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'{' if at > 0 && bytes[at - 1] == b'$' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "what fails here fails the test")]
mod tests {
    use super::*;

    fn replaced(text: &str) -> Result<String, String> {
        let variable = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        Interpolation::new(&variable).text(text, 0)
    }

    #[test]
    fn variables_and_defaults_are_replaced() {
        for (text, result) in [
            ("$A-${A}", "a-a"),
            ("$$A ${A}$$", "$A a$"),
            ("${B:-x}${EMPTY:-y}${EMPTY-z}", "xy"),
            ("${B-${A}${C:-{}}}", "a{}"),
            ("${A:+set}${B:+set}", "set"),
            ("${B}|$B", "|"),
            ("${A?no}", "a"),
        ] {
            assert_eq!(replaced(text).unwrap(), result, "{text}");
        }
    }

    #[test]
    fn faults_name_the_variable_and_the_place() {
        for (text, fault) in [
            ("${B:?give it}", "the variable B is required: give it"),
            ("${EMPTY:?}", "the variable EMPTY is required"),
            ("${A", "\"${\" has no \"}\""),
            ("$1", "\"$\" is followed by no name; write \"$$\" for the character"),
            ("${}", "\"${}\" names no variable"),
            ("${A.b}", "\"${A.b}\" has something other than :- - :? ? :+ + after its name"),
        ] {
            assert_eq!(replaced(text).unwrap_err(), fault, "{text}");
        }
        assert!(replaced(&"${B:-".repeat(100)).is_err());
        let deep = "${B:-".repeat(40) + &"}".repeat(40);
        assert_eq!(replaced(&deep).unwrap_err(), "variables are nested too deep");
    }
}
