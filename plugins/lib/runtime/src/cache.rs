//! The result cache in libcni's format (C-134), so that runtimes can share it, and one can replace
//! another.

use std::fmt;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Attachment, AttachmentId, json};

/// The value of `kind` in the current format.
const KIND: &str = "cniCacheV1";

/// The cache below one directory: `<dir>/results/<network>-<container id>-<interface>`.
#[derive(Clone, Debug)]
pub struct Cache {
    dir: PathBuf,
}

/// The cache's record of an attachment.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The network's name.
    pub network: String,
    /// The attachment, with the parameters of its ADD.
    pub attachment: Attachment,
    /// The text of the list at the time of ADD, without the plugins of the side directory.
    pub config: Vec<u8>,
    /// The result of ADD.
    pub result: Option<Value>,
}

/// The content of a cache file.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A record of the current format.
    Record(Box<Record>),
    /// The format before it: the file is only the result.
    Legacy(Value),
}

/// An error of the cache.
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheError {
    /// Network, container id and interface form the file's name: none may be empty or contain a
    /// slash or NUL.
    BadName {
        /// The network's name.
        network: String,
        /// The container id.
        container_id: String,
        /// The interface.
        ifname: String,
    },
    /// An operation on a file or the directory failed.
    Io {
        /// The operation.
        tried: &'static str,
        /// Its object.
        path: PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// The file contains neither a record nor a result.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The result cannot be converted to the list's version.
    Convert {
        /// The list's version.
        version: String,
        /// The reason.
        reason: String,
    },
    /// The record could not be written as JSON.
    Encode(serde_json::Error),
}

/// The JSON of the file, with libcni's order of keys.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    kind: String,
    #[serde(default, rename = "containerId")]
    container_id: String,
    #[serde(default)]
    config: Option<String>,
    #[serde(default, rename = "ifName")]
    ifname: String,
    #[serde(default, rename = "networkName")]
    network: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    #[serde(default, rename = "cniArgs", skip_serializing_if = "Option::is_none")]
    args: Option<Vec<(String, String)>>,
    #[serde(default, rename = "capabilityArgs", skip_serializing_if = "Option::is_none")]
    capabilities: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
}

impl Cache {
    /// The cache below `dir`; libcni's is `/var/lib/cni`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The path of an attachment's record. Each name may contain a hyphen, so two attachments can
    /// have the same path, a flaw of the format: therefore [`Cache::get`] and [`Cache::remove`]
    /// compare the names in the file.
    pub fn path(&self, network: &str, id: &AttachmentId) -> Result<PathBuf, CacheError> {
        let AttachmentId { container_id, ifname } = id;
        // libcni would follow a slash out of the directory.
        if [network, container_id, ifname].iter().any(|name| name.is_empty() || name.contains(['/', '\0'])) {
            return Err(CacheError::BadName {
                network: network.to_owned(),
                container_id: container_id.clone(),
                ifname: ifname.clone(),
            });
        }
        Ok(self.results().join(format!("{network}-{container_id}-{ifname}")))
    }

    /// The entry of an attachment. `None` when there is no file, when it belongs to another
    /// attachment, or when it cannot be read: like libcni, this treats such an attachment as one
    /// that was never cached.
    pub fn get(&self, network: &str, id: &AttachmentId) -> Result<Option<Entry>, CacheError> {
        let path = self.path(network, id)?;
        let Ok(bytes) = fs::read(&path) else { return Ok(None) };
        match parse(&bytes).map_err(|reason| CacheError::Corrupt { path, reason })? {
            Entry::Record(record) if record.network != network || record.attachment.id() != *id => Ok(None),
            entry => Ok(Some(entry)),
        }
    }

    /// Writes a record to a new file of mode 0600, in a directory of mode 0700, and renames it over
    /// the old one: a reader sees the old or the new record, never a part.
    pub fn put(&self, record: &Record) -> Result<(), CacheError> {
        let path = self.path(&record.network, &record.attachment.id())?;
        let bytes = json::encode(&OnDisk::from(record)).map_err(CacheError::Encode)?;
        let dir = self.results();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(io_error("create directory", &dir))?;
        // The leading dot makes our listing skip a file that a crash left. libcni's listing reads
        // it as a second record of the same attachment, which does no harm.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = dir.join(format!(".{}-{count}.tmp", std::process::id()));
        write_whole(&temporary, &bytes)
            .map_err(io_error("write", &temporary))
            .and_then(|()| fs::rename(&temporary, &path).map_err(io_error("write", &path)))
            .inspect_err(|_| {
                // Report the first error.
                let _ = fs::remove_file(&temporary);
            })
    }

    /// Removes an attachment's record. A missing record is not an error; a record of another
    /// attachment stays.
    pub fn remove(&self, network: &str, id: &AttachmentId) -> Result<(), CacheError> {
        let path = self.path(network, id)?;
        if let Ok(bytes) = fs::read(&path)
            && let Ok(Entry::Record(record)) = parse(&bytes)
            && (record.network != network || record.attachment.id() != *id)
        {
            return Ok(());
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// All records, or those of one container, in the order of their files' names. Skips files that
    /// are broken, incomplete, of another kind or of the legacy format. A missing directory has no
    /// records.
    pub fn list(&self, container_id: Option<&str>) -> Result<Vec<Record>, CacheError> {
        let dir = self.results();
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &dir)(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry.map_err(io_error("list", &dir))?.file_name());
        }
        names.sort();
        let hidden = |name: &std::ffi::OsString| name.as_encoded_bytes().starts_with(b".");
        let records = names.into_iter().filter(|name| !hidden(name)).filter_map(|name| {
            let Ok(Entry::Record(record)) = parse(&fs::read(dir.join(name)).ok()?) else { return None };
            let id = &record.attachment;
            let whole = !record.network.is_empty() && !id.ifname.is_empty();
            let wanted = container_id.is_none_or(|wanted| wanted == id.container_id);
            (whole && wanted).then_some(*record)
        });
        Ok(records.collect())
    }

    fn results(&self) -> PathBuf {
        self.dir.join("results")
    }
}

impl Entry {
    /// The content of a cache file.
    ///
    /// # Errors
    /// The reason why it is corrupt.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        parse(bytes)
    }
}

/// Parses a cache file; the error is the reason why it is corrupt.
fn parse(bytes: &[u8]) -> Result<Entry, String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let Some(object) = value.as_object() else {
        return Err(format!("expected an object, found {}", json::type_name(&value)));
    };
    match object.get("kind") {
        None => Ok(Entry::Legacy(value)),
        Some(kind) if kind == KIND => {
            let disk: OnDisk = serde_json::from_value(value).map_err(|error| error.to_string())?;
            Ok(Entry::Record(Box::new(disk.try_into()?)))
        }
        Some(kind) => Err(format!("wrong kind: {kind}")),
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // A file that a process with our id left would make the creation fail.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn io_error(tried: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError + Copy {
    move |source| CacheError::Io { tried, path: path.to_owned(), source }
}

impl From<&Record> for OnDisk {
    fn from(record: &Record) -> Self {
        let Record { network, attachment, config, result } = record;
        Self {
            kind: KIND.to_owned(),
            container_id: attachment.container_id.clone(),
            config: Some(BASE64.encode(config)),
            ifname: attachment.ifname.clone(),
            network: network.clone(),
            netns: attachment.netns.clone().filter(|netns| !netns.is_empty()),
            args: Some(attachment.args.clone()).filter(|args| !args.is_empty()),
            capabilities: Some(attachment.capabilities.clone())
                .filter(|capabilities| !capabilities.is_empty()),
            result: result.clone(),
        }
    }
}

impl TryFrom<OnDisk> for Record {
    type Error = String;

    fn try_from(disk: OnDisk) -> Result<Self, String> {
        let config =
            BASE64.decode(disk.config.unwrap_or_default()).map_err(|error| format!("config: {error}"))?;
        let attachment = Attachment {
            container_id: disk.container_id,
            netns: disk.netns,
            ifname: disk.ifname,
            args: disk.args.unwrap_or_default(),
            capabilities: disk.capabilities.unwrap_or_default(),
        };
        Ok(Self { network: disk.network, attachment, config, result: disk.result })
    }
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadName { network, container_id, ifname } => write!(
                f,
                "cache file path requires network name ({network:?}), container ID ({container_id:?}), and \
                 interface name ({ifname:?}), none of them with a slash"
            ),
            Self::Io { tried, path, source } => write!(f, "{tried} {}: {source}", path.display()),
            Self::Corrupt { path, reason } => write!(f, "{} is corrupt: {reason}", path.display()),
            Self::Convert { version, reason } => {
                write!(f, "failed to convert cached result to config version {version:?}: {reason}")
            }
            Self::Encode(error) => write!(f, "encode the record: {error}"),
        }
    }
}

impl std::error::Error for CacheError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Encode(error) => Some(error),
            _ => None,
        }
    }
}
