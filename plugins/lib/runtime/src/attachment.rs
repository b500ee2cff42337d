//! One container's place in a network, as the runtime sees it.

use serde_json::{Map, Value};

use crate::AttachmentId;

/// What the runtime says about an attachment, beside the network's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_NETNS`: a path; `None` is sent as the empty string (DEL after the namespace was lost).
    pub netns: Option<String>,
    /// `CNI_IFNAME`
    pub ifname: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// What the runtime offers for `runtimeConfig`, by capability.
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

    /// The pair that names it within a network.
    pub fn id(&self) -> AttachmentId {
        AttachmentId { container_id: self.container_id.clone(), ifname: self.ifname.clone() }
    }

    /// `CNI_ARGS` as text: `K=V` joined by `;`.
    pub fn args_text(&self) -> String {
        let pairs: Vec<_> = self.args.iter().map(|(key, value)| format!("{key}={value}")).collect();
        pairs.join(";")
    }
}
