//! Errors of operations on a list.

use std::fmt;

use crate::version::BadVersion;
use crate::{AttachmentId, CacheError, ExecError, Failure};

/// An operation on a list failed. The texts are libcni's where it has one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// ADD or DEL: this plugin failed, and the operation stopped. A failed ADD does not undo the
    /// ADDs of previous plugins: the caller must run DEL (C-133).
    Plugin {
        /// The plugin's type.
        plugin_type: String,
        /// The plugin object's `name`, usually empty.
        own_name: String,
        /// `add` or `delete`.
        verb: &'static str,
        /// The cause.
        error: Box<ExecError>,
    },
    /// CHECK, STATUS or VERSION: a plugin failed, and the operation stopped.
    Exec(Box<ExecError>),
    /// The list's version cannot be ordered.
    Version(BadVersion),
    /// CHECK exists from 0.4.0 on; this is the list's version.
    CheckUnsupported(String),
    /// ADD succeeded, but its result could not be cached: the network is up, but the operation
    /// counts as failed.
    Remember {
        /// The network's name.
        network: String,
        /// The cause.
        error: CacheError,
    },
    /// CHECK: the cached result of ADD cannot be read.
    Recall {
        /// The network's name.
        network: String,
        /// The cause.
        error: CacheError,
    },
    /// GC: all failures, in order; everything else succeeded.
    Gc(Vec<GcFault>),
    /// Validation: all plugins that cannot serve this list.
    Invalid(Vec<InvalidPlugin>),
}

/// One failure of a GC.
#[derive(Debug)]
#[non_exhaustive]
pub enum GcFault {
    /// The cached attachments cannot be listed; none of the stale ones was deleted.
    Attachments(CacheError),
    /// The list DEL of a stale attachment failed.
    Stale {
        /// The attachment.
        id: AttachmentId,
        /// The cause.
        error: Box<Error>,
    },
    /// A plugin's GC failed.
    Plugin {
        /// The plugin's type.
        plugin_type: String,
        /// The cause.
        error: ExecError,
    },
}

/// Why a plugin cannot serve a list.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidPlugin {
    /// It is missing, or its VERSION failed.
    Exec(ExecError),
    /// It does not support the list's version.
    Version {
        /// The plugin's type.
        plugin_type: String,
        /// The list's version.
        version: String,
    },
}

impl Error {
    /// The protocol's error, of a plugin or the runtime, with code, message and details; the first
    /// one of GC and validation, which may have many.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Plugin { error, .. } | Self::Exec(error) => error.failure(),
            Self::Gc(faults) => faults.iter().find_map(|fault| match fault {
                GcFault::Stale { error, .. } => error.failure(),
                GcFault::Plugin { error, .. } => error.failure(),
                GcFault::Attachments(_) => None,
            }),
            Self::Invalid(plugins) => plugins.iter().find_map(|plugin| match plugin {
                InvalidPlugin::Exec(error) => error.failure(),
                InvalidPlugin::Version { .. } => None,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plugin { plugin_type, own_name, verb, error } => {
                write!(f, "plugin type={plugin_type:?}")?;
                if !own_name.is_empty() {
                    write!(f, " name={own_name:?}")?;
                }
                write!(f, " failed ({verb}): {error}")
            }
            Self::Exec(error) => error.fmt(f),
            Self::Version(error) => error.fmt(f),
            Self::CheckUnsupported(version) => {
                write!(f, "configuration version {version:?} does not support the CHECK command")
            }
            Self::Remember { network, error } => {
                write!(f, "failed to set network {network:?} cached result: {error}")
            }
            Self::Recall { network, error } => {
                write!(f, "failed to get network {network:?} cached result: {error}")
            }
            Self::Gc(faults) => {
                for (at, fault) in faults.iter().enumerate() {
                    if at > 0 {
                        f.write_str("\n")?;
                    }
                    fault.fmt(f)?;
                }
                Ok(())
            }
            Self::Invalid(plugins) => {
                let texts: Vec<_> = plugins.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", texts.join(" "))
            }
        }
    }
}

impl fmt::Display for GcFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attachments(error) => write!(f, "failed to find stale attachments: {error}"),
            Self::Stale { id, error } => {
                write!(f, "failed to delete stale attachment {} {}: {error}", id.container_id, id.ifname)
            }
            Self::Plugin { plugin_type, error } => write!(f, "failed to GC plugin {plugin_type}: {error}"),
        }
    }
}

impl fmt::Display for InvalidPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(error) => error.fmt(f),
            Self::Version { plugin_type, version } => {
                write!(f, "plugin {plugin_type} does not support config version {version:?}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Plugin { error, .. } => Some(error),
            Self::Exec(error) => error.source(),
            Self::Remember { error, .. } | Self::Recall { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<ExecError> for Error {
    fn from(error: ExecError) -> Self {
        Self::Exec(Box::new(error))
    }
}

impl From<BadVersion> for Error {
    fn from(error: BadVersion) -> Self {
        Self::Version(error)
    }
}
