//! JSON as libcni writes it, so that plugins get the same requests as from containerd.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};
use serde_json::{Map, Number, Value};

/// Compact JSON in libcni's formatting: keys sorted, `<`, `>`, `&` and the two line separators
/// escaped inside strings, floating-point numbers in positional notation between 1e-6 and 1e21.
pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(512);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, GoFormatter))?;
    Ok(out)
}

/// The formatting of libcni's encoder where it differs from serde_json's.
struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let size = value.abs();
        if size != 0.0 && !(1e-6..1e21).contains(&size) {
            let text = format!("{value:e}");
            // A positive exponent has its sign: 1e+21.
            return match text.split_once("e-") {
                Some(_) => writer.write_all(text.as_bytes()),
                None => writer.write_all(text.replacen('e', "e+", 1).as_bytes()),
            };
        }
        write!(writer, "{value}")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, tail) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, plain)?;
            let mut chars = tail.chars();
            if let Some(special) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

/// Passes every number through a 64-bit float: libcni decodes configurations into generic maps, so
/// `1.0` reaches the plugin as `1` and integers above 2^53 lose precision (C-028). Results do not.
pub(crate) fn through_float(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number.as_f64().and_then(Number::from_f64) {
                *number = float;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(through_float),
        Value::Object(map) => map.values_mut().for_each(through_float),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// The last entry with this key, without regard to case (C-027).
pub(crate) fn any_case<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value).next_back()
}

/// The name of a value's type in libcni's error texts.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        let mut value: Value = serde_json::from_str(text).unwrap();
        through_float(&mut value);
        String::from_utf8(encode(&value).unwrap()).unwrap()
    }

    /// C-136
    #[test]
    fn numbers_pass_through_a_float_and_keep_positional_notation() {
        assert_eq!(encoded("12345678901234567890"), "12345678901234567000");
        assert_eq!(encoded("[1.0,1400,-0.5,0]"), "[1,1400,-0.5,0]");
        assert_eq!(encoded("[1e20,1e21,1e-6,1e-7]"), "[100000000000000000000,1e+21,0.000001,1e-7]");
    }

    /// C-007
    #[test]
    fn markup_is_escaped_and_keys_are_sorted() {
        assert_eq!(
            encoded("{\"b\":\"a<b>&c\u{2028}\\n\",\"a\":1}"),
            r#"{"a":1,"b":"a\u003cb\u003e\u0026c\u2028\n"}"#
        );
    }
}
