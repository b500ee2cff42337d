//! Network configuration lists.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::conf_error::{ListFault, PluginFault};
use crate::version::{self, NEWEST};
use crate::{ConfError, json};

/// A network: an ordered list of plugins that share a name and a version.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflist {
    /// The network's name. ADD checks its characters.
    pub name: String,
    /// The version of every plugin's request, chosen from `cniVersion` and `cniVersions` (C-131).
    /// Empty means 0.1.0.
    pub version: String,
    /// CHECK succeeds without running anything.
    pub disable_check: bool,
    /// GC succeeds without running anything.
    pub disable_gc: bool,
    /// Plugins in the side directory are ignored.
    pub only_inlined: bool,
    /// The plugins in list order; never empty.
    pub plugins: Vec<PluginConf>,
    /// The text of the list, for the result cache; without the plugins of the side directory.
    pub bytes: Vec<u8>,
}

/// One plugin of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct PluginConf {
    /// The name of the executable in the runtime's plugin path. Not empty.
    pub plugin_type: String,
    /// `name` of the plugin object, usually empty. Requests have the list's.
    pub own_name: String,
    /// The capabilities that the plugin declares, by name.
    pub capabilities: BTreeMap<String, bool>,
    /// The object, unchanged.
    pub object: Map<String, Value>,
}

impl Conflist {
    /// Parses a list. Without a file there is no side directory, so a list with all its plugins
    /// there is an error.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ConfError> {
        let list = Self::parse(bytes)?;
        if list.plugins.is_empty() { Err(ConfError::NoPlugins) } else { Ok(list) }
    }

    /// Converts a single plugin configuration (the deprecated `.conf` and `.json` files) to a list:
    /// it gets the name and version of the object, which becomes the only plugin.
    pub fn from_single(bytes: &[u8]) -> Result<Self, ConfError> {
        Self::up_convert(PluginConf::from_bytes(bytes)?)
    }

    pub(crate) fn up_convert(plugin: PluginConf) -> Result<Self, ConfError> {
        let version = match json::any_case(&plugin.object, "cniVersion") {
            Some(Value::String(version)) => version.clone(),
            _ => String::new(),
        };
        let mut object = Value::Object(plugin.object);
        json::through_float(&mut object);
        let list = serde_json::json!({ "name": plugin.own_name, "cniVersion": version, "plugins": [object] });
        Self::from_bytes(&json::encode(&list).map_err(ListFault::Json)?)
    }

    /// Parses a list, which may have no plugins yet: they may all be in its side directory.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfError> {
        let list = object(bytes).map_err(|fault| match fault {
            NotAnObject::Json(error) => ListFault::Json(error),
            NotAnObject::Type(found) => ListFault::NotAnObject(found),
        })?;
        let name = match list.get("name") {
            None => return Err(ListFault::NoName.into()),
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(ListFault::NameType(json::type_name(other)).into()),
        };
        let version = choose_version(&list)?;
        let only_inlined = flag(&list, "loadOnlyInlinedPlugins")?;
        let (disable_check, disable_gc) = (flag(&list, "disableCheck")?, flag(&list, "disableGC")?);
        let plugins = match list.get("plugins") {
            None if only_inlined => return Err(ListFault::OnlyInlinedWithoutPlugins.into()),
            None => Vec::new(),
            Some(Value::Array(plugins)) if plugins.is_empty() => return Err(ListFault::EmptyPlugins.into()),
            Some(Value::Array(plugins)) => plugins
                .iter()
                .enumerate()
                .map(|(index, plugin)| {
                    PluginConf::from_value(plugin.clone())
                        .map_err(|fault| ConfError::ListedPlugin { index, fault })
                })
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(ListFault::PluginsType(json::type_name(other)).into()),
        };
        Ok(Self { name, version, disable_check, disable_gc, only_inlined, plugins, bytes: bytes.to_vec() })
    }
}

impl PluginConf {
    /// Parses a plugin object.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ConfError> {
        let value = serde_json::from_slice(bytes).map_err(|error| ConfError::Plugin(error.into()))?;
        Self::from_value(value).map_err(ConfError::Plugin)
    }

    /// Keys match without regard to case here, unlike those of the list: the reference decodes this
    /// object into a struct, the list into a map.
    fn from_value(value: Value) -> Result<Self, PluginFault> {
        let object = match value {
            Value::Object(object) => object,
            // The reference decodes null into an empty struct.
            Value::Null => Map::new(),
            other => return Err(PluginFault::NotAnObject(json::type_name(&other))),
        };
        let plugin_type = text(&object, "type")?;
        let own_name = text(&object, "name")?;
        text(&object, "cniVersion")?;
        for key in ["ipam", "dns", "prevResult"] {
            section(&object, key)?;
        }
        let mut capabilities = BTreeMap::new();
        for (name, enabled) in section(&object, "capabilities")?.into_iter().flatten() {
            let enabled = match enabled {
                Value::Bool(enabled) => *enabled,
                Value::Null => false,
                other => return Err(PluginFault::Type("capabilities", "bool", json::type_name(other))),
            };
            capabilities.insert(name.clone(), enabled);
        }
        if plugin_type.is_empty() {
            return Err(PluginFault::NoType);
        }
        Ok(Self { plugin_type, own_name, capabilities, object })
    }
}

enum NotAnObject {
    Json(serde_json::Error),
    Type(&'static str),
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, NotAnObject> {
    match serde_json::from_slice(bytes).map_err(NotAnObject::Json)? {
        Value::Object(object) => Ok(object),
        Value::Null => Ok(Map::new()),
        other => Err(NotAnObject::Type(json::type_name(&other))),
    }
}

fn text(object: &Map<String, Value>, key: &'static str) -> Result<String, PluginFault> {
    match json::any_case(object, key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(PluginFault::Type(key, "string", json::type_name(other))),
    }
}

fn section<'a>(
    object: &'a Map<String, Value>,
    key: &'static str,
) -> Result<Option<&'a Map<String, Value>>, PluginFault> {
    match json::any_case(object, key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(section)) => Ok(Some(section)),
        Some(other) => Err(PluginFault::Type(key, "object", json::type_name(other))),
    }
}

/// A boolean of the list: true or false, or a string of these in any case.
fn flag(list: &Map<String, Value>, key: &'static str) -> Result<bool, ListFault> {
    match list.get(key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(Value::String(word)) => match word.to_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            word => Err(ListFault::FlagValue { key, value: word.to_owned() }),
        },
        Some(other) => Err(ListFault::FlagType { key, found: json::type_name(other) }),
    }
}

/// C-131. With `cniVersions`, the highest version of both keys that is not newer than ours. Without
/// it, or when there is no such version, `cniVersion` unchanged, even if no specification defines
/// it.
fn choose_version(list: &Map<String, Value>) -> Result<String, ListFault> {
    let single = match list.get("cniVersion") {
        None => "",
        Some(Value::String(version)) => version,
        Some(other) => return Err(ListFault::VersionType(json::type_name(other))),
    };
    let many = match list.get("cniVersions") {
        None => return Ok(single.to_owned()),
        Some(Value::Array(many)) => many,
        Some(other) => return Err(ListFault::VersionsType(json::type_name(other))),
    };
    let mut best: Option<&str> = None;
    let mut consider = |candidate| {
        let newer_than_best = match best {
            Some(best) => version::compare(candidate, best)? == Ordering::Greater,
            None => true,
        };
        if newer_than_best && version::compare(candidate, NEWEST)?.is_le() {
            best = Some(candidate);
        }
        Ok(())
    };
    for (index, entry) in many.iter().enumerate() {
        let Value::String(entry) = entry else {
            return Err(ListFault::VersionsEntryType { index, found: json::type_name(entry) });
        };
        consider(entry).map_err(|error| ListFault::VersionsEntry { index, error })?;
    }
    if !single.is_empty() {
        consider(single).map_err(ListFault::Version)?;
    }
    Ok(best.unwrap_or(single).to_owned())
}
