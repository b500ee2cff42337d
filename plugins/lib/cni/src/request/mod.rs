//! A request: the checked environment and network configuration.

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::env::{Checked, CommandVariable, Env};
use crate::json::{DecodeError, Json};
use crate::netconf::NetConf;
use crate::{AddResult, Command, Error, Version, args, gate};

/// The pair that identifies an attachment within a network.
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
    /// The key is missing, so nothing may be collected.
    NotGiven,
    /// Only these are valid (`null` and `[]` are the empty set); all others of the network are
    /// stale.
    Only(HashSet<Attachment>),
}

/// A checked request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The command.
    pub command: Command,
    /// `CNI_CONTAINERID`; empty for GC and STATUS.
    pub container_id: String,
    /// `CNI_NETNS`, as given; empty when it was unset.
    pub netns: String,
    /// `CNI_IFNAME`; empty for GC and STATUS.
    pub ifname: String,
    /// `CNI_ARGS`, as given; empty for GC and STATUS.
    pub args: String,
    /// `CNI_PATH`, as given.
    pub path: String,
    /// `cniVersion` of the configuration.
    pub version: Version,
    /// `name` of the configuration.
    pub network: String,
    pub(crate) env: Env,
    pub(crate) stdin: Vec<u8>,
    tree: Json,
}

impl Request {
    /// Reads a request as the main loop does for a plugin that supports every version.
    ///
    /// # Errors
    /// The environment or the configuration violates the protocol; the error has the code for it.
    pub fn parse(env: &Env, stdin: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let CommandVariable::Command(command) = env.command() else { return Err(env.unknown_command()) };
        let checked = env.check(command)?;
        let conf = NetConf::parse(stdin.into())?;
        Self::assemble(env, command, checked, conf, Version::ALL)
    }

    /// Checks the version, and builds the request.
    pub(crate) fn assemble(
        env: &Env,
        command: Command,
        checked: Checked,
        conf: NetConf,
        spoken: &[Version],
    ) -> Result<Self, Error> {
        let version = gate::pass(command, conf.version()?, spoken)?;
        let Checked { container_id, netns, ifname, args, path } = checked;
        let NetConf { bytes: stdin, tree, name: network } = conf;
        let env = env.clone();
        Ok(Self { command, container_id, netns, ifname, args, path, version, network, env, stdin, tree })
    }

    /// Standard input, byte for byte.
    pub fn stdin(&self) -> &[u8] {
        &self.stdin
    }

    /// Decodes the configuration. Keys match without regard to case, the last duplicate wins,
    /// `null` means absent, unknown keys are ignored. Error: `failed to load netconf: ...`, code
    /// 999.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Error> {
        self.tree.decode().map_err(|error| unloadable(&error))
    }

    /// `prevResult`, converted to the newest format; `None` when absent or null.
    ///
    /// # Errors
    /// `could not parse prevResult: ...`, code 999; also when its version has another format than
    /// the configuration's.
    pub fn prev_result(&self) -> Result<Option<AddResult>, Error> {
        let Some(tree) = self.tree.get("prevResult") else { return Ok(None) };
        AddResult::of_previous(tree, self.version).map(Some).map_err(|error| {
            let msg = format!("could not parse prevResult: {}", error.msg);
            Error { msg, ..error }
        })
    }

    /// The pairs of `CNI_ARGS` with keys in `known`, in order; an empty value counts as unset.
    /// Unknown keys are an error unless `IgnoreUnknown` is true.
    ///
    /// # Errors
    /// `ARGS: ...`, code 999.
    pub fn args(&self, known: &[&str]) -> Result<Vec<(String, String)>, Error> {
        args::parse(&self.args, known)
    }

    /// The valid set of a GC request.
    ///
    /// # Errors
    /// It is not an array of objects, or one of them has no `containerID` or `ifname`: the
    /// attachment that it stands for would be collected.
    pub fn valid_attachments(&self) -> Result<ValidAttachments, Error> {
        #[derive(Deserialize)]
        struct Wire {
            #[serde(rename = "containerID")]
            container_id: String,
            ifname: String,
        }
        const KEY: &str = "cni.dev/valid-attachments";
        let given = match &self.tree {
            Json::Object(members) => members.iter().any(|(name, _)| name.eq_ignore_ascii_case(KEY)),
            _ => false,
        };
        if !given {
            return Ok(ValidAttachments::NotGiven);
        }
        let listed: Vec<Wire> = match self.tree.get(KEY) {
            None => Vec::new(),
            Some(list) => list.decode().map_err(|error| unloadable(&error.below(KEY)))?,
        };
        let nameless = |wire: &Wire| wire.container_id.is_empty() || wire.ifname.is_empty();
        if let Some(index) = listed.iter().position(nameless) {
            return Err(Error::invalid_config(format!(
                "{KEY}[{index}]: containerID and ifname must not be empty"
            )));
        }
        let valid = listed.into_iter();
        Ok(ValidAttachments::Only(
            valid.map(|wire| Attachment { container_id: wire.container_id, ifname: wire.ifname }).collect(),
        ))
    }
}

fn unloadable(error: &DecodeError) -> Error {
    Error::internal(format!("failed to load netconf: {error}"))
}

#[cfg(test)]
mod tests;
