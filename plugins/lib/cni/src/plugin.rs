//! A plugin, and the loop around it.

use std::ffi::OsString;
use std::io::{Read, Write};

use crate::env::Env;
use crate::serve::{self, Streams};
use crate::stdio::{Stdin, Stdout};
use crate::{AddResult, Error, Request, Version};

/// One CNI plugin: its verbs over a [`Request`] that is already read, checked and version-gated.
pub trait Plugin {
    /// The name it is installed under, for the about text and `--version`.
    const NAME: &'static str;
    /// One sentence for `--help`.
    const ABOUT: &'static str;
    /// The spec versions it speaks, oldest first.
    const VERSIONS: &'static [Version] = Version::ALL;
    /// Further names that it may be installed under.
    const ALIASES: &'static [&'static str] = &[];
    /// What it can do besides the verbs, as `name COMMAND [ARGUMENT…]` without `CNI_COMMAND`: each with one line for
    /// `--help`.
    const COMMANDS: &'static [(&'static str, &'static str)] = &[];

    /// Creates the attachment. On an error nothing may be left behind. The result is in the newest shape;
    /// the loop converts it to the request's version ([`AddResult::convertible_to`] must have been asked before
    /// anything was touched).
    fn add(&self, request: &Request) -> Result<AddResult, Error>;
    /// Verifies the attachment.
    fn check(&self, request: &Request) -> Result<(), Error>;
    /// Deletes the attachment; what is gone already is no error.
    fn del(&self, request: &Request) -> Result<(), Error>;
    /// Deletes every attachment of the network that is not in the valid set.
    fn gc(&self, request: &Request) -> Result<(), Error>;
    /// Says whether ADD can be served.
    fn status(&self, request: &Request) -> Result<(), Error>;
    /// Runs one of [`Self::COMMANDS`]; its error is told on standard error.
    fn command(&self, name: &str, _arguments: &[OsString]) -> Result<(), Error> {
        Err(Error::internal(format!("{} has no command {name:?}", Self::NAME)))
    }
}

/// The whole of a plugin executable: reads the process's environment, arguments and standard input, runs the verb, prints.
pub fn main<P: Plugin>(plugin: P) -> std::process::ExitCode {
    let mut streams = Streams { stdin: &mut Stdin, stdout: &mut Stdout, stderr: &mut std::io::stderr() };
    serve::main(&plugin, &Env::of_process(), &mut std::env::args_os().skip(1), &mut streams).into()
}

/// One run of a plugin: the exit status. What [`main()`] does, but for the arguments, with everything it takes from
/// the process given.
pub fn run<P: Plugin>(
    plugin: &P,
    env: &Env,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> u8 {
    serve::main(plugin, env, &mut std::iter::empty(), &mut Streams { stdin, stdout, stderr })
}
