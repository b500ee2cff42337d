//! The result cache in libcni's format (C-134), so that it can be shared with other runtimes and survive a change
//! from one to another.

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

/// What the cache knows of one attachment.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The network's name.
    pub network: String,
    /// The attachment as it was added.
    pub attachment: Attachment,
    /// The list's bytes as they were read then; plugins of the side directory are not in it.
    pub config: Vec<u8>,
    /// The result of ADD.
    pub result: Option<Value>,
}

/// What a cache file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A record of the current format.
    Record(Box<Record>),
    /// The format before it: the file is the result and nothing else.
    Legacy(Value),
}

/// The cache could not be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum CacheError {
    /// Network, container id and interface make the file's name: none may be empty, hold a slash or a NUL.
    BadName {
        /// The network's name.
        network: String,
        /// The container id.
        container_id: String,
        /// The interface.
        ifname: String,
    },
    /// A file or the directory could not be used.
    Io {
        /// What was tried.
        tried: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is there, but holds neither a record nor a result.
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The result cannot be said in the version that the list has now.
    Convert {
        /// The list's version.
        version: String,
        /// Why not.
        reason: String,
    },
    /// The record could not be written as JSON.
    Encode(serde_json::Error),
}

/// The file's JSON, in libcni's order of keys.
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
    /// The cache below `dir` (`/var/lib/cni` is libcni's).
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where the record of an attachment is. A hyphen may be part of each of the names, so two attachments can have
    /// one file; that is the format's flaw, and why [`Cache::get`] and [`Cache::remove`] compare the names inside.
    pub fn path(&self, network: &str, id: &AttachmentId) -> Result<PathBuf, CacheError> {
        let AttachmentId { container_id, ifname } = id;
        // libcni follows a slash out of the directory.
        if [network, container_id, ifname].iter().any(|name| name.is_empty() || name.contains(['/', '\0'])) {
            return Err(CacheError::BadName {
                network: network.to_owned(),
                container_id: container_id.clone(),
                ifname: ifname.clone(),
            });
        }
        Ok(self.results().join(format!("{network}-{container_id}-{ifname}")))
    }

    /// What is known of an attachment: `None` when there is no file, when it cannot be read (as in libcni: the
    /// attachment is then treated as one that was never cached), or when it is another attachment's.
    pub fn get(&self, network: &str, id: &AttachmentId) -> Result<Option<Entry>, CacheError> {
        let path = self.path(network, id)?;
        let Ok(bytes) = fs::read(&path) else { return Ok(None) };
        match parse(&bytes).map_err(|reason| CacheError::Corrupt { path, reason })? {
            Entry::Record(record) if record.network != network || record.attachment.id() != *id => Ok(None),
            entry => Ok(Some(entry)),
        }
    }

    /// Writes a record: a new file of mode 0600 in a directory of mode 0700, renamed over an older one. A reader
    /// sees the old or the new, never a part.
    pub fn put(&self, record: &Record) -> Result<(), CacheError> {
        let path = self.path(&record.network, &record.attachment.id())?;
        let bytes = json::encode(&OnDisk::from(record)).map_err(CacheError::Encode)?;
        let dir = self.results();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(io_error("create directory", &dir))?;
        // Hidden, so that our listing passes over one that a crash left; libcni's would read it as a second record
        // of the same attachment, which does no harm.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = dir.join(format!(".{}-{count}.tmp", std::process::id()));
        write_whole(&temporary, &bytes)
            .map_err(io_error("write", &temporary))
            .and_then(|()| fs::rename(&temporary, &path).map_err(io_error("write", &path)))
            .inspect_err(|_| {
                // The first error is the one to tell.
                let _ = fs::remove_file(&temporary);
            })
    }

    /// Forgets an attachment. Nothing there is success; a record of another attachment stays.
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

    /// All records, in the order of their files' names; those of one container when an id is given. Files that are
    /// broken, of another kind, incomplete or of the legacy format say too little and are passed over. A missing
    /// directory holds no records.
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

/// What a cache file holds, or in words why it holds nothing.
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
    // A leftover of a process with our id would be in the way.
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
