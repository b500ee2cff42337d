//! One request: the environment and the network configuration, checked.

use std::collections::HashSet;

use serde::de::DeserializeOwned;

use crate::{AddResult, Error, Version};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// ADD
    Add,
    /// CHECK
    Check,
    /// DEL
    Del,
    /// GC
    Gc,
    /// STATUS
    Status,
}

/// The pair that names an attachment within a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// `CNI_CONTAINERID`
    pub container_id: String,
    /// `CNI_IFNAME`
    pub ifname: String,
}

/// `cni.dev/valid-attachments` of a GC request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValidAttachments {
    /// The key is missing: the request does not say, so nothing may be collected.
    Unsaid,
    /// These are valid (`null` and `[]` are the empty set), all others of the network are stale.
    These(HashSet<Attachment>),
}

/// A checked request.
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC and STATUS.
    pub container_id: String,
    /// `CNI_NETNS`, as given; empty when it was unset.
    pub netns: String,
    /// `CNI_IFNAME`; empty for GC and STATUS.
    pub ifname: String,
    /// `CNI_ARGS`, as given.
    pub args: String,
    /// `CNI_PATH`, as given.
    pub path: String,
    /// `cniVersion` of the configuration.
    pub version: Version,
    /// `name` of the configuration.
    pub network: String,
}

impl Request {
    /// The configuration as a plugin's own type. Keys match without regard to case, the last duplicate wins,
    /// `null` is absent, unknown keys are ignored. Error: `failed to load netconf: ...`, code 999.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Error> {
        unimplemented!()
    }

    /// `prevResult`, converted to the newest shape; `None` when absent or null.
    pub fn prev_result(&self) -> Result<Option<AddResult>, Error> {
        unimplemented!()
    }

    /// The pairs of `CNI_ARGS` whose keys are in `known`, in order. Unknown keys are an error unless
    /// `IgnoreUnknown` is true.
    pub fn args(&self, _known: &[&str]) -> Result<Vec<(String, String)>, Error> {
        unimplemented!()
    }

    /// The valid set of a GC request.
    pub fn valid_attachments(&self) -> Result<ValidAttachments, Error> {
        unimplemented!()
    }

    /// Runs the delegate's ADD with this very request. When it fails its DEL has been run before this returns.
    pub fn delegate_add(&self, _plugin_type: &str) -> Result<AddResult, Error> {
        unimplemented!()
    }

    /// Runs any other command of the delegate with this very request (DEL also to take back an ADD).
    pub fn delegate(&self, _plugin_type: &str, _command: Command) -> Result<(), Error> {
        unimplemented!()
    }
}
