//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Networks of containers over several hosts.
#[derive(Debug, Parser)]
#[command(
    name = "overlay",
    version,
    after_help = "`overlay serve` is the agent itself: see moor-overlay.service."
)]
pub(super) struct Cli {
    /// The configuration of this host.
    #[arg(long = "settings", global = true, value_name = "FILE", default_value = cluster::local::SETTINGS)]
    pub config: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The state of this host: etcd, hosts, entries, faults. Status 1 if there is a fault.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The attachments of all hosts.
    Ls {
        /// Of this network only.
        #[arg(long, value_name = "NAME")]
        network: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// The networks of the cluster.
    Network {
        /// What to do.
        #[command(subcommand)]
        command: NetworkCommand,
    },
    /// The hosts of the cluster.
    Host {
        /// What to do.
        #[command(subcommand)]
        command: HostCommand,
    },
    /// Takes this host out of the cluster: nothing of it stays in etcd, and nothing of the networks
    /// on the host. Run it where containers are gone.
    Leave {
        /// Even with containers that are attached: they lose their network.
        #[arg(long)]
        force: bool,
    },
}

/// What to do with networks.
#[derive(Debug, Subcommand)]
pub(super) enum NetworkCommand {
    /// Lists them.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Removes a network that no container is attached to. The next ADD makes it anew, from its
    /// configuration.
    Rm {
        /// Its name.
        name: String,
    },
}

/// What to do with hosts.
#[derive(Debug, Subcommand)]
pub(super) enum HostCommand {
    /// Lists them.
    Ls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Removes a host that does not come back, and frees its addresses. A host that is alive is
    /// refused: run `overlay leave` on it.
    Remove {
        /// Its id, or the beginning of it, or its name.
        host: String,
        /// Your word that the host is switched off: its containers could else go on with addresses
        /// that others get.
        #[arg(long)]
        dead: bool,
    },
}
