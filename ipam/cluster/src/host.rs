//! The files of this host, and its agent.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::{Client, Files};
use cluster::block::Limits;
use cluster::control::{Answer, Request};
use cluster::local::{Blocks, SETTINGS};
use cluster::record::Net;
use cluster::settings::Settings;
use cni::Error;

/// Where they are; tests use others.
#[derive(Clone, Debug)]
pub struct Host {
    /// Those of this process's network namespace, if absent.
    pub files: Option<Files>,
    /// The configuration of the host.
    pub settings: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Self { files: None, settings: SETTINGS.into() }
    }
}

impl Host {
    /// The files and the agent for one call; `settings` is another configuration of the host.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn open(&self, settings: Option<PathBuf>, cni_path: &str) -> Result<Open, Error> {
        Ok(Open {
            files: self.files.clone().map_or_else(Files::of_process, Ok)?,
            settings: settings.unwrap_or_else(|| self.settings.clone()),
            cni_path: cni_path.to_owned(),
        })
    }
}

/// The files and the agent of this host, for one call.
#[derive(Clone, Debug)]
pub struct Open {
    files: Files,
    settings: PathBuf,
    cni_path: String,
}

impl Open {
    /// The host's configuration, which must be valid.
    ///
    /// # Errors
    /// Code 7.
    pub fn settings(&self) -> Result<Settings, Error> {
        agent::read_settings(&self.settings)
    }

    /// `timeoutMs` of it.
    ///
    /// # Errors
    /// Code 7.
    pub fn timeout(&self) -> Result<Duration, Error> {
        Ok(Duration::from_millis(self.settings()?.timeout_ms.into()))
    }

    /// Tells the agent what the configuration of a network keeps back.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn keep_limits(&self, network: &str, limits: &Limits) -> Result<(), Error> {
        Ok(self.files.keep_limits(network, limits)?)
    }

    /// Whether the agent has heard of etcd since boot.
    pub fn was_in_contact(&self) -> bool {
        self.files.was_in_contact()
    }

    /// The network's record. One that cannot be read is as good as none: the agent writes it again.
    pub fn net(&self, network: &str) -> Option<Net> {
        self.files.net(network).ok().flatten()
    }

    /// The addresses of this host, likewise.
    pub fn blocks(&self, network: &str) -> Option<Blocks> {
        self.files.blocks(network).ok().flatten()
    }

    /// Where the files are, for an error.
    pub fn state(&self) -> &Path {
        self.files.state()
    }

    /// Asks the agent, which is started if there is none, within about this time.
    ///
    /// # Errors
    /// It could not be started, or does not answer.
    pub fn ask(&self, request: &Request, timeout: Duration) -> Result<Answer, Error> {
        let client = Client { files: &self.files, settings: &self.settings, cni_path: &self.cni_path };
        client.ask_or_start(request, timeout)
    }
}
