//! containerd: with `ctr`, and with its Container Runtime Interface as a kubelet uses it.

use anyhow::{Context, Result, ensure};
use engines::containerd::{self, Daemon, IMAGE, Pod};
use engines::cri::{self, Message};
use engines::machine::output;
use harness::room::Room;

use super::{Steps, is_silent, nothing_left, reads};

const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:ff::1"];
const POD: Pod<'static> = Pod { name: "pod", host_port: Some(8080), annotations: &[], on_host: false };

pub fn steps(room: &Room, steps: &mut Steps) -> Result<()> {
    containerd::configure()?;
    let before = room.snapshot()?;
    let mut daemon = Daemon::start()?;
    containerd::import()?;
    let runtime = containerd::runtime();
    steps.check("ctr run --cni: the container has the plugin's address", || {
        let run = ["run", "--rm", "--cni", "--snapshotter", "native", "--runc-binary", &runtime, IMAGE, "c1"];
        let printed = output("ctr", &[&run[..], &["/bin/ip", "-4", "addr", "show", "eth0"]].concat())?;
        ensure!(printed.contains("inet 10.91.0."), "ctr printed {printed:?}");
        Ok(())
    });
    steps.check("nothing is left of it", || nothing_left(room, &before));
    let mut pod = None;
    steps.check("CRI RunPodSandbox: a pod with a host port", || {
        pod = Some(POD.run()?);
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
        let pod = POD.run()?;
        reached()?;
        cri::call("StopPodSandbox", &Message::default().text(1, &pod)).map(drop)
    });
    steps.check("nothing is left again", || nothing_left(room, &before));
    daemon.kill()
}
