//! Why a plugin could not be run, or ran and failed.

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

/// One plugin's call that did not succeed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExecError {
    /// The plugin's type is empty.
    NoName,
    /// The plugin's type holds a slash (C-135).
    BadName(String),
    /// The plugin path has no directories.
    NoPath,
    /// No directory of the plugin path holds such a file.
    NotFound {
        /// The plugin's type.
        plugin_type: String,
        /// The directories that were looked at.
        path: Vec<PathBuf>,
    },
    /// The executable could not be started, or not be talked to.
    Spawn {
        /// The executable.
        program: PathBuf,
        /// What the kernel said.
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
        /// What it had said until then.
        output: Box<Output>,
    },
    /// The plugin was killed and did not die: it hangs inside the kernel.
    Undead {
        /// The executable.
        program: PathBuf,
    },
    /// The plugin printed more than [`crate::MAX_OUTPUT`] bytes and was killed.
    TooMuchOutput {
        /// The executable.
        program: PathBuf,
        /// Where it printed.
        stream: Stream,
        /// The beginning of what it said.
        output: Box<Output>,
    },
    /// The plugin ended with another status than 0.
    Failed {
        /// Its error, whole.
        failure: Failure,
        /// Everything else it left.
        output: Box<Output>,
    },
    /// The name, id or interface of the request is malformed; the plugin was not started.
    Refused(Failure),
    /// The plugin succeeded, but what it printed is no result.
    BadResult {
        /// What is wrong with it.
        fault: ResultFault,
        /// What it printed.
        output: Box<Output>,
    },
}

/// Why an answer is not a result.
#[derive(Debug)]
#[non_exhaustive]
pub enum ResultFault {
    /// Not JSON, or more than one document (C-006).
    Json(serde_json::Error),
    /// JSON of this type, where an object is needed.
    NotAnObject(&'static str),
    /// A version that no result can have (C-057).
    Version(String),
    /// A field is not what its version prescribes.
    Shape(String),
    /// VERSION's answer lacks this field (C-037).
    Missing(&'static str),
}

impl ExecError {
    /// The protocol's error, when there is one: the plugin's own, or the runtime's about a malformed request.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed { failure, .. } | Self::Refused(failure) => Some(failure),
            _ => None,
        }
    }

    /// What the plugin left, when it was started and has ended.
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
        let silent = "netplugin failed with no error message";
        match self {
            Self::NoName => f.write_str("no plugin name provided"),
            Self::BadName(name) => write!(f, "invalid plugin name: {name}"),
            Self::NoPath => f.write_str("no paths provided"),
            Self::NotFound { plugin_type, path } => {
                let path: Vec<_> = path.iter().map(|dir| dir.display().to_string()).collect();
                write!(f, "failed to find plugin {plugin_type:?} in path [{}]", path.join(" "))
            }
            Self::Spawn { program, source } => write!(f, "{silent}: run {}: {source}", program.display()),
            Self::NoTime { program } => {
                write!(f, "{silent}: time was up before {} was started", program.display())
            }
            Self::TimedOut { program, output } => write!(
                f,
                "{silent}: {} ({} gave no answer in {:.1} s)",
                output.status_text(),
                program.display(),
                output.duration.as_secs_f64()
            ),
            Self::Undead { program } => {
                write!(f, "{silent}: {} was killed and does not die", program.display())
            }
            Self::TooMuchOutput { program, stream, .. } => write!(
                f,
                "{silent}: {} printed more than {} MiB on {stream} and was killed",
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
