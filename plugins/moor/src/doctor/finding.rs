//! What a judgement of the host results in.

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It could not be seen.
    Unknown,
    /// It costs something, or will.
    Warn,
    /// It keeps containers from working.
    Fail,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub id: &'static str,
    /// How bad it is.
    pub status: Status,
    /// A sentence.
    pub text: String,
    /// What it follows from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Commands that mend it, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fix: Vec<String>,
}

impl Finding {
    fn new(id: &'static str, status: Status, text: impl Into<String>) -> Self {
        Self { id, status, text: text.into(), evidence: Vec::new(), fix: Vec::new() }
    }

    /// As it should be.
    pub fn ok(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Status::Ok, text)
    }

    /// It could not be seen.
    pub fn unknown(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Status::Unknown, text)
    }

    /// It costs something, or will.
    pub fn warn(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Status::Warn, text)
    }

    /// It keeps containers from working.
    pub fn fail(id: &'static str, text: impl Into<String>) -> Self {
        Self::new(id, Status::Fail, text)
    }

    /// Adds what it follows from.
    #[must_use]
    pub fn evidence(mut self, evidence: impl Into<String>) -> Self {
        self.evidence.push(evidence.into());
        self
    }

    /// Adds a command that mends it.
    #[must_use]
    pub fn fix(mut self, command: impl Into<String>) -> Self {
        self.fix.push(command.into());
        self
    }
}

/// The command that sets a kernel parameter. Its parts are separated by slashes, since the names of
/// links may contain dots.
pub fn sysctl(key: &str, value: &str) -> String {
    format!("sysctl -w {}", quoted(&format!("{key}={value}")))
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_quotes_names_from_outside() {
        assert_eq!(sysctl("net/ipv4/ip_forward", "1"), "sysctl -w net/ipv4/ip_forward=1");
        assert_eq!(quoted("a b;c"), "'a b;c'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
