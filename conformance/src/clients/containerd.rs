//! containerd: with `ctr`, and with its Container Runtime Interface as a kubelet uses it.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::room::{Room, SCRATCH};

use super::cri::{self, Message};
use super::machine::{PLUGINS, output, rootfs};
use super::{Steps, is_silent, nothing_left, reads};

pub const SOCKET: &str = "/run/containerd/containerd.sock";

const IMAGE: &str = "moor.test/web:1";
const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:ff::1"];

pub fn steps(room: &Room, steps: &mut Steps) -> Result<()> {
    configure()?;
    let image = image()?;
    let before = room.snapshot()?;
    let mut daemon = Daemon::start()?;
    for namespace in ["default", "k8s.io"] {
        output("ctr", &["-n", namespace, "images", "import", &image])?;
    }
    let runtime = format!("{SCRATCH}/crun");
    steps.check("ctr run --cni: the container has the plugin's address", || {
        let run = ["run", "--rm", "--cni", "--snapshotter", "native", "--runc-binary", &runtime, IMAGE, "c1"];
        let printed = output("ctr", &[&run[..], &["/bin/ip", "-4", "addr", "show", "eth0"]].concat())?;
        ensure!(printed.contains("inet 10.91.0."), "ctr printed {printed:?}");
        Ok(())
    });
    steps.check("nothing is left of it", || nothing_left(room, &before));
    let mut pod = None;
    steps.check("CRI RunPodSandbox: a pod with a host port", || {
        pod = Some(run_pod()?);
        Ok(())
    });
    let pod = pod.context("no pod, so the remaining steps cannot run")?;
    let named = Message::default().text(1, &pod);
    steps.check("CRI PodSandboxStatus returns its address, and it answers there", || {
        let answer = cri::call("PodSandboxStatus", &named)?;
        let network = cri::field(&answer, 1).and_then(|status| cri::field(status, 5));
        let address = network.and_then(|network| cri::field(network, 1)).context("no address")?;
        reads(room, None, std::str::from_utf8(address)?, 80)
    });
    let reached = || {
        reads(room, None, "127.0.0.1", 8080)?;
        HOST.iter().try_for_each(|host| reads(room, Some("outside"), host, 8080))
    };
    steps.check("reachable at localhost and from outside, both families", reached);
    steps.check("containerd is killed and started again: the pod is still reachable", || {
        daemon.kill()?;
        daemon = Daemon::start()?;
        reached()
    });
    steps.check("CRI StopPodSandbox, twice", || {
        cri::call("StopPodSandbox", &named)?;
        cri::call("StopPodSandbox", &named).map(drop)
    });
    steps.check("the port is closed", || is_silent("127.0.0.1", 8080));
    steps.check("nothing is left", || nothing_left(room, &before));
    steps.check("CRI RemovePodSandbox", || cri::call("RemovePodSandbox", &named).map(drop));
    steps.check("the port is free for the next pod", || {
        let pod = run_pod()?;
        reached()?;
        cri::call("StopPodSandbox", &Message::default().text(1, &pod)).map(drop)
    });
    steps.check("nothing is left again", || nothing_left(room, &before));
    daemon.kill()
}

/// Sends a `RunPodSandboxRequest`; returns the pod's id.
fn run_pod() -> Result<String> {
    let metadata = Message::default().text(1, "pod").text(2, "uid").text(3, "default").number(4, 1);
    // TCP is 0, which is not encoded.
    let port = Message::default().number(2, 80).number(3, 8080);
    let config = Message::default().message(1, &metadata).text(2, "pod").message(5, &port);
    let config = config.message(8, &Message::default());
    let answer = cri::call("RunPodSandbox", &Message::default().message(1, &config))?;
    Ok(std::str::from_utf8(cri::field(&answer, 1).context("no pod id")?)?.to_owned())
}

/// The containerd process; it ends with the room at the latest.
struct Daemon(Child);

impl Daemon {
    fn start() -> Result<Self> {
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

    fn kill(&mut self) -> Result<()> {
        self.0.kill().context("kill containerd")?;
        self.0.wait().map(drop).context("wait for containerd")
    }
}

/// The image of pods and containers: a web server. An archive as `docker save` writes it.
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

fn configure() -> Result<()> {
    // containerd has no option for a missing cgroup file system; crun has.
    let runtime = format!("{SCRATCH}/crun");
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
