//! The error object of a failed plugin.

use std::fmt;

use serde_json::{Map, Value};

use crate::json;

/// The error object of the protocol (C-070), unchanged from a plugin, or from a check of the
/// runtime.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Failure {
    /// The code; 0 when the plugin printed no error object.
    pub code: u64,
    /// The message.
    pub msg: String,
    /// The details; empty when absent.
    pub details: String,
    /// The printed object with all its keys; `None` when the runtime made the error.
    pub object: Option<Map<String, Value>>,
}

impl Failure {
    pub(crate) fn new(code: u64, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: details.into(), object: None }
    }

    /// Reads the outputs of a failed plugin (C-084); `status` is its
    /// [`crate::Output::status_text`].
    pub fn from_output(stdout: &[u8], stderr: &[u8], status: &str) -> Self {
        if stdout.is_empty() {
            let msg = if stderr.is_empty() {
                format!("netplugin failed with no error message: {status}")
            } else {
                format!("netplugin failed: {:?}: {status}", String::from_utf8_lossy(stderr))
            };
            return Self::new(0, msg, "");
        }
        match Self::parse(stdout) {
            // An empty error would print as an empty line: report at least the exit status.
            Ok(failure) if failure.msg.is_empty() && failure.details.is_empty() => {
                Self { msg: format!("netplugin failed with no error message: {status}"), ..failure }
            }
            Ok(failure) => failure,
            Err(reason) => {
                let printed = String::from_utf8_lossy(stdout);
                let msg = format!(
                    "netplugin failed but error parsing its diagnostic message {printed:?}: {reason}"
                );
                Self::new(0, msg, "")
            }
        }
    }

    fn parse(stdout: &[u8]) -> Result<Self, String> {
        let object = match serde_json::from_slice(stdout).map_err(|error| error.to_string())? {
            Value::Object(object) => object,
            Value::Null => Map::new(),
            other => return Err(format!("expected an object, found {}", json::type_name(&other))),
        };
        let text = |key: &str| match json::any_case(&object, key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(format!("{key}: expected a string, found {}", json::type_name(other))),
        };
        let code = match json::any_case(&object, "code") {
            None | Some(Value::Null) => 0,
            Some(value) => value.as_u64().ok_or_else(|| format!("code: not an unsigned number: {value}"))?,
        };
        Ok(Self { code, msg: text("msg")?, details: text("details")?, object: Some(object) })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// `CNI_CONTAINERID` of ADD (C-022; an empty one is the runtime's own code 3).
pub(crate) fn check_container_id(id: &str) -> Result<(), Failure> {
    if id.is_empty() {
        return Err(Failure::new(3, "missing containerID", ""));
    }
    if !is_name(id) {
        return Err(Failure::new(4, "invalid characters in containerID", id));
    }
    Ok(())
}

/// The network's name (C-022).
pub(crate) fn check_network_name(name: &str) -> Result<(), Failure> {
    if name.is_empty() {
        return Err(Failure::new(7, "missing network name", ""));
    }
    if !is_name(name) {
        return Err(Failure::new(7, "invalid characters found in network name", name));
    }
    Ok(())
}

/// `CNI_IFNAME` of ADD (C-013).
pub(crate) fn check_ifname(name: &str) -> Result<(), Failure> {
    let fault = |msg: &str, details: &str| Err(Failure::new(4, msg, details));
    match name {
        "" => fault("interface name is empty", ""),
        _ if name.len() > 15 => {
            fault("interface name is too long", "interface name should be less than 16 characters")
        }
        "." | ".." => fault("interface name is . or ..", ""),
        _ if name.chars().any(|c| c == '/' || c == ':' || c.is_whitespace()) => {
            fault("interface name contains / or : or whitespace characters", "")
        }
        _ => Ok(()),
    }
}

/// A letter or digit, then letters, digits, `_`, `.`, `-`: the rule for container ids and network
/// names.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// C-070, C-071: unknown keys too.
    #[test]
    fn a_printed_error_is_kept_unchanged() {
        let printed = br#"{"cniVersion":"1.1.0","Code":107,"msg":"no","details":"d","hint":[1]}"#;
        let failure = Failure::from_output(printed, b"noise", "exit status 1");
        assert_eq!((failure.code, failure.msg.as_str(), failure.details.as_str()), (107, "no", "d"));
        assert_eq!(failure.object.as_ref().unwrap()["hint"], serde_json::json!([1]));
        assert_eq!(failure.to_string(), "no; d");
    }

    /// C-084.
    #[test]
    fn a_failure_without_an_error_object_has_the_texts_of_libcni() {
        let text = |out: &[u8], err: &[u8]| Failure::from_output(out, err, "exit status 2").to_string();
        assert_eq!(text(b"", b""), "netplugin failed with no error message: exit status 2");
        assert_eq!(text(b"", b"a \"b\"\n"), r#"netplugin failed: "a \"b\"\n": exit status 2"#);
        let start = r#"netplugin failed but error parsing its diagnostic message "{}{}": "#;
        assert!(text(b"{}{}", b"").starts_with(start));
        let bad_code = text(br#"{"code":"4","msg":"x"}"#, b"");
        assert!(bad_code.starts_with("netplugin failed but error parsing"), "{bad_code}");
        assert_eq!(text(b"null", b""), "netplugin failed with no error message: exit status 2");
    }

    /// C-013, C-022.
    #[test]
    fn names_are_checked_by_the_specifications_rules() {
        let code = |result: Result<(), Failure>| result.err().map(|failure| failure.code);
        assert_eq!(code(check_container_id("")), Some(3));
        assert_eq!(code(check_container_id("-a")), Some(4));
        assert_eq!(code(check_container_id("a_.-B9")), None);
        assert_eq!(code(check_network_name("")), Some(7));
        assert_eq!(code(check_network_name("../x")), Some(7));
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\u{a0}b", "0123456789abcdef"] {
            assert_eq!(code(check_ifname(bad)), Some(4), "{bad:?}");
        }
        assert_eq!(code(check_ifname("0123456789abcde")), None);
    }
}
