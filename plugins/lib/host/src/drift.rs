//! What CHECK finds.

use std::fmt;

/// A difference between what must exist and what does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The object and its property: `MTU of veth1a2b3c4d`.
    pub what: String,
    /// As planned.
    pub expected: String,
    /// As found.
    pub actual: String,
}

impl Drift {
    pub(crate) fn new(what: impl Into<String>, expected: impl ToString, actual: impl ToString) -> Self {
        Self { what: what.into(), expected: expected.to_string(), actual: actual.to_string() }
    }

    /// A drift when the two differ.
    pub(crate) fn unless_equal<T: PartialEq + ToString>(
        what: impl Into<String>,
        expected: T,
        actual: T,
    ) -> Option<Self> {
        (expected != actual).then(|| Self::new(what, expected, actual))
    }
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, actual {}", self.what, self.expected, self.actual)
    }
}
