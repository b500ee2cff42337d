//! Asking plugins what they can do, before they are asked to do it.

use std::time::Instant;

use serde_json::{Map, Value};

use crate::version::{NEWEST, OLDEST, or_oldest};
use crate::{Conflist, Error, ExecError, InvalidPlugin, ResultFault, Runtime, find_plugin, json};

/// A plugin's answer to VERSION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// The version the answer itself is in.
    pub cni_version: String,
    /// The versions the plugin speaks, as it listed them.
    pub supported: Vec<String>,
}

impl Runtime {
    /// Validates a list: every plugin is there and advertises the list's version. Gives the names of all capabilities
    /// that some plugin of the list declares, sorted. Every plugin that fails is in the error.
    pub fn validate(&self, list: &Conflist) -> Result<Vec<String>, Error> {
        let deadline = self.deadline();
        let mut invalid = Vec::new();
        for plugin in &list.plugins {
            match self.version_until(&plugin.plugin_type, deadline) {
                Err(error) => invalid.push(InvalidPlugin::Exec(error)),
                Ok(info) if info.supported.iter().any(|version| version == or_oldest(&list.version)) => {}
                Ok(_) => invalid.push(InvalidPlugin::Version {
                    plugin_type: plugin.plugin_type.clone(),
                    version: or_oldest(&list.version).to_owned(),
                }),
            }
        }
        if !invalid.is_empty() {
            return Err(Error::Invalid(invalid));
        }
        let enabled = list.plugins.iter().flat_map(|plugin| &plugin.capabilities);
        let mut names: Vec<_> = enabled.filter(|(_, on)| **on).map(|(name, _)| name.clone()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Asks a plugin for its versions. One that does not know the question speaks 0.1.0 only.
    pub fn version(&self, plugin_type: &str) -> Result<VersionInfo, ExecError> {
        self.version_until(plugin_type, self.deadline())
    }

    fn version_until(&self, plugin_type: &str, deadline: Instant) -> Result<VersionInfo, ExecError> {
        let program = find_plugin(plugin_type, &self.cni_path)?;
        // The stand-ins are for plugins so old that they want an attachment's variables for every command.
        let values = [
            ("CNI_COMMAND", "VERSION"),
            ("CNI_CONTAINERID", ""),
            ("CNI_NETNS", "dummy"),
            ("CNI_ARGS", ""),
            ("CNI_IFNAME", "dummy"),
            ("CNI_PATH", "dummy"),
        ];
        let env = self.env_with(values.into_iter().map(|(key, value)| (key, value.into())));
        let stdin = format!("{{\"cniVersion\":\"{NEWEST}\"}}");
        match self.run(&program, env, stdin.as_bytes(), deadline) {
            Ok(output) => match read_info(&output.stdout) {
                Ok(info) => Ok(info),
                Err(fault) => Err(ExecError::BadResult { fault, output: Box::new(output) }),
            },
            Err(error) if error.to_string() == "unknown CNI_COMMAND: VERSION" => {
                Ok(VersionInfo { cni_version: OLDEST.to_owned(), supported: vec![OLDEST.to_owned()] })
            }
            Err(error) => Err(error),
        }
    }
}

/// C-037, reader's side.
fn read_info(stdout: &[u8]) -> Result<VersionInfo, ResultFault> {
    let answer: Map<String, Value> = serde_json::from_slice(stdout)
        .map_err(|error| ResultFault::Shape(format!("decoding version info: {error}")))?;
    let cni_version = match json::any_case(&answer, "cniVersion") {
        Some(Value::String(version)) if !version.is_empty() => version.clone(),
        _ => return Err(ResultFault::Missing("cniVersion")),
    };
    let listed = json::any_case(&answer, "supportedVersions").and_then(Value::as_array);
    let supported: Vec<_> =
        listed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    match (supported.is_empty(), cni_version.as_str()) {
        (false, _) => Ok(VersionInfo { cni_version, supported }),
        // 0.2.0 had the question, but not yet the list.
        (true, "0.2.0") => {
            Ok(VersionInfo { cni_version, supported: vec!["0.1.0".to_owned(), "0.2.0".to_owned()] })
        }
        (true, _) => Err(ResultFault::Missing("supportedVersions")),
    }
}
