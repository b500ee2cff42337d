//! What an operator should know although nothing has failed.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line on standard error. A caller that has closed it does not want to know.
pub fn notice(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
