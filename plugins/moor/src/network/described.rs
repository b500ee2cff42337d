//! A network in a person's words: driver, subnets, labels, and whether it leads outside.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::networks::Network;
use crate::subnets::{self, Subnet};

/// A network, as `network ls --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// SHA-256 of the name.
    pub id: String,
    /// The name.
    pub name: String,
    /// The type of the first plugin.
    pub driver: String,
    /// The file.
    pub file: PathBuf,
    /// The containerd namespace, when nerdctl keeps the file in its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The place among all networks, from 0.
    pub order: usize,
    /// Containerd and CRI-O give it to pods.
    pub first: bool,
    /// It has no way outside.
    pub internal: bool,
    /// What it gives addresses of.
    pub subnets: Vec<Subnet>,
    /// The bridge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// The link of the host that it is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The options that podman records.
    pub options: BTreeMap<String, String>,
    /// How many attachments of any runtime there are, when that can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub containers: Option<usize>,
}

impl Described {
    /// Describes the network, the `order`th of all.
    pub fn new(network: &Network, order: usize) -> Self {
        let first = network.list.plugins.first();
        let driver = first.map(|plugin| plugin.plugin_type.clone()).unwrap_or_default();
        let object = first.map(|plugin| &plugin.object);
        let key = |key: &str| object.and_then(|object| text(object, key)).map(ToOwned::to_owned);
        Self {
            id: network.id.clone(),
            name: network.name().to_owned(),
            file: network.file.clone(),
            namespace: network.namespace.clone(),
            order,
            first: network.first,
            internal: object.is_some_and(|object| is_internal(&driver, object)),
            subnets: subnets::of(&network.list),
            link: (driver == "bridge").then(|| key("bridge").unwrap_or_else(|| "cni0".into())),
            parent: key("master").filter(|_| driver != "bridge"),
            labels: labels(&network.object),
            options: pairs(network.object.get("args").and_then(|args| args.get("podman_options"))),
            containers: None,
            driver,
        }
    }

    /// The file's name as a person finds it in the directory.
    pub fn file_name(&self) -> String {
        let name = self.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.namespace.as_ref().map_or(name.clone(), |namespace| format!("{namespace}/{name}"))
    }
}

/// The labels that nerdctl and podman record.
pub fn labels(list: &Map<String, Value>) -> BTreeMap<String, String> {
    let mut labels = pairs(list.get("args").and_then(|args| args.get("podman_labels")));
    labels.extend(pairs(list.get("nerdctlLabels")));
    labels
}

/// A bridge without an address leads nowhere, unless it leaves addresses to somebody else; other
/// links have a key for it.
fn is_internal(driver: &str, object: &Map<String, Value>) -> bool {
    let flag = |key: &str| object.get(key).and_then(Value::as_bool).unwrap_or(false);
    match driver {
        "bridge" => object.contains_key("ipam") && !flag("isGateway") && !flag("isDefaultGateway"),
        _ => flag("internal"),
    }
}

fn pairs(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

fn text<'o>(object: &'o Map<String, Value>, key: &str) -> Option<&'o str> {
    object.get(key)?.as_str().filter(|text| !text.is_empty())
}
