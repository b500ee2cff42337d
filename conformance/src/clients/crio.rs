//! CRI-O 1.34, without its package, which is not available everywhere: its calls to plugins
//! (cri-o/ocicni, `pkg/ocicni`), made by the runtime library. VERSION of every plugin, STATUS until
//! ready, GC and CHECK of all pods at start; CHECK after every ADD.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::namespace::Container;
use harness::room::Room;
use harness::{ip, socket};
use runtime::{Attachment, AttachmentId, Conflist, Runtime};
use serde_json::{Value, json};

use super::{CONFLISTS, Steps, nothing_left};

/// The interval between two STATUS calls, and the timeout.
const POLL: Duration = Duration::from_millis(500);
const READY: Duration = Duration::from_secs(10);
/// The timeout for ADD and CHECK of a pod.
const SETUP: Duration = Duration::from_secs(300);
const HOST: [&str; 2] = ["198.51.100.1", "2001:db8:ff::1"];
const PORT: u16 = 8080;

/// The daemon. Its state at a restart is on disk.
struct Crio<'r> {
    room: &'r Room,
    runtime: Runtime,
    networks: Vec<Conflist>,
}

/// A pod: its namespace and its networks, in order.
struct Pod {
    container: Container,
    networks: Vec<(String, Attachment)>,
}

impl<'r> Crio<'r> {
    /// Starts with these pods, as after a restart or an update.
    fn start(room: &'r Room, pods: &[&Pod]) -> Result<Self> {
        let mut runtime = Runtime::new(vec![room.suite.clone()], "/var/lib/cni");
        runtime.timeout = SETUP;
        runtime.forward_stderr = false;
        let mut networks = vec![];
        for file in CONFLISTS {
            let mut list = Conflist::from_file(room.net_d.join(file)).with_context(|| file.to_owned())?;
            // It runs VERSION on every plugin, and skips a file with one that does not answer.
            list.version = room.newest_common(&list)?;
            networks.push(list);
        }
        let crio = Self { room, runtime, networks };
        crio.wait_until_ready()?;
        let valid: BTreeSet<AttachmentId> =
            pods.iter().flat_map(|pod| &pod.networks).map(|(_, attachment)| attachment.id()).collect();
        for list in &crio.networks {
            crio.runtime.gc(list, Some(&valid)).with_context(|| format!("GC of {}", list.name))?;
        }
        pods.iter().try_for_each(|pod| crio.check(pod).context("CHECK at the start"))?;
        Ok(crio)
    }

    fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY;
        let default = self.networks.first().context("no network")?;
        loop {
            match self.runtime.status(default) {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error).context("STATUS"),
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }

    fn network(&self, name: &str) -> Result<&Conflist> {
        self.networks.iter().find(|list| list.name == name).with_context(|| format!("no network {name}"))
    }

    /// RunPodSandbox: `lo`, then one network after another, each with ADD and CHECK; a failure
    /// tears down.
    fn run(&self, name: &str, networks: &[&str], port: Option<u16>) -> Result<Pod> {
        let container = self.room.container(name)?;
        ip::run_in(name, &["link", "set", "lo", "up"])?;
        let mut pod = Pod { container, networks: vec![] };
        for (nth, network) in networks.iter().enumerate() {
            let attachment = attachment(&pod.container, &format!("eth{nth}"), network, port);
            let list = self.network(network)?;
            pod.networks.push((list.name.clone(), attachment.clone()));
            let set_up = self
                .runtime
                .add(list, &attachment)
                .with_context(|| format!("ADD of {name} to {network}"))
                .and_then(|_| {
                    let checked = self.runtime.check(list, &attachment);
                    checked.with_context(|| format!("CHECK right after the ADD of {name} to {network}"))
                });
            if let Err(error) = set_up {
                self.stop(&pod).ok();
                return Err(error);
            }
        }
        Ok(pod)
    }

    /// PodSandboxStatus: CHECK, and the cached address. If CHECK fails, the pod has no address and
    /// kubelet recreates it.
    fn check(&self, pod: &Pod) -> Result<()> {
        for (network, attachment) in &pod.networks {
            let list = self.network(network)?;
            let context = || format!("CHECK of {} on {network}", attachment.container_id);
            self.runtime.check(list, attachment).with_context(context)?;
            let cached = self.runtime.cached_result(list, attachment)?;
            ensure!(
                cached.is_some_and(|result| result["ips"].is_array()),
                "{}: no address is cached",
                context()
            );
        }
        Ok(())
    }

    /// StopPodSandbox.
    fn stop(&self, pod: &Pod) -> Result<()> {
        for (network, attachment) in &pod.networks {
            self.runtime.del(self.network(network)?, attachment)?;
        }
        Ok(())
    }
}

/// The attachment as CRI-O passes it: `CNI_ARGS` in its order, and its names of capabilities.
/// Aliases are a map.
fn attachment(container: &Container, ifname: &str, network: &str, port: Option<u16>) -> Attachment {
    let mut attachment = Attachment::new(&container.id, container.path.display().to_string(), ifname);
    attachment.args = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", "default"),
        ("K8S_POD_NAME", &container.id),
        ("K8S_POD_INFRA_CONTAINER_ID", &container.id),
        ("K8S_POD_UID", "7a1c0000-0000-4000-8000-000000000001"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec();
    let mut offer = |name: &str, value: Value| drop(attachment.capabilities.insert(name.to_owned(), value));
    if let Some(port) = port {
        let mapping = json!({"hostPort": port, "containerPort": 80, "protocol": "tcp", "hostIP": ""});
        offer("portMappings", json!([mapping]));
    }
    offer("aliases", json!({network: ["shop"]}));
    offer("cgroupPath", json!("/kubepods.slice/pod"));
    attachment
}

/// One TCP exchange with the pod's port 80 from a namespace, or from the room's host.
fn answers(room: &Room, pod: &Pod, from: Option<&str>, to: &str) -> Result<()> {
    let listen = |any: &str| {
        let any = std::net::SocketAddr::new(any.parse()?, 80);
        room.inside(&pod.container.id, || Ok(std::net::TcpListener::bind(any)?))
    };
    let listener = listen(if to.contains(':') { "::" } else { "0.0.0.0" }).context("listen in the pod")?;
    let to = std::net::SocketAddr::new(to.parse()?, PORT);
    std::thread::scope(|scope| {
        let served = scope.spawn(|| socket::serve_one(&listener));
        let reply = match from {
            Some(from) => room.inside(from, || socket::tcp_exchange(to)),
            None => socket::tcp_exchange(to),
        };
        drop(served.join());
        reply.with_context(|| format!("{to} from {}", from.unwrap_or("the host")))
    })
}

fn reached(room: &Room, pod: &Pod) -> Result<()> {
    answers(room, pod, None, "127.0.0.1")?;
    HOST.iter().try_for_each(|host| answers(room, pod, Some("outside"), host))
}

pub fn steps(room: &Room, steps: &mut Steps) -> Result<()> {
    room.outside(&[])?;
    ip::run(&["route", "add", "default", "via", harness::namespace::OUTSIDE[0]])?;
    let before = room.snapshot()?;
    let mut started = None;
    steps.check("starts without pods: VERSION, STATUS until ready, GC", || {
        started = Some(Crio::start(room, &[])?);
        Ok(())
    });
    let crio = started.context("without CRI-O there is nothing to go on with")?;
    let [ports, names] = [0, 1].map(|n| crio.networks.get(n).map_or("", |list| list.name.as_str()));
    let mut pods: Vec<Pod> = vec![];
    let mut run = |steps: &mut Steps, what: &str, name: &str, networks: &[&str], port| {
        steps.check(what, || {
            pods.push(crio.run(name, networks, port)?);
            Ok(())
        });
    };
    run(steps, "RunPodSandbox: a pod with a host port", "web", &[ports], Some(PORT));
    run(steps, "a pod with an alias", "shop", &[names], None);
    run(steps, "a pod on two networks", "both", &[ports, names], None);
    let [web, shop, both] = pods.as_slice() else { bail!("without its pods there is nothing to go on with") };
    steps.check("reachable at localhost and from outside, both families", || reached(room, web));
    steps.check("PodSandboxStatus of all, ten times", || {
        (0..10).try_for_each(|_| [web, shop, both].iter().try_for_each(|pod| crio.check(pod)))
    });
    steps.check("it starts again: GC and CHECK of all pods", || {
        Crio::start(room, &[web, shop, both]).map(drop)
    });
    steps.check("the pod stays reached", || reached(room, web));
    steps.check(
        "the firewall is flushed, and it starts again: CHECK mends, and pods keep their addresses",
        || {
            ip::output("nft", &["flush", "ruleset"])?;
            Crio::start(room, &[web, shop, both]).map(drop)
        },
    );
    steps.check("the pod is reached once more", || reached(room, web));
    steps.check("a pod has died while it was away: GC at the start collects it", || {
        room.remove(&shop.container)?;
        Crio::start(room, &[web, both]).map(drop)
    });
    steps.check("StopPodSandbox of a pod that is collected already", || crio.stop(shop));
    steps.check("StopPodSandbox of the others, twice", || {
        [web, both, web, both].iter().try_for_each(|pod| crio.stop(pod))
    });
    steps.check("nothing is left", || nothing_left(room, &before));
    Ok(())
}
