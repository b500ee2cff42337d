//! podman with its CNI back end.

use std::fs;

use anyhow::Result;
use harness::room::SCRATCH;

use super::machine::{PLUGINS, output};

/// Runs podman, and returns its output.
pub fn podman(args: &[&str]) -> Result<String> {
    output("podman", args)
}

/// Writes podman's configuration, with a default network.
pub fn configure(network: &str) -> Result<()> {
    let conf = format!(
        r#"[containers]
cgroups = "disabled"
default_sysctls = []
apparmor_profile = "unconfined"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "cni"
cni_plugin_dirs = ["{PLUGINS}"]
network_config_dir = "/etc/cni/net.d"
default_network = "{network}"
"#
    );
    let storage = format!(
        "[storage]\ndriver = \"vfs\"\ngraphroot = \"{SCRATCH}/graph\"\nrunroot = \"{SCRATCH}/runroot\"\n"
    );
    for (name, text) in [("containers.conf", &conf), ("storage.conf", &storage)] {
        fs::write(format!("{SCRATCH}/{name}"), text)?;
    }
    Ok(())
}
