//! Runs other plugins with the caller's request, unchanged (C-080..C-089).

mod child;

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use serde::Deserialize;

use self::child::{Finished, Killed};
use crate::env::Env;
use crate::family::{self, Member};
use crate::json::Json;
use crate::serve::{self, Streams};
use crate::text::quoted;
use crate::{AddResult, Command, Error, Request, Version};

/// A delegate, found on `CNI_PATH`.
struct Delegate<'r> {
    name: &'r str,
    program: PathBuf,
    env: &'r Env,
    stdin: &'r [u8],
}

impl<'r> Delegate<'r> {
    /// Looks for the plugin in the directories of `path` (C-080).
    fn find(name: &'r str, path: &str, env: &'r Env, stdin: &'r [u8]) -> Result<Self, Error> {
        Ok(Self { name, program: find(name, path)?, env, stdin })
    }

    /// Runs ADD, and DEL if that fails (C-085); an error of that DEL would only hide the first one.
    fn add(&self, version: Version) -> Result<AddResult, Error> {
        let result = self.start(Command::Add).and_then(|finished| {
            check(&finished, self.name, &mut io::stderr())?;
            AddResult::parse(&finished.stdout, version).map_err(|error| {
                let msg = format!("failed to parse the result of plugin \"{}\": {}", self.name, error.msg);
                Error { msg, ..error }
            })
        });
        if result.is_err() {
            let _ = self.start(Command::Del);
        }
        result
    }

    /// Runs any other command.
    fn run(&self, command: Command) -> Result<(), Error> {
        let finished = self.start(command)?;
        check(&finished, self.name, &mut io::stderr())
    }

    fn start(&self, command: Command) -> Result<Finished, Error> {
        if let Some(member) = family::find(self.name, &self.program) {
            return Ok(run_in_process(member, &self.env.with_command(command), self.stdin));
        }
        child::run(&self.program, self.env, command, self.stdin, child::LONGEST).map_err(|error| {
            let error = Error::from(error);
            let msg = format!("failed to run plugin \"{}\": {}", self.program.display(), error.msg);
            Error { msg, ..error }
        })
    }
}

impl Request {
    /// Runs the delegate's ADD with this request, and its DEL if that fails.
    ///
    /// # Errors
    /// The delegate's error, unchanged; or it could not be found or run, or its result could not be
    /// read.
    pub fn delegate_add(&self, plugin_type: &str) -> Result<AddResult, Error> {
        Delegate::find(plugin_type, &self.path, &self.env, &self.stdin)?.add(self.version)
    }

    /// Runs any other command of the delegate with this request; DEL also undoes an ADD.
    ///
    /// # Errors
    /// The delegate's error, unchanged; or it could not be found or run.
    pub fn delegate(&self, plugin_type: &str, command: Command) -> Result<(), Error> {
        Delegate::find(plugin_type, &self.path, &self.env, &self.stdin)?.run(command)
    }
}

/// Runs a plugin of this executable in this process. Input, output and errors are the same as those
/// of a process.
fn run_in_process(member: Member, env: &Env, mut stdin: &[u8]) -> Finished {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut streams = Streams { stdin: &mut stdin, stdout: &mut stdout, stderr: &mut stderr };
    let code = serve::main(member.plugin(), env, &mut std::iter::empty(), &mut streams);
    // In a status of wait(2), the exit code is the second byte.
    let status = ExitStatus::from_raw(i32::from(code) << 8);
    Finished { status, stdout, stderr, killed: None }
}

/// Returns the error of a delegate that failed; passes on the log of one that succeeded (C-082).
fn check(finished: &Finished, name: &str, log: &mut dyn Write) -> Result<(), Error> {
    if let Some(killed) = finished.killed {
        let why = match killed {
            Killed::Overflow => format!("printed more than {} bytes", child::MOST_OUTPUT),
            Killed::Timeout => format!("did not end within {} s", child::LONGEST.as_secs()),
        };
        return Err(Error::internal(format!("plugin \"{name}\" {why} and was killed")));
    }
    if !finished.status.success() {
        return Err(error_of(finished));
    }
    // A closed standard error is not a failure.
    let _ = log.write_all(&finished.stderr);
    Ok(())
}

/// C-080
fn find(name: &str, path: &str) -> Result<PathBuf, Error> {
    if name.is_empty() {
        return Err(Error::internal("no plugin name provided"));
    }
    if name.contains('/') {
        return Err(Error::internal(format!("invalid plugin name: {}", quoted(name))));
    }
    // An empty element would mean the working directory, which holds no plugins.
    let directories: Vec<_> = path.split(':').filter(|directory| !directory.is_empty()).collect();
    if directories.is_empty() {
        return Err(Error::internal("no paths provided"));
    }
    let found =
        directories.iter().map(|directory| Path::new(directory).join(name)).find(|file| file.is_file());
    found.ok_or_else(|| {
        let path = quoted(&directories.join(" "));
        Error::internal(format!("failed to find plugin \"{}\" in path [{path}]", quoted(name)))
    })
}

/// The error object that a failed plugin prints.
#[derive(Deserialize)]
#[serde(default)]
struct ErrorObject {
    code: u32,
    msg: String,
    details: String,
}

impl Default for ErrorObject {
    fn default() -> Self {
        Self { code: NO_CODE, msg: String::new(), details: String::new() }
    }
}

/// The code of a failure without a readable error object.
const NO_CODE: u32 = 0;

/// The error of a failed plugin, unchanged (C-071, C-084).
fn error_of(finished: &Finished) -> Error {
    let without_code = |msg| Error { code: NO_CODE, msg, details: String::new() };
    let stdout = finished.stdout.trim_ascii();
    if stdout.is_empty() {
        let stderr = String::from_utf8_lossy(&finished.stderr);
        return without_code(if stderr.is_empty() {
            format!("netplugin failed with no error message: {}", finished.describe_status())
        } else {
            format!("netplugin failed: {stderr:?}")
        });
    }
    match Json::parse(stdout).and_then(|tree| tree.decode::<ErrorObject>()) {
        Ok(ErrorObject { code, msg, details }) => Error { code, msg, details },
        Err(error) => {
            let stdout = quoted(&String::from_utf8_lossy(stdout));
            without_code(format!(
                "netplugin failed but error parsing its diagnostic message {stdout:?}: {error}"
            ))
        }
    }
}

#[cfg(test)]
mod tests;
