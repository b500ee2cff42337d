//! The standard streams without std's buffers: a document is one write, and nothing waits for a
//! flush.

use std::io::{self, Read, Write};

use nix::unistd;

/// Standard input.
pub(crate) struct Stdin;
/// Standard output.
pub(crate) struct Stdout;

impl Read for Stdin {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(unistd::read(io::stdin(), buffer)?)
    }
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(unistd::write(io::stdout(), bytes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
