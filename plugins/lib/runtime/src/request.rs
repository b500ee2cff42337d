//! A plugin's standard input.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::{Conflist, PluginConf, json};

/// The pair that identifies an attachment within a network; the key of GC's valid set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct AttachmentId {
    /// `CNI_CONTAINERID`
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// `CNI_IFNAME`
    pub ifname: String,
}

impl PluginConf {
    /// The standard input of ADD, CHECK and DEL: the plugin's object with the list's name and
    /// version, the previous result if there is one, and in `runtimeConfig` the `capabilities` that
    /// the plugin declares (C-100; omitted if there are none). Only these keys replace keys of the
    /// file.
    pub fn attachment_request(
        &self,
        list: &Conflist,
        prev_result: Option<&Value>,
        capabilities: &Map<String, Value>,
    ) -> Vec<u8> {
        let mut object = self.named(list);
        if let Some(prev_result) = prev_result {
            object.insert("prevResult".into(), prev_result.clone());
        }
        let declared: Map<_, _> = capabilities
            .iter()
            .filter(|(name, _)| self.capabilities.get(*name) == Some(&true))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !declared.is_empty() {
            object.insert("runtimeConfig".into(), declared.into());
        }
        encoded(&object)
    }

    /// The standard input of GC. `None` omits the valid set, so that the plugin collects nothing by
    /// it. An empty set is sent as `null`, as by libcni. The set is sent under its old key too
    /// (C-046).
    pub fn gc_request(&self, list: &Conflist, valid: Option<&BTreeSet<AttachmentId>>) -> Vec<u8> {
        let mut object = self.named(list);
        if let Some(valid) = valid {
            let valid = match valid.len() {
                0 => Value::Null,
                _ => serde_json::json!(valid),
            };
            object.insert("cni.dev/attachments".into(), valid.clone());
            object.insert("cni.dev/valid-attachments".into(), valid);
        }
        encoded(&object)
    }

    /// The standard input of STATUS: the object with name and version.
    pub fn status_request(&self, list: &Conflist) -> Vec<u8> {
        encoded(&self.named(list))
    }

    /// The plugin's object with the list's name and version, which replace its own (C-131).
    fn named(&self, list: &Conflist) -> Map<String, Value> {
        let mut object = self.object.clone();
        object.values_mut().for_each(json::through_float);
        object.insert("name".into(), list.name.clone().into());
        object.insert("cniVersion".into(), list.version.clone().into());
        object
    }
}

fn encoded(object: &Map<String, Value>) -> Vec<u8> {
    // Encoding a map with string keys cannot fail; every plugin would refuse an empty request.
    json::encode(object).unwrap_or_default()
}
