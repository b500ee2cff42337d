//! Attaches and detaches the command by the networks' lists.

use std::os::fd::{AsFd, AsRawFd};

use runtime::{Attachment, Conflist, Runtime};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sys::NetNs;

use crate::default_route::DefaultRoutes;
use crate::failure::Failure;
use crate::output::escaped;
use crate::undo::undo;

/// One attachment of the command.
#[derive(Clone, Debug)]
pub struct Join {
    /// The network's list.
    pub list: Conflist,
    /// The parameters.
    pub attachment: Attachment,
    /// The network with the highest one gives the default route; of several the first.
    pub gateway_priority: i64,
}

/// A join as text, for the guardian.
#[derive(Deserialize, Serialize)]
pub struct Written {
    list: Value,
    id: String,
    ifname: String,
    args: Vec<(String, String)>,
    capabilities: Map<String, Value>,
}

impl From<&Join> for Written {
    fn from(Join { list, attachment, .. }: &Join) -> Self {
        // With the plugins of the side directory, which the list's own text does not have.
        let plugins: Vec<_> = list.plugins.iter().map(|plugin| &plugin.object).collect();
        Self {
            list: json!({"cniVersion": list.version, "name": list.name, "plugins": plugins}),
            id: attachment.container_id.clone(),
            ifname: attachment.ifname.clone(),
            args: attachment.args.clone(),
            capabilities: attachment.capabilities.clone(),
        }
    }
}

impl Written {
    /// The join again.
    pub fn read(self) -> Result<Join, Failure> {
        let list = Conflist::from_bytes(self.list.to_string().as_bytes());
        let list = list.map_err(|error| Failure::refused(error.to_string()))?;
        let mut attachment = Attachment::new(self.id, None, self.ifname);
        attachment.args = self.args;
        attachment.capabilities = self.capabilities;
        Ok(Join { list, attachment, gateway_priority: 0 })
    }
}

/// ADD of each, in order; the results, that of the default route first. At the first error nothing
/// is undone.
pub fn add(runtime: &Runtime, joins: &[Join], netns: &NetNs) -> Result<Vec<Value>, Failure> {
    let mut results = Vec::new();
    let mut highest = i64::MIN;
    for Join { list, attachment, gateway_priority } in joins {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::refused(format!("attach {} to network {:?}: {error}", attachment.ifname, list.name))
        };
        let routes = DefaultRoutes::read(netns).map_err(|error| failed(&error))?;
        let result = runtime.add(list, attachment).map_err(|error| failed(&error))?;
        let takes = *gateway_priority > highest;
        routes.settle(&attachment.ifname, takes).map_err(|error| failed(&error))?;
        highest = highest.max(*gateway_priority);
        results.push((*gateway_priority, result));
    }
    results.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// DEL of each, the last first. An error is reported, and keeps no other from being detached.
pub fn delete(runtime: &Runtime, joins: &[Join], netns: &NetNs) {
    // The command has ended, and its path of the namespace with it.
    let path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_fd().as_raw_fd());
    for Join { list, attachment, .. } in joins.iter().rev() {
        let attachment = Attachment { netns: Some(path.clone()), ..attachment.clone() };
        // Without a record its ADD has failed.
        let is_added = matches!(runtime.cache().get(&list.name, &attachment.id()), Ok(Some(_)));
        let deleted =
            if is_added { runtime.del(list, &attachment) } else { undo(runtime, list, &attachment) };
        if let Err(error) = deleted {
            let (ifname, network) = (&attachment.ifname, &list.name);
            let text = format!("detach {ifname} from network {network:?}: {error}");
            eprintln!("moor: {}\n`moor gc --fix` tries it again", escaped(&text));
        }
    }
}
