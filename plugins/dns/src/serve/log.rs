//! The responder's log: standard error, which the journal keeps.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints an error. Names that clients asked for are never printed.
pub(super) fn log_error(operation: &dyn Display, error: &dyn Display) {
    // A log that cannot be written to stops nothing.
    let _ = writeln!(io::stderr(), "dns: {operation}: {error:#}");
}
