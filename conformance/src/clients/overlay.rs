//! Engines on two hosts of a cluster, on one overlay network (O-094): podman on both, containerd on
//! the second by `ctr` and by its Container Runtime Interface, and cnitool's calls on the first.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use engines::containerd::{self, Daemon, IMAGE, Pod};
use engines::cri::{self, Message};
use engines::machine::{self, PLUGINS, is_of_plugins, output, rootfs, suite};
use engines::podman::{self, podman};
use harness::cluster::Cluster;
use harness::cluster::host::{Guest, Host};
use harness::diff::shown;
use harness::dns_client::{Question, kind};
use harness::leftover;
use harness::need::Need;
use harness::room::{Room, SCRATCH};
use harness::runner::Grounds;
use nix::mount::{MsFlags, mount};
use runtime::{Attachment, Conflist, Runtime, cnitool};

use super::{Steps, reads};

const CONFLIST: &str = "89-overlay.conflist";
const NETWORK: &str = "front";
/// The network's gateway, where each host's responder answers.
const GATEWAY: &str = "10.109.0.1";
const DIR: &str = "/etc/cni/net.d";

/// Directories of the engines that hosts must not share, beside `/run`.
const OWN: [&str; 4] = ["/tmp", "/dev/shm", "graph", "runroot"];

const POD: Pod<'static> = Pod { name: "pod", host_port: None, annotations: &[], on_host: false };

/// How long another host may take to follow.
const SOON: Duration = Duration::from_secs(2);
/// How long an engine may take.
const AMPLE: Duration = Duration::from_secs(10);

/// A container on the network, whose web server serves the page.
struct Peer {
    /// Its namespace, by name.
    ns: String,
    /// Its addresses: IPv4, IPv6.
    ips: [String; 2],
}

/// The programs that it needs beside the suite.
pub fn ready(grounds: &Grounds) -> Result<()> {
    machine::packages()?;
    super::privileged()?;
    [Need::Etcd, Need::Overlay].iter().try_for_each(|need| need.probe(&grounds.suite, &grounds.reference))
}

/// The room, without hosts.
pub fn furnish(room: &Room) -> Result<()> {
    machine::furnish(room, &[CONFLIST])
}

pub fn steps(room: &Room, steps: &mut Steps) -> Result<()> {
    // The suite's directory may be covered.
    let room = &Room::new(&suite(), &room.reference, &room.net_d);
    let cluster = Cluster::new(room, 1, 2)?;
    let [one, two] = &cluster.hosts[..] else { bail!("two hosts were asked for") };
    podman::configure(NETWORK)?;
    containerd::configure()?;
    let before = [prepare(room, one)?, prepare(room, two)?];

    let mut peers = vec![];
    for (host, name) in [(one, "web"), (two, "cache")] {
        steps.check(&format!("podman run on {}: a container with an alias", host.name), || {
            peers.push(host.inside(|| run(host, name))?);
            Ok(())
        });
    }
    let [web, cache] = &peers[..] else { bail!("without its containers there is nothing to go on with") };
    steps.check("each reaches the other, both families", || both_ways(room, web, cache));
    steps.check("each finds the other by name", || {
        finds(&cluster, one, ["web", "cache"], cache)?;
        finds(&cluster, two, ["cache", "web"], web)
    });
    steps.check("the alias resolves to both, on each host", || {
        [web, cache].iter().try_for_each(|from| resolves(&cluster, &from.ns, "shop", &[web, cache]))
    });

    let mut daemon = two.inside(Daemon::start)?;
    two.inside(containerd::import)?;
    steps.check("ctr run --cni on h2: it and the one on h1 reach each other, by name too", || {
        by_ctr(&cluster, two, web)
    });
    steps.check("its record in etcd is gone with it", || {
        cluster.until(SOON, || published(&cluster, 2)).map(drop)
    });
    let mut pod = None;
    steps.check("CRI RunPodSandbox on h2: a pod", || {
        pod = Some(two.inside(|| pod_on(two))?);
        Ok(())
    });
    let (pod, sandbox) = pod.context("no pod, so the remaining steps cannot run")?;
    steps.check("it and the one on h1 reach each other, both families", || both_ways(room, web, &pod));
    steps.check("each finds the other by name", || {
        finds(&cluster, one, ["web", "pod"], &pod)?;
        resolves(&cluster, &pod.ns, "web", &[web])
    });

    steps.0.line("not run: cnitool: Debian has no package of it; the runtime library makes its calls");
    let mut by_hand = None;
    steps.check("cnitool's ADD and CHECK on h1", || {
        by_hand = Some(Tool::add(room, one)?);
        Ok(())
    });
    let by_hand = by_hand.context("no attachment, so the remaining steps cannot run")?;
    steps.check("it reaches those on h2, and finds them by name", || {
        for (name, peer) in [("cache", cache), ("pod", &pod)] {
            peer.ips.iter().try_for_each(|ip| reads(room, Some(&by_hand.guest.ns), ip, 80))?;
            resolves(&cluster, &by_hand.guest.ns, name, &[peer])?;
        }
        Ok(())
    });

    steps.check("cnitool's DEL", || by_hand.del(one));
    steps.check("CRI StopPodSandbox", || {
        two.inside(|| cri::call("StopPodSandbox", &Message::default().text(1, &sandbox)).map(drop))
    });
    steps.check("podman rm -f on both", || {
        one.inside(|| podman(&["rm", "-f", "-t", "0", "web"]))?;
        two.inside(|| podman(&["rm", "-f", "-t", "0", "cache"])).map(drop)
    });
    for (host, before) in [one, two].into_iter().zip(&before) {
        steps.check(&format!("nothing is left on {}: links, rules, leases, records", host.name), || {
            cluster.until(SOON, || host.inside(|| nothing_left(room, before))).map(drop)
        });
    }
    steps.check("nothing is left of them in etcd", || {
        cluster.until(SOON, || published(&cluster, 0)).map(drop)
    });
    daemon.kill()
}

/// Gives a host the network and directories of its own; returns what is there before any container.
fn prepare(room: &Room, host: &Host<'_>) -> Result<Vec<String>> {
    let conflist = fs::read_to_string(Path::new(DIR).join(CONFLIST)).context(CONFLIST)?;
    let conflist = conflist.replacen("\"overlay\"", &format!("{NETWORK:?}"), 1);
    host.inside(|| {
        for dir in OWN.map(|dir| Path::new(SCRATCH).join(dir)) {
            fs::create_dir_all(&dir)?;
            mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), None::<&str>)
                .with_context(|| format!("mount a tmpfs on {}", dir.display()))?;
        }
        fs::create_dir_all(DIR)?;
        fs::write(Path::new(DIR).join(CONFLIST), conflist).context("write the network")?;
        room.snapshot()
    })
}

/// Runs a web server with podman, on this host.
fn run(host: &Host<'_>, name: &str) -> Result<Peer> {
    let root = rootfs().display().to_string();
    let run = ["run", "-d", "--name", name, "--network", NETWORK, "--network-alias", "shop"];
    let serve = ["--rootfs", &root, "/bin/httpd", "-f", "-p", "80", "-h", "/www"];
    podman(&[&run[..], &serve].concat())?;
    let of_network = |key: &str| {
        podman(&["inspect", "-f", &format!("{{{{.NetworkSettings.Networks.{NETWORK}.{key}}}}}"), name])
    };
    let ns = super::front::namespace(name)?;
    let ips = [of_network("IPAddress")?, of_network("GlobalIPv6Address")?];
    Ok(Peer { ns: format!("{}.d/{ns}", host.name), ips })
}

fn both_ways(room: &Room, a: &Peer, b: &Peer) -> Result<()> {
    for (from, to) in [(a, b), (b, a)] {
        to.ips.iter().try_for_each(|ip| reads(room, Some(&from.ns), ip, 80))?;
    }
    Ok(())
}

/// podman's container, the first of these, finds the other by its name.
fn finds(cluster: &Cluster<'_>, host: &Host<'_>, [from, name]: [&str; 2], peer: &Peer) -> Result<()> {
    let ask = || {
        let printed = host.inside(|| podman(&["exec", from, "/bin/nslookup", "-type=a", name]))?;
        ensure!(is_answer(&printed, &peer.ips[0]), "nslookup printed {printed:?}, not {}", peer.ips[0]);
        Ok(())
    };
    cluster.until(SOON, ask).map(drop)
}

fn is_answer(printed: &str, address: &str) -> bool {
    printed.lines().any(|line| line.strip_prefix("Address: ") == Some(address))
}

/// The responder of a namespace's host has exactly these addresses of a name.
fn resolves(cluster: &Cluster<'_>, ns: &str, name: &str, peers: &[&Peer]) -> Result<()> {
    let server = SocketAddr::new(GATEWAY.parse()?, 53);
    let expected: BTreeSet<_> = peers.iter().map(|peer| peer.ips[0].as_str()).collect();
    let ask = || {
        let reply = cluster.room.inside(ns, || Question::new(name, kind::A).udp(server))?;
        let found: BTreeSet<_> = reply.texts().into_iter().collect();
        ensure!(found == expected, "{name} resolves to {found:?} in {ns}, not {expected:?}");
        Ok(())
    };
    cluster.until(SOON, ask).map(drop)
}

/// That many containers are published.
fn published(cluster: &Cluster<'_>, count: usize) -> Result<()> {
    let keys = cluster.etcd.keys("ep/")?;
    ensure!(keys.len() == count, "etcd has {keys:?}");
    Ok(())
}

/// `ctr` removes a container from its network only if it waits for the container's end.
fn by_ctr(cluster: &Cluster<'_>, host: &Host<'_>, web: &Peer) -> Result<()> {
    let runtime = containerd::runtime();
    let run = ["run", "--rm", "--cni", "--snapshotter", "native", "--runc-binary", &runtime, IMAGE, "c1"];
    let serve = "trap 'exit 0' TERM; busybox httpd -p 80 -h /www; while :; do busybox sleep 0.1; done";
    let run = [&run[..], &["/bin/busybox", "sh", "-c", serve]].concat();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| host.inside(|| output("ctr", &run)));
        let looked = look_from_ctr(cluster, host, web);
        let killed = host.inside(|| output("ctr", &["tasks", "kill", "c1"]));
        running.join().map_err(|_| anyhow!("the thread of ctr panicked"))?.context("ctr run")?;
        looked.and(killed).map(drop)
    })
}

fn look_from_ctr(cluster: &Cluster<'_>, host: &Host<'_>, web: &Peer) -> Result<()> {
    let exec = |name: &str, words: &[&str]| {
        let exec = ["tasks", "exec", "--exec-id", name, "c1", "/bin/busybox"];
        host.inside(|| output("ctr", &[&exec[..], words].concat()))
    };
    let (mut ips, mut tries) = (vec![], 0);
    cluster.until(AMPLE, || {
        tries += 1;
        let text = exec(&format!("addr{tries}"), &["ip", "addr", "show", "eth0", "scope", "global"])?;
        let words = text.split_whitespace().filter_map(|word| word.split_once('/'));
        ips = words.filter_map(|(ip, _)| ip.parse::<IpAddr>().ok()).collect();
        ensure!(ips.len() == 2, "the addresses are not two: {text:?}");
        Ok(())
    })?;
    ips.iter().try_for_each(|ip| reads(cluster.room, Some(&web.ns), &ip.to_string(), 80))?;
    for (name, ip) in [("page4", web.ips[0].clone()), ("page6", format!("[{}]", web.ips[1]))] {
        let page = exec(name, &["wget", "-q", "-O", "-", &format!("http://{ip}/")])?;
        ensure!(page == machine::PAGE.trim_end(), "wget printed {page:?}");
    }
    let printed = exec("name", &["nslookup", "-type=a", "web", GATEWAY])?;
    ensure!(is_answer(&printed, &web.ips[0]), "nslookup printed {printed:?}, not {}", web.ips[0]);
    Ok(())
}

/// Runs a pod, on this host; returns it with its id.
fn pod_on(host: &Host<'_>) -> Result<(Peer, String)> {
    let id = POD.run()?;
    let status = cri::call("PodSandboxStatus", &Message::default().text(1, &id))?;
    let network = cri::field(&status, 1).and_then(|status| cri::field(status, 5)).context("no network")?;
    let text = |bytes: Option<&[u8]>| -> Result<String> {
        Ok(std::str::from_utf8(bytes.context("an address is missing")?)?.to_owned())
    };
    let more = cri::field(network, 2).and_then(|more| cri::field(more, 1));
    let ips = [text(cri::field(network, 1))?, text(more)?];
    let names = fs::read_dir("/run/netns")?.flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let ns = names.find(|name| name.starts_with("cni-")).context("the pod has no namespace")?;
    Ok((Peer { ns: format!("{}.d/{ns}", host.name), ips }, id))
}

/// An attachment as cnitool makes it: by an id that is derived from the namespace's path.
struct Tool {
    guest: Guest,
    runtime: Runtime,
    list: Conflist,
    attachment: Attachment,
}

impl Tool {
    fn add(room: &Room, host: &Host<'_>) -> Result<Self> {
        let guest = host.container("testing")?;
        let path = format!("/run/netns/{}", guest.id);
        let attachment =
            Attachment::new(cnitool::container_id(Path::new(&path)), path, cnitool::DEFAULT_IFNAME);
        let mut runtime = Runtime::new(vec![PLUGINS.into()], "/var/lib/cni");
        runtime.timeout = AMPLE;
        runtime.forward_stderr = false;
        let list = host.inside(|| {
            let mut list = Conflist::load(DIR, NETWORK)?;
            list.version = room.newest_common(&list)?;
            runtime.add(&list, &attachment).context("ADD")?;
            runtime.check(&list, &attachment).context("CHECK")?;
            Ok(list)
        })?;
        Ok(Self { guest, runtime, list, attachment })
    }

    fn del(&self, host: &Host<'_>) -> Result<()> {
        host.inside(|| Ok(self.runtime.del(&self.list, &self.attachment)?))?;
        host.remove(&self.guest)
    }
}

/// No bridge and VXLAN device stays behind the last container of this host, nor anything of one.
fn nothing_left(room: &Room, before: &[String]) -> Result<()> {
    let mut left = leftover::of_attachments(&room.changes_since(before)?, &[], &[]);
    left.retain(|line| is_of_plugins(line));
    ensure!(left.is_empty(), "left behind: {}", shown(&left));
    Ok(())
}
