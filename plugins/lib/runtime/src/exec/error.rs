//! Errors of running a plugin.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::{MAX_OUTPUT, Output};
use crate::Failure;

/// A stream of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A call of a plugin failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecError {
    /// The plugin's type is empty.
    NoName,
    /// The plugin's type contains a slash (C-135).
    BadName(String),
    /// The plugin path has no directories.
    NoPath,
    /// No directory of the plugin path has such a file.
    NotFound {
        /// The plugin's type.
        plugin_type: String,
        /// The directories of the plugin path.
        path: Vec<PathBuf>,
    },
    /// The executable could not be started, or communication with it failed.
    Spawn {
        /// The executable.
        program: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The operation's time was up before this plugin was started.
    NoTime {
        /// The executable.
        program: PathBuf,
    },
    /// The time was up; the plugin was killed.
    TimedOut {
        /// The executable.
        program: PathBuf,
        /// Its output until then.
        output: Box<Output>,
    },
    /// The plugin was killed but does not end: it hangs in the kernel.
    Undead {
        /// The executable.
        program: PathBuf,
    },
    /// The plugin printed more than [`crate::MAX_OUTPUT`] bytes and was killed.
    TooMuchOutput {
        /// The executable.
        program: PathBuf,
        /// The stream.
        stream: Stream,
        /// The beginning of its output.
        output: Box<Output>,
    },
    /// The plugin ended with another status than 0.
    Failed {
        /// Its error, unchanged.
        failure: Failure,
        /// Its outcome.
        output: Box<Output>,
    },
    /// The name, id or interface of the request is malformed; the plugin was not started.
    Refused(Failure),
    /// The plugin succeeded, but its output is not a result.
    BadResult {
        /// The reason.
        fault: ResultFault,
        /// Its output.
        output: Box<Output>,
    },
}

/// Why an output is not a result.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResultFault {
    /// Not JSON, or more than one document (C-006).
    Json(serde_json::Error),
    /// JSON of this type instead of an object.
    NotAnObject(&'static str),
    /// An unknown version (C-057).
    Version(String),
    /// A field is not as its version requires.
    Shape(String),
    /// The output of VERSION lacks this field (C-037).
    Missing(&'static str),
}

impl ExecError {
    /// The protocol's error, if there is one: the plugin's, or the runtime's about a malformed
    /// request.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure, .. } | Self::Refused(failure) => Some(failure),
            _ => None,
        }
    }

    /// The outcome of the run, if the plugin was started and has ended.
    pub fn output(&self) -> Option<&Output> {
        match self {
            Self::TimedOut { output, .. }
            | Self::TooMuchOutput { output, .. }
            | Self::Failed { output, .. }
            | Self::BadResult { output, .. } => Some(output),
            _ => None,
        }
    }
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = "netplugin failed with no error message";
        match self {
            Self::NoName => f.write_str("no plugin name provided"),
            Self::BadName(name) => write!(f, "invalid plugin name: {name}"),
            Self::NoPath => f.write_str("no paths provided"),
            Self::NotFound { plugin_type, path } => {
                let path: Vec<_> = path.iter().map(|dir| dir.display().to_string()).collect();
                write!(f, "failed to find plugin {plugin_type:?} in path [{}]", path.join(" "))
            }
            Self::Spawn { program, source } => write!(f, "{prefix}: run {}: {source}", program.display()),
            Self::NoTime { program } => {
                write!(f, "{prefix}: time was up before {} was started", program.display())
            }
            Self::TimedOut { program, output } => write!(
                f,
                "{prefix}: {} ({} gave no answer in {:.1} s)",
                output.status_text(),
                program.display(),
                output.duration.as_secs_f64()
            ),
            Self::Undead { program } => {
                write!(f, "{prefix}: {} was killed and does not die", program.display())
            }
            Self::TooMuchOutput { program, stream, .. } => write!(
                f,
                "{prefix}: {} printed more than {} MiB on {stream} and was killed",
                program.display(),
                MAX_OUTPUT >> 20
            ),
            Self::Failed { failure, .. } | Self::Refused(failure) => failure.fmt(f),
            Self::BadResult { fault, .. } => fault.fmt(f),
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "standard output",
            Self::Stderr => "standard error",
        })
    }
}

impl fmt::Display for ResultFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "failed to unmarshal raw result: {error}"),
            Self::NotAnObject(found) => {
                write!(f, "failed to unmarshal raw result: expected an object, found {found}")
            }
            Self::Version(version) => write!(f, "unsupported CNI result version {version:?}"),
            Self::Shape(what) => f.write_str(what),
            Self::Missing(field) => write!(f, "decoding version info: missing field {field}"),
        }
    }
}

impl std::error::Error for ExecError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl std::error::Error for ResultFault {}
