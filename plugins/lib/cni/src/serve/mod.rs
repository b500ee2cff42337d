//! The main loop: reads one request, prints at most one document (C-001..C-006, C-030).

mod about;
mod netns;
pub(crate) mod process;

use std::ffi::OsString;
use std::io::{self, Read, Write};

use crate::env::{CommandVariable, Env};
use crate::json::{Json, Style};
use crate::netconf::{self, NetConf};
use crate::{AddResult, Command, Error, Plugin, Request, Version};

/// The streams of a run.
pub(crate) struct Streams<'s> {
    pub(crate) stdin: &'s mut dyn Read,
    pub(crate) stdout: &'s mut dyn Write,
    pub(crate) stderr: &'s mut dyn Write,
}

/// [`Plugin`] as a trait object, so that an executable with several plugins holds the main loop
/// once.
pub(crate) trait AnyPlugin {
    fn name(&self) -> &'static str;
    fn about(&self) -> &'static str;
    fn versions(&self) -> &'static [Version];
    fn aliases(&self) -> &'static [&'static str];
    fn commands(&self) -> &'static [(&'static str, &'static str)];
    fn command(&self, name: &str, arguments: &[OsString]) -> Result<(), Error>;
    fn add(&self, request: &Request) -> Result<AddResult, Error>;
    /// Runs a command that has no result.
    fn run(&self, command: Command, request: &Request) -> Result<(), Error>;
}

impl<P: Plugin> AnyPlugin for P {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn about(&self) -> &'static str {
        P::ABOUT
    }

    fn versions(&self) -> &'static [Version] {
        P::VERSIONS
    }

    fn aliases(&self) -> &'static [&'static str] {
        P::ALIASES
    }

    fn commands(&self) -> &'static [(&'static str, &'static str)] {
        P::COMMANDS
    }

    fn command(&self, name: &str, arguments: &[OsString]) -> Result<(), Error> {
        Plugin::command(self, name, arguments)
    }

    fn add(&self, request: &Request) -> Result<AddResult, Error> {
        Plugin::add(self, request)
    }

    fn run(&self, command: Command, request: &Request) -> Result<(), Error> {
        match command {
            Command::Add => Plugin::add(self, request).map(|_| ()),
            Command::Check => self.check(request),
            Command::Del => self.del(request),
            Command::Gc => self.gc(request),
            Command::Status => self.status(request),
        }
    }
}

/// Why a run failed, and where the error can go.
enum Failure {
    /// The error goes to standard output, to which nothing was written.
    Reportable(Error),
    /// Writing to standard output failed.
    StdoutFailed(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Reportable(error)
    }
}

/// Runs the plugin once; returns the exit status (C-002).
pub(crate) fn main(
    plugin: &dyn AnyPlugin,
    env: &Env,
    arguments: &mut dyn Iterator<Item = OsString>,
    streams: &mut Streams<'_>,
) -> u8 {
    let mut version = plugin.versions().iter().copied().max().unwrap_or(Version::NEWEST);
    let outcome = match env.command() {
        CommandVariable::Unset => match by_hand(plugin, arguments, streams) {
            Ok(outcome) => outcome.map_err(Failure::StdoutFailed),
            Err(error) => {
                // For a person or the journal, not for a runtime: a line, not a document.
                let details =
                    if error.details.is_empty() { String::new() } else { format!("\n  {}", error.details) };
                streams.log(format_args!("{}: {}{details}", plugin.name(), error.msg));
                return 1;
            }
        },
        CommandVariable::Version => streams.print(&version_document(plugin)).map_err(Failure::StdoutFailed),
        CommandVariable::Command(command) => serve(plugin, env, Some(command), streams, &mut version),
        CommandVariable::Unknown => serve(plugin, env, None, streams, &mut version),
    };
    let stdout_error = match outcome {
        Ok(()) => return 0,
        Err(Failure::StdoutFailed(error)) => error,
        Err(Failure::Reportable(error)) => match streams.print(&error.print(version)) {
            Ok(()) => return 1,
            Err(stdout_error) => {
                streams.log(format_args!("{}: {} (code {})", plugin.name(), error.msg, error.code));
                stdout_error
            }
        },
    };
    streams.log(format_args!("{}: write to stdout: {stdout_error}", plugin.name()));
    1
}

/// Without a request: runs one of the plugin's commands, or prints the about text.
fn by_hand(
    plugin: &dyn AnyPlugin,
    arguments: &mut dyn Iterator<Item = OsString>,
    streams: &mut Streams<'_>,
) -> Result<io::Result<()>, Error> {
    let arguments: Vec<OsString> = arguments.collect();
    let Some((first, rest)) = arguments.split_first() else {
        return Ok(about::answer(plugin, &arguments, streams));
    };
    match plugin.commands().iter().find(|(name, _)| first == name) {
        Some((name, _)) => plugin.command(name, rest).map(Ok),
        None => Ok(about::answer(plugin, &arguments, streams)),
    }
}

/// Checks everything in the order of C-030, then runs the plugin. Sets `version` to the
/// configuration's as soon as it is known.
fn serve(
    plugin: &dyn AnyPlugin,
    env: &Env,
    command: Option<Command>,
    streams: &mut Streams<'_>,
    version: &mut Version,
) -> Result<(), Failure> {
    let checked = command.map(|command| env.check(command)).transpose()?;
    let conf = NetConf::parse(netconf::read(streams.stdin)?)?;
    let (Some(command), Some(checked)) = (command, checked) else {
        return Err(env.unknown_command().into());
    };
    if let Ok(known) = conf.version()?.parse() {
        *version = known;
    }
    let request = Request::assemble(env, command, checked, conf, plugin.versions())?;
    if matches!(command, Command::Add | Command::Del) && !env.netns_override() {
        netns::refuse_own(&request.netns)?;
    }
    match command {
        Command::Add => add(plugin, request, streams),
        _ => Ok(plugin.run(command, &request)?),
    }
}

/// Runs ADD; deletes the attachment again when its result cannot be printed.
fn add(plugin: &dyn AnyPlugin, mut request: Request, streams: &mut Streams<'_>) -> Result<(), Failure> {
    let result = plugin.add(&request)?;
    let failure = match result.print(request.version).map_err(Failure::Reportable) {
        Ok(text) => match streams.print(&text) {
            Ok(()) => return Ok(()),
            Err(error) => Failure::StdoutFailed(error),
        },
        Err(failure) => failure,
    };
    request.command = Command::Del;
    if let Err(error) = plugin.run(Command::Del, &request) {
        streams.log(format_args!("{}: delete the attachment again: {}", plugin.name(), error.msg));
    }
    Err(failure)
}

/// C-037: always in the newest version, whatever the input is.
fn version_document(plugin: &dyn AnyPlugin) -> Vec<u8> {
    let supported = plugin.versions().iter().map(|version| Json::from(version.as_str())).collect();
    let members = [
        ("cniVersion".into(), Json::from(Version::NEWEST.as_str())),
        ("supportedVersions".into(), Json::Array(supported)),
    ];
    let mut text = Json::Object(members.into()).print(Style::Compact);
    text.push(b'\n');
    text
}

impl Streams<'_> {
    fn print(&mut self, text: &[u8]) -> io::Result<()> {
        self.stdout.write_all(text)?;
        self.stdout.flush()
    }

    fn log(&mut self, line: std::fmt::Arguments<'_>) {
        // A closed standard error is not a failure.
        let _ = writeln!(self.stderr, "{line}");
    }
}

#[cfg(test)]
mod tests;
