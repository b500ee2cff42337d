//! Text on standard output.

use std::io::{self, ErrorKind, Write};

use crate::failure::{Exit, Failure};

/// Prints to standard output. A reader that has gone (`| head`) ends the command as success.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            Err(Failure { exit: Exit::Done, text: String::new(), hint: None })
        }
        Err(error) => Err(Failure::refused(format!("write to standard output: {error}"))),
    }
}
