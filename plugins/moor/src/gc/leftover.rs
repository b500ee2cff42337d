//! What is left of an attachment, and whose it is.

use std::path::PathBuf;
use std::time::SystemTime;

use host::Owner;
use runtime::AttachmentId;
use serde::Serialize;

/// An attachment, by the names that everything of it bears.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// The network's name.
    pub network: String,
    /// The container's id.
    pub container_id: String,
    /// The interface in the container.
    pub ifname: String,
}

impl Key {
    /// The key of these names.
    pub fn new(network: &str, container_id: &str, ifname: &str) -> Self {
        Self { network: network.into(), container_id: container_id.into(), ifname: ifname.into() }
    }

    /// The key without its network, as GC's valid set has it.
    pub fn id(&self) -> AttachmentId {
        AttachmentId { container_id: self.container_id.clone(), ifname: self.ifname.clone() }
    }
}

impl From<Owner> for Key {
    fn from(owner: Owner) -> Self {
        Self { network: owner.network, container_id: owner.container_id, ifname: owner.ifname }
    }
}

/// The kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The runtime's record.
    Record,
    /// A lease of host-local.
    Lease,
    /// A name of the responder.
    Name,
    /// A record of packet rules.
    Intent,
    /// A link of this host.
    Link,
    /// An element of the packet rules.
    Element,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Lease => "lease",
            Self::Name => "name",
            Self::Intent => "record of rules",
            Self::Link => "link",
            Self::Element => "rule",
        }
    }
}

/// An object that names its attachment.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The attachment.
    pub key: Key,
    /// What it is.
    pub kind: Kind,
    /// How it is called.
    pub object: String,
    /// Its file.
    pub file: Option<PathBuf>,
    /// When it was made, if it bears a time.
    pub written: Option<SystemTime>,
    /// Whether nothing else shows that its container is alive.
    pub is_dead: bool,
}

/// An object that is left of a dead attachment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Leftover {
    /// The attachment.
    #[serde(flatten)]
    pub key: Key,
    /// What it is.
    pub kind: Kind,
    /// How it is called.
    pub object: String,
    /// Its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

impl Leftover {
    /// The object as one line: the owner, and what it is.
    pub fn line(&self, done: &str) -> String {
        let Key { network, container_id, ifname } = &self.key;
        let file = self.file.as_ref().map(|file| format!(" ({})", file.display())).unwrap_or_default();
        format!("{network} {container_id} {ifname}: {done} {} {}{file}", self.kind.word(), self.object)
    }
}
