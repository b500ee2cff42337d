//! How a command fails.

use std::fmt;

/// Refused, not found, or a fault.
pub(super) const FAILED: u8 = 1;
/// The command line cannot be understood.
pub(super) const USAGE: u8 = 2;
/// The agent or etcd could not be asked.
pub(super) const UNREACHABLE: u8 = 3;

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The status that the process ends with.
    pub exit: u8,
    /// What is printed on standard output all the same.
    pub output: Option<String>,
    /// What was tried, on what, and why it failed.
    pub text: String,
    /// What a person can do.
    pub hint: Option<String>,
}

impl Failure {
    /// Refused, not found, or a fault.
    pub fn refused(text: impl Into<String>) -> Self {
        Self { exit: FAILED, output: None, text: text.into(), hint: None }
    }

    /// The agent or etcd could not be asked.
    pub fn unreachable(text: impl Into<String>) -> Self {
        Self { exit: UNREACHABLE, ..Self::refused(text) }
    }

    /// Adds what a person can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "overlay: {}", self.text)?;
        match &self.hint {
            Some(hint) => writeln!(f, "  {hint}"),
            None => Ok(()),
        }
    }
}
