//! The operations of a container runtime on a list.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::convert::convert;
use crate::failure::{check_container_id, check_ifname, check_network_name};
use crate::version::at_least;
use crate::{
    Attachment, Cache, CacheError, Conflist, Error, ExecError, Failure, Output, PluginConf, cache, execute,
    find_plugin, result,
};

/// A runtime: the plugin path, the result cache and the timeout.
///
/// The caller must not run operations of one attachment in parallel, nor GC with anything else of
/// its network (C-133).
#[derive(Clone, Debug)]
pub struct Runtime {
    /// The directories of plugins: `CNI_PATH`.
    pub cni_path: Vec<PathBuf>,
    /// The directory of the result cache, which is in `results` below it.
    pub cache_dir: PathBuf,
    /// How long one operation on a list may take in total. A plugin that still runs then is killed
    /// with SIGKILL; like libcni, we run no DEL then.
    pub timeout: Duration,
    /// Whether plugins inherit this process's environment, as they do from a real runtime.
    pub inherit_env: bool,
    /// Variables for every plugin. They replace inherited ones; the protocol's six replace them.
    pub env: Vec<(OsString, OsString)>,
    /// Whether the standard error of a successful plugin is copied to ours.
    pub forward_stderr: bool,
}

/// The protocol's variables; a runtime sets each of them on every call.
const VARIABLES: [&str; 6] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_ARGS", "CNI_IFNAME", "CNI_PATH"];

impl Runtime {
    /// A runtime with libcni's directory layout, a timeout of five minutes, and this process's
    /// environment.
    pub fn new(cni_path: Vec<PathBuf>, cache_dir: impl Into<PathBuf>) -> Self {
        Self {
            cni_path,
            cache_dir: cache_dir.into(),
            timeout: Duration::from_secs(300),
            inherit_env: true,
            env: Vec::new(),
            forward_stderr: true,
        }
    }

    /// The result cache.
    pub fn cache(&self) -> Cache {
        Cache::new(&self.cache_dir)
    }

    /// ADD: runs the plugins in order, each with the result of the previous one. Caches and returns
    /// the last result as printed; only a missing `cniVersion` is added (C-083). Stops at the first
    /// error and undoes nothing: the caller must run DEL then.
    pub fn add(&self, list: &Conflist, attachment: &Attachment) -> Result<Value, Error> {
        let deadline = self.deadline();
        let mut result = None;
        for plugin in &list.plugins {
            let answer = self
                .add_one(list, plugin, attachment, result.as_ref(), deadline)
                .map_err(|error| failed(plugin, "add", error))?;
            result = Some(answer);
        }
        let record = cache::Record {
            network: list.name.clone(),
            attachment: attachment.clone(),
            config: list.bytes.clone(),
            result: result.clone(),
        };
        self.cache().put(&record).map_err(|error| Error::Remember { network: list.name.clone(), error })?;
        // A list has at least one plugin.
        Ok(result.unwrap_or_default())
    }

    fn add_one(
        &self,
        list: &Conflist,
        plugin: &PluginConf,
        attachment: &Attachment,
        prev_result: Option<&Value>,
        deadline: Instant,
    ) -> Result<Value, ExecError> {
        let program = find_plugin(&plugin.plugin_type, &self.cni_path)?;
        check_container_id(&attachment.container_id)
            .and_then(|()| check_network_name(&list.name))
            .and_then(|()| check_ifname(&attachment.ifname))
            .map_err(ExecError::Refused)?;
        let stdin = plugin.attachment_request(list, prev_result, &attachment.capabilities);
        let output = self.run(&program, self.attachment_env("ADD", attachment), &stdin, deadline)?;
        match result::read(&output.stdout, &list.version) {
            Ok(result) => Ok(result),
            Err(fault) => Err(ExecError::BadResult { fault, output: Box::new(output) }),
        }
    }

    /// CHECK: runs the plugins in order, each with the cached result, up to the first error. An
    /// attachment without a record is checked without a previous result.
    pub fn check(&self, list: &Conflist, attachment: &Attachment) -> Result<(), Error> {
        if !at_least(&list.version, "0.4.0")? {
            return Err(Error::CheckUnsupported(list.version.clone()));
        }
        if list.disable_check {
            return Ok(());
        }
        let deadline = self.deadline();
        let prev_result = self
            .cached_result(list, attachment)
            .map_err(|error| Error::Recall { network: list.name.clone(), error })?;
        for plugin in &list.plugins {
            self.attachment_call("CHECK", list, plugin, attachment, prev_result.as_ref(), deadline)?;
        }
        Ok(())
    }

    /// DEL: runs the plugins in reverse order, from 0.4.0 on with the cached result (C-122). Stops
    /// at the first error and keeps the record, so that DEL can be tried again; removes the record
    /// after success.
    pub fn del(&self, list: &Conflist, attachment: &Attachment) -> Result<(), Error> {
        self.del_until(list, attachment, self.deadline())
    }

    pub(crate) fn del_until(
        &self,
        list: &Conflist,
        attachment: &Attachment,
        deadline: Instant,
    ) -> Result<(), Error> {
        let prev_result = if at_least(&list.version, "0.4.0")? {
            self.cached_result(list, attachment).unwrap_or_else(|error| {
                // A corrupt file is useless and is removed. One that only cannot be converted still
                // identifies the attachment for GC, so it stays until DEL succeeds; libcni removes
                // it.
                if let CacheError::Corrupt { .. } = error {
                    let _ = self.cache().remove(&list.name, &attachment.id());
                }
                None
            })
        } else {
            None
        };
        for plugin in list.plugins.iter().rev() {
            self.attachment_call("DEL", list, plugin, attachment, prev_result.as_ref(), deadline)
                .map_err(|error| failed(plugin, "delete", error))?;
        }
        // libcni only removes a record that it has used as a previous result, so records of lists
        // below 0.4.0 stay forever. A record that cannot be removed is not a reason to run DEL
        // again.
        let _ = self.cache().remove(&list.name, &attachment.id());
        Ok(())
    }

    /// STATUS: runs the plugins in order; returns the first error, unchanged. Below 1.1.0 it runs
    /// none.
    pub fn status(&self, list: &Conflist) -> Result<(), Error> {
        if !at_least(&list.version, "1.1.0").unwrap_or(false) {
            return Ok(());
        }
        let deadline = self.deadline();
        for plugin in &list.plugins {
            let program = find_plugin(&plugin.plugin_type, &self.cni_path)?;
            self.run(&program, self.network_env("STATUS"), &plugin.status_request(list), deadline)?;
        }
        Ok(())
    }

    /// The cached result of an attachment, converted to the list's version: the `prevResult` of
    /// CHECK and DEL.
    pub fn cached_result(
        &self,
        list: &Conflist,
        attachment: &Attachment,
    ) -> Result<Option<Value>, CacheError> {
        let id = attachment.id();
        let cached = match self.cache().get(&list.name, &id)? {
            None => return Ok(None),
            Some(cache::Entry::Record(record)) => record.result,
            Some(cache::Entry::Legacy(result)) => Some(result),
        };
        cached
            .map(|cached| convert(cached, &list.version))
            .transpose()
            .map_err(|reason| CacheError::Convert { version: list.version.clone(), reason })
    }

    /// Runs a plugin without checking its output, for protocol cases that no runtime would produce.
    ///
    /// The environment is this runtime's without protocol variables, plus `CNI_COMMAND` = `command`
    /// and `CNI_PATH`, plus `env`, in which `None` removes a variable. Every exit status is a
    /// success here.
    pub fn exec_plugin(
        &self,
        plugin_type: &str,
        command: &str,
        env: &[(&str, Option<&str>)],
        stdin: &[u8],
    ) -> Result<Output, ExecError> {
        let program = find_plugin(plugin_type, &self.cni_path)?;
        let mut all = self.base_env();
        all.retain(|(key, _)| !VARIABLES.iter().any(|variable| key == variable));
        all.push(("CNI_COMMAND".into(), command.into()));
        all.push(("CNI_PATH".into(), self.path_text()));
        for (key, value) in env {
            all.retain(|(name, _)| name != key);
            all.extend(value.map(|value| (key.into(), value.into())));
        }
        execute(&program, &all, stdin, self.deadline())
    }

    pub(crate) fn deadline(&self) -> Instant {
        // A timeout that the clock cannot represent becomes a year.
        let now = Instant::now();
        now.checked_add(self.timeout).unwrap_or(now + Duration::from_secs(365 * 24 * 3600))
    }

    fn attachment_call(
        &self,
        command: &str,
        list: &Conflist,
        plugin: &PluginConf,
        attachment: &Attachment,
        prev_result: Option<&Value>,
        deadline: Instant,
    ) -> Result<(), ExecError> {
        let program = find_plugin(&plugin.plugin_type, &self.cni_path)?;
        let stdin = plugin.attachment_request(list, prev_result, &attachment.capabilities);
        self.run(&program, self.attachment_env(command, attachment), &stdin, deadline)?;
        Ok(())
    }

    /// Runs a plugin; any exit status but 0 is an error.
    pub(crate) fn run(
        &self,
        program: &Path,
        env: Vec<(OsString, OsString)>,
        stdin: &[u8],
        deadline: Instant,
    ) -> Result<Output, ExecError> {
        let output = execute(program, &env, stdin, deadline)?;
        if !output.status.success() {
            let failure = Failure::from_output(&output.stdout, &output.stderr, &output.status_text());
            return Err(ExecError::Failed { failure, output: Box::new(output) });
        }
        if self.forward_stderr && !output.stderr.is_empty() {
            // A closed standard error is not a failure.
            let _ = std::io::stderr().write_all(&output.stderr);
        }
        Ok(output)
    }

    fn attachment_env(&self, command: &str, attachment: &Attachment) -> Vec<(OsString, OsString)> {
        let Attachment { container_id, netns, ifname, .. } = attachment;
        let netns = netns.as_deref().unwrap_or_default();
        self.full_env([command, container_id, netns, &attachment.args_text(), ifname])
    }

    /// GC and STATUS have no attachment: its variables are set, but empty.
    pub(crate) fn network_env(&self, command: &str) -> Vec<(OsString, OsString)> {
        self.full_env([command, "", "", "", ""])
    }

    fn full_env(&self, values: [&str; 5]) -> Vec<(OsString, OsString)> {
        let values = values.map(OsString::from).into_iter().chain([self.path_text()]);
        self.env_with(VARIABLES.into_iter().zip(values))
    }

    /// The base environment with these variables, each once.
    pub(crate) fn env_with(
        &self,
        variables: impl Iterator<Item = (&'static str, OsString)>,
    ) -> Vec<(OsString, OsString)> {
        let mut env = self.base_env();
        env.retain(|(key, _)| !VARIABLES.iter().any(|variable| key == variable));
        env.extend(variables.map(|(key, value)| (key.into(), value)));
        env
    }

    fn base_env(&self) -> Vec<(OsString, OsString)> {
        let mut env: Vec<_> = if self.inherit_env { std::env::vars_os().collect() } else { Vec::new() };
        for (key, value) in &self.env {
            env.retain(|(name, _)| name != key);
            env.push((key.clone(), value.clone()));
        }
        env
    }

    fn path_text(&self) -> OsString {
        let mut text = OsString::new();
        for (at, dir) in self.cni_path.iter().enumerate() {
            if at > 0 {
                text.push(":");
            }
            text.push(dir);
        }
        text
    }
}

fn failed(plugin: &PluginConf, verb: &'static str, error: ExecError) -> Error {
    Error::Plugin {
        plugin_type: plugin.plugin_type.clone(),
        own_name: plugin.own_name.clone(),
        verb,
        error: Box::new(error),
    }
}
