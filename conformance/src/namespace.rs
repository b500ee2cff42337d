//! Namespaces in the room: containers, and an "outside".

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::Room;
use crate::{ip, socket};

/// A container: a namespace with a name, which is its id too.
#[derive(Clone, Debug)]
pub struct Container {
    /// `CNI_CONTAINERID`, and the namespace's name for `ip -n`.
    pub id: String,
    /// `CNI_NETNS`.
    pub path: PathBuf,
}

/// The IPv4 and IPv6 address of the host outside.
pub const OUTSIDE: [&str; 2] = ["198.51.100.2", "2001:db8:ff::2"];

/// How long the stage may take to be set.
const STAGE_PATIENCE: Duration = Duration::from_secs(20);

/// Moves this thread into a new network namespace. Those that have ended count until the kernel has taken them down, so a
/// room where many come and go waits for a place (ENOSPC, user_namespaces(7)).
fn new_namespace() -> Result<()> {
    let deadline = Instant::now() + STAGE_PATIENCE;
    loop {
        match unshare(CloneFlags::CLONE_NEWNET) {
            Err(Errno::ENOSPC) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            done => return done.context("make a network namespace"),
        }
    }
}

impl Room {
    /// Makes a container: an empty namespace, bound at /run/netns/<id>.
    pub fn container(&self, id: &str) -> Result<Container> {
        let path = PathBuf::from("/run/netns").join(id);
        File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let made = || -> Result<()> {
            new_namespace()?;
            let own = Some("/proc/thread-self/ns/net");
            mount(own, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("bind it")?;
            Ok(())
        };
        in_thread(made)??;
        Ok(Container { id: id.to_owned(), path })
    }

    /// Takes a container's namespace away, as a runtime does: the file goes too.
    pub fn remove(&self, container: &Container) -> Result<()> {
        umount2(&container.path, MntFlags::MNT_DETACH).context("unbind the namespace")?;
        fs::remove_file(&container.path).context("remove its file")
    }

    /// Runs a closure in the namespace of that name, on a thread that ends there.
    pub fn inside<R: Send>(&self, ns: &str, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        inside(ns, work)
    }

    /// Makes the host "outside": joined to the room's host by a veth, with routes back to the containers' networks.
    pub fn outside(&self, container_networks: &[&str]) -> Result<Container> {
        let outside = self.container("outside")?;
        // A veth whose ends have the same index in their namespaces hears of its carrier up to a second late
        // (linkwatch_urgent_event, net/core/link_watch.c).
        let pair = ["link", "add", "wan0", "index", "1000", "type", "veth", "peer", "name", "eth0"];
        ip::run(&[&pair[..], &["netns", "outside"]].concat())?;
        allow_ipv6(&["wan0"])?;
        ip::script(
            None,
            "addr add 198.51.100.1/24 dev wan0
             -6 addr add 2001:db8:ff::1/64 dev wan0 nodad
             link set wan0 up",
        )?;
        ip::script(
            Some("outside"),
            "link set lo up
             addr add 198.51.100.2/24 dev eth0
             -6 addr add 2001:db8:ff::2/64 dev eth0 nodad
             link set eth0 up",
        )?;
        for network in container_networks {
            let via = if network.contains(':') { "2001:db8:ff::1" } else { "198.51.100.1" };
            ip::run_in("outside", &["route", "add", network, "via", via])?;
        }
        // The stage is set when both can be heard: until its link is settled the kernel does not answer for it, and on a
        // busy machine that takes it seconds.
        let deadline = Instant::now() + STAGE_PATIENCE;
        for address in OUTSIDE {
            socket::reach_by(address.parse()?, deadline).context("set up the outside")?;
        }
        for address in ["198.51.100.1", "2001:db8:ff::1"] {
            let reach = || socket::reach_by(address.parse()?, deadline);
            self.inside("outside", reach).context("set up the outside")?;
        }
        Ok(outside)
    }

    /// Reaches an address from a namespace by real packets.
    pub fn reach(&self, from: &str, to: &str) -> Result<()> {
        let address: IpAddr = to.parse().with_context(|| format!("{to} is no address"))?;
        self.inside(from, || socket::reach(address, socket::PATIENCE))
            .map(drop)
            .with_context(|| format!("{from} cannot reach {to}"))
    }

    /// Reads a sysctl of the room's host, path below /proc/sys.
    pub fn host_sysctl(&self, path: &str) -> Result<String> {
        let text = fs::read_to_string(format!("/proc/sys/{path}")).with_context(|| format!("read {path}"))?;
        Ok(text.trim().to_owned())
    }

    /// Reads a sysctl of a namespace, path below /proc/sys.
    pub fn sysctl(&self, ns: &str, path: &str) -> Result<String> {
        self.inside(ns, || {
            let text =
                fs::read_to_string(format!("/proc/sys/{path}")).with_context(|| format!("read {path}"))?;
            Ok(text.trim().to_owned())
        })
    }
}

/// Turns IPv6 on for links of the room's host: for new links it may be off.
pub fn allow_ipv6(links: &[&str]) -> Result<()> {
    links.iter().try_for_each(|link| {
        fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "0")
            .with_context(|| format!("give {link} IPv6"))
    })
}

/// The containers that there are, by name; the outside is none.
pub fn containers() -> Vec<String> {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "outside").collect()
}

/// See [`Room::inside`].
pub fn inside<R: Send>(ns: &str, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    let file = File::open(format!("/run/netns/{ns}")).with_context(|| format!("open namespace {ns}"))?;
    in_thread(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter namespace {ns}"))?;
        work()
    })?
}

/// Runs a closure in a new namespace, which lasts as long as something that the closure gives back holds it.
pub fn in_new<R: Send>(work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    in_thread(|| {
        new_namespace()?;
        work()
    })?
}

/// Runs a closure on a thread of its own; its namespace ends with it.
fn in_thread<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R> {
    std::thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| anyhow!("the namespace's thread panicked"))
}
