//! A plugin.

use std::ffi::OsString;

use crate::{AddResult, Error, Request, Version};

/// One CNI plugin: its verbs over a [`Request`] that is already read, checked and version-gated.
pub trait Plugin {
    /// The name it is installed under, for the about text and `--version`.
    const NAME: &'static str;
    /// One sentence for `--help`.
    const ABOUT: &'static str;
    /// The specification versions it supports, oldest first.
    const VERSIONS: &'static [Version] = Version::ALL;
    /// Further names that it may be installed under.
    const ALIASES: &'static [&'static str] = &[];
    /// Further commands for people, run as `NAME COMMAND [ARGUMENT…]` without `CNI_COMMAND`: each
    /// with one line for `--help`.
    const COMMANDS: &'static [(&'static str, &'static str)] = &[];

    /// Creates the attachment; after an error nothing is left of it. The result has the newest
    /// format; the main loop converts it to the request's version. Call
    /// [`AddResult::convertible_to`] before you change anything.
    fn add(&self, request: &Request) -> Result<AddResult, Error>;
    /// Verifies the attachment.
    fn check(&self, request: &Request) -> Result<(), Error>;
    /// Deletes the attachment; a missing part is not an error.
    fn del(&self, request: &Request) -> Result<(), Error>;
    /// Deletes every attachment of the network that is not in the valid set.
    fn gc(&self, request: &Request) -> Result<(), Error>;
    /// Reports whether ADD can be served.
    fn status(&self, request: &Request) -> Result<(), Error>;
    /// Runs one of [`Self::COMMANDS`]; its error goes to standard error.
    fn command(&self, name: &str, _arguments: &[OsString]) -> Result<(), Error> {
        Err(Error::internal(format!("{} has no command {name:?}", Self::NAME)))
    }
}
