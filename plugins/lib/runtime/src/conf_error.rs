//! Why a configuration could not be loaded.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::version::BadVersion;

/// A configuration that could not be loaded. The texts begin as libcni's do, since people search for them; the
/// file stands at the end.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfError {
    /// The directory holds configurations, but none of that name.
    NotFound {
        /// The configuration directory.
        dir: PathBuf,
        /// The network that was asked for.
        name: String,
    },
    /// The directory holds no configurations, or does not exist.
    NoneFound {
        /// The configuration directory.
        dir: PathBuf,
    },
    /// A configuration directory exists but cannot be listed.
    ReadDir {
        /// The directory.
        dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A configuration file cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The list is not one.
    List(ListFault),
    /// A plugin inside a list is not one.
    ListedPlugin {
        /// Its place in `plugins`, from 0.
        index: usize,
        /// What is wrong with it.
        fault: PluginFault,
    },
    /// A file that should hold one plugin does not.
    Plugin(PluginFault),
    /// The list, with what its side directory adds, has no plugin (C-130).
    NoPlugins,
    /// Any of these, in this file.
    In {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<ConfError>,
    },
}

/// What is wrong with a list.
#[derive(Debug)]
#[non_exhaustive]
pub enum ListFault {
    /// Not JSON.
    Json(serde_json::Error),
    /// JSON of this type, where an object is needed.
    NotAnObject(&'static str),
    /// No `name`.
    NoName,
    /// `name` is of this type.
    NameType(&'static str),
    /// `cniVersion` is of this type.
    VersionType(&'static str),
    /// `cniVersion` cannot be ordered, and `cniVersions` asks for that.
    Version(BadVersion),
    /// `cniVersions` is of this type.
    VersionsType(&'static str),
    /// An entry of `cniVersions` is of this type.
    VersionsEntryType {
        /// Its place, from 0.
        index: usize,
        /// Its type.
        found: &'static str,
    },
    /// An entry of `cniVersions` cannot be ordered.
    VersionsEntry {
        /// Its place, from 0.
        index: usize,
        /// The version.
        error: BadVersion,
    },
    /// A boolean is of this type.
    FlagType {
        /// The key.
        key: &'static str,
        /// The value's type.
        found: &'static str,
    },
    /// A boolean is a string that says neither true nor false.
    FlagValue {
        /// The key.
        key: &'static str,
        /// The string, in lower case.
        value: String,
    },
    /// `loadOnlyInlinedPlugins` forbids the side directory, and nothing is inlined.
    OnlyInlinedWithoutPlugins,
    /// `plugins` is of this type.
    PluginsType(&'static str),
    /// `plugins` is empty.
    EmptyPlugins,
}

/// What is wrong with a plugin's object.
#[derive(Debug)]
#[non_exhaustive]
pub enum PluginFault {
    /// Not JSON.
    Json(serde_json::Error),
    /// JSON of this type, where an object is needed.
    NotAnObject(&'static str),
    /// This key should have that type, and has another.
    Type(&'static str, &'static str, &'static str),
    /// No `type`, or an empty one.
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
            // The reference names the type it wanted here, not the one it found.
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
