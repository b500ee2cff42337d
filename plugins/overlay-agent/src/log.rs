//! The log: standard error, which the journal keeps.

use std::fmt::Display;
use std::io::Write;

/// Prints a line of the log.
pub fn log(line: &dyn Display) {
    // A log that cannot be written to stops nothing.
    let _ = writeln!(std::io::stderr(), "overlay-agent: {line}");
}
