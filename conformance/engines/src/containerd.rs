//! containerd, with its Container Runtime Interface as a kubelet uses it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use harness::room::SCRATCH;

use super::cri::{self, Message, SOCKET};
use super::machine::{PLUGINS, output, rootfs};

/// The image of pods and containers: a web server.
pub const IMAGE: &str = "moor.test/web:1";

/// `NamespaceMode` of the host's own namespace.
const NODE: u64 = 2;

/// A pod to run.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a> {
    /// Its name, which is also its uid.
    pub name: &'a str,
    /// The host port that is published to its port 80.
    pub host_port: Option<u64>,
    /// Its annotations.
    pub annotations: &'a [(&'a str, &'a str)],
    /// Whether it is in the host's network namespace: no plugin is called.
    pub on_host: bool,
}

impl Pod<'_> {
    /// Sends a `RunPodSandboxRequest`, and returns the pod's id.
    pub fn run(&self) -> Result<String> {
        let metadata =
            Message::default().text(1, self.name).text(2, self.name).text(3, "default").number(4, 1);
        let mut config = Message::default().message(1, &metadata);
        if !self.on_host {
            // The host's namespace for its name comes with that of the network.
            config = config.text(2, self.name);
        }
        if let Some(port) = self.host_port {
            // TCP is 0, which is not encoded.
            config = config.message(5, &Message::default().number(2, 80).number(3, port));
        }
        for (key, value) in self.annotations {
            config = config.message(7, &Message::default().text(1, key).text(2, value));
        }
        let mut linux = Message::default();
        if self.on_host {
            let namespaces = Message::default().number(1, NODE);
            linux = linux.message(2, &Message::default().message(1, &namespaces));
        }
        let config = config.message(8, &linux);
        let answer = cri::call("RunPodSandbox", &Message::default().message(1, &config))?;
        Ok(std::str::from_utf8(cri::field(&answer, 1).context("no pod id")?)?.to_owned())
    }
}

/// The containerd process; it ends with the room at the latest.
pub struct Daemon(Child);

impl Daemon {
    /// Starts it, and waits until it answers.
    pub fn start() -> Result<Self> {
        let log = File::options().create(true).append(true).open(format!("{SCRATCH}/containerd.log"))?;
        let child = Command::new("containerd")
            .args(["-c", &format!("{SCRATCH}/containerd.toml")])
            .env("TMPDIR", "/tmp")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start containerd")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while output("ctr", &["--connect-timeout", "1s", "version"]).is_err() {
            if Instant::now() > deadline {
                let log = fs::read_to_string(format!("{SCRATCH}/containerd.log")).unwrap_or_default();
                bail!("containerd does not answer: {}", log.lines().last().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self(child))
    }

    /// Kills it; pods continue.
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill().context("kill containerd")?;
        self.0.wait().map(drop).context("wait for containerd")
    }
}

/// Writes the image as an archive like that of `docker save`, and returns its path.
fn image() -> Result<String> {
    let dir = format!("{SCRATCH}/image");
    fs::create_dir_all(&dir)?;
    let layer = format!("{dir}/layer.tar");
    output("tar", &["-C", &rootfs().display().to_string(), "-cf", &layer, "."])?;
    let sum = output("sha256sum", &[&layer])?;
    let sum = sum.split_whitespace().next().context("no sum")?;
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Cmd": ["/bin/httpd", "-f", "-p", "80", "-h", "/www"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{sum}")]},
    });
    fs::write(format!("{dir}/config.json"), config.to_string())?;
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]);
    fs::write(format!("{dir}/manifest.json"), manifest.to_string())?;
    let archive = format!("{SCRATCH}/image.tar");
    output("tar", &["-C", &dir, "-cf", &archive, "manifest.json", "config.json", "layer.tar"])?;
    Ok(archive)
}

/// The wrapper of the runtime that [`configure`] writes.
pub fn runtime() -> String {
    format!("{SCRATCH}/crun")
}

/// Imports the image.
pub fn import() -> Result<()> {
    let image = image()?;
    for namespace in ["default", "k8s.io"] {
        output("ctr", &["-n", namespace, "images", "import", &image])?;
    }
    Ok(())
}

/// Writes its configuration, and the wrapper of the runtime.
pub fn configure() -> Result<()> {
    // containerd has no option for a missing cgroup file system; crun has.
    let runtime = runtime();
    fs::write(&runtime, "#!/bin/sh\nexec /usr/bin/crun --cgroup-manager=disabled \"$@\"\n")?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o755))?;
    let text = format!(
        r#"version = 2
root = "{SCRATCH}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
disable_cgroup = true
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{PLUGINS}"
conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{runtime}"
"#
    );
    Ok(fs::write(format!("{SCRATCH}/containerd.toml"), text)?)
}
