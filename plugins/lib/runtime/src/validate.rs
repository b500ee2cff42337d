//! Checks that the plugins of a list support it.

use std::time::Instant;

use serde_json::{Map, Value};

use crate::version::{NEWEST, OLDEST, or_oldest};
use crate::{Conflist, Error, ExecError, InvalidPlugin, ResultFault, Runtime, find_plugin, json};

/// The output of VERSION.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionInfo {
    /// The version of this output.
    pub cni_version: String,
    /// The versions that the plugin supports, in its order.
    pub supported: Vec<String>,
}

impl Runtime {
    /// Validates a list: every plugin exists and supports the list's version. Returns the names of
    /// all capabilities that a plugin of the list declares, sorted. The error has every plugin that
    /// fails.
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

    /// The versions of a plugin. One that does not know VERSION supports only 0.1.0.
    pub fn version(&self, plugin_type: &str) -> Result<VersionInfo, ExecError> {
        self.version_until(plugin_type, self.deadline())
    }

    fn version_until(&self, plugin_type: &str, deadline: Instant) -> Result<VersionInfo, ExecError> {
        let program = find_plugin(plugin_type, &self.cni_path)?;
        // Very old plugins require an attachment's variables for every command: these get dummies.
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

/// C-037
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
        // 0.2.0 has VERSION, but no list in its output.
        (true, "0.2.0") => {
            Ok(VersionInfo { cni_version, supported: vec!["0.1.0".to_owned(), "0.2.0".to_owned()] })
        }
        (true, _) => Err(ResultFault::Missing("supportedVersions")),
    }
}
