//! An attachment of a container to a network, from the runtime's side.

use serde_json::{Map, Value};

use crate::AttachmentId;

/// The parameters of an attachment that the network's configuration does not have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`: a path; `None` is sent as the empty string (DEL when the namespace is gone).
    pub netns: Option<String>,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// Values for `runtimeConfig`, by capability.
    pub capabilities: Map<String, Value>,
}

impl Attachment {
    /// An attachment without args and capabilities.
    pub fn new(
        container_id: impl Into<String>,
        netns: impl Into<Option<String>>,
        ifname: impl Into<String>,
    ) -> Self {
        Self {
            container_id: container_id.into(),
            netns: netns.into(),
            ifname: ifname.into(),
            args: Vec::new(),
            capabilities: Map::new(),
        }
    }

    /// The pair that identifies it within a network.
    pub fn id(&self) -> AttachmentId {
        AttachmentId { container_id: self.container_id.clone(), ifname: self.ifname.clone() }
    }

    /// `CNI_ARGS` as text: `K=V` joined by `;`.
    pub fn args_text(&self) -> String {
        let pairs: Vec<_> = self.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(";")
    }
}
