//! Errors of loading a configuration.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::version::BadVersion;

/// A configuration could not be loaded. The texts begin like libcni's, since people search for
/// them; the file is at the end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfError {
    /// The directory has configurations, but none of that name.
    NotFound {
        /// The configuration directory.
        dir: PathBuf,
        /// The requested network.
        name: String,
    },
    /// The directory has no configurations, or does not exist.
    NoneFound {
        /// The configuration directory.
        dir: PathBuf,
    },
    /// A configuration directory exists but cannot be listed.
    ReadDir {
        /// The directory.
        dir: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// A configuration file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The list is invalid.
    List(ListFault),
    /// A plugin of a list is invalid.
    ListedPlugin {
        /// Its index in `plugins`.
        index: usize,
        /// The reason.
        fault: PluginFault,
    },
    /// A file with a single plugin is invalid.
    Plugin(PluginFault),
    /// The list has no plugin, in its side directory neither (C-130).
    NoPlugins,
    /// An error of this file.
    In {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: Box<ConfError>,
    },
}

/// Why a list is invalid.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListFault {
    /// Not JSON.
    Json(serde_json::Error),
    /// JSON of this type instead of an object.
    NotAnObject(&'static str),
    /// No `name`.
    NoName,
    /// `name` has this type.
    NameType(&'static str),
    /// `cniVersion` has this type.
    VersionType(&'static str),
    /// `cniVersion` cannot be ordered, which `cniVersions` requires.
    Version(BadVersion),
    /// `cniVersions` has this type.
    VersionsType(&'static str),
    /// An entry of `cniVersions` has this type.
    VersionsEntryType {
        /// Its index.
        index: usize,
        /// Its type.
        found: &'static str,
    },
    /// An entry of `cniVersions` cannot be ordered.
    VersionsEntry {
        /// Its index.
        index: usize,
        /// The version.
        error: BadVersion,
    },
    /// A boolean has this type.
    FlagType {
        /// The key.
        key: &'static str,
        /// The value's type.
        found: &'static str,
    },
    /// A boolean is a string other than true and false.
    FlagValue {
        /// The key.
        key: &'static str,
        /// The string, in lower case.
        value: String,
    },
    /// `loadOnlyInlinedPlugins` is true, but there are no inlined plugins.
    OnlyInlinedWithoutPlugins,
    /// `plugins` has this type.
    PluginsType(&'static str),
    /// `plugins` is empty.
    EmptyPlugins,
}

/// Why a plugin's object is invalid.
#[derive(Debug)]
#[non_exhaustive]
pub enum PluginFault {
    /// Not JSON.
    Json(serde_json::Error),
    /// JSON of this type instead of an object.
    NotAnObject(&'static str),
    /// The key, the type that it should have, and the type that it has.
    Type(&'static str, &'static str, &'static str),
    /// `type` is missing or empty.
    NoType,
}

impl ConfError {
    pub(crate) fn in_file(self, path: impl Into<PathBuf>) -> Self {
        Self::In { path: path.into(), error: Box::new(self) }
    }
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { dir, name } => {
                write!(f, "no net configuration with name \"{name}\" in {}", dir.display())
            }
            Self::NoneFound { dir } => write!(f, "no net configurations found in {}", dir.display()),
            Self::ReadDir { dir, source } => {
                write!(f, "failed to read plugin config files in {}: {source}", dir.display())
            }
            Self::Read { path, source } => write!(f, "error reading {}: {source}", path.display()),
            Self::List(fault) => write!(f, "error parsing configuration list: {fault}"),
            Self::ListedPlugin { index, fault } => {
                write!(f, "failed to parse plugin config {index}: error parsing configuration: {fault}")
            }
            Self::Plugin(fault) => write!(f, "error parsing configuration: {fault}"),
            Self::NoPlugins => f.write_str("no plugin configs found"),
            Self::In { path, error } => write!(f, "{error} (in {})", path.display()),
        }
    }
}

impl fmt::Display for ListFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::NotAnObject(found) => write!(f, "expected an object, found {found}"),
            Self::NoName => f.write_str("no name"),
            Self::NameType(found) => write!(f, "invalid name type {found}"),
            Self::VersionType(found) => write!(f, "invalid cniVersion type {found}"),
            Self::Version(error) => write!(f, "invalid cniVersion {}: {error}", error.0),
            // The reference names the expected type here, not the one that it found.
            Self::VersionsType(found) => write!(f, "invalid type for cniVersions: {found}"),
            Self::VersionsEntryType { index, found } => {
                write!(f, "invalid type for cniVersions index {index}: {found}")
            }
            Self::VersionsEntry { index, error } => {
                write!(f, "invalid cniVersions entry {} at index {index}: {error}", error.0)
            }
            Self::FlagType { key, found } => write!(f, "invalid type {found} for {key}"),
            Self::FlagValue { key, value } => write!(f, "invalid value {value:?} for {key}"),
            Self::OnlyInlinedWithoutPlugins => {
                f.write_str("`loadOnlyInlinedPlugins` is true, and no 'plugins' key")
            }
            Self::PluginsType(found) => write!(f, "invalid 'plugins' type {found}"),
            Self::EmptyPlugins => f.write_str("no plugins in list"),
        }
    }
}

impl fmt::Display for PluginFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::NotAnObject(found) => write!(f, "expected an object, found {found}"),
            Self::Type(key, wanted, found) => write!(f, "'{key}' should be of type {wanted}, is {found}"),
            Self::NoType => f.write_str("missing 'type'"),
        }
    }
}

impl std::error::Error for ConfError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::ReadDir { source, .. } | Self::Read { source, .. } => Some(source),
            Self::In { error, .. } => error.source(),
            _ => None,
        }
    }
}

impl From<ListFault> for ConfError {
    fn from(fault: ListFault) -> Self {
        Self::List(fault)
    }
}

impl From<serde_json::Error> for PluginFault {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}
