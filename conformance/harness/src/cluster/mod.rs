//! Many hosts in one room: network and mount namespaces as hosts, joined by an underlay bridge in a
//! namespace of its own, and the members of a real etcd, each in a namespace on the same bridge.
//!
//! Everything ends with the room, which is a PID namespace.

pub mod access;
pub mod etcd;
pub mod host;
pub mod pings;
pub mod stranger;
pub mod traffic;
pub mod vxlan;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};

use crate::ip;
use crate::namespace::Container;
use crate::patience::on_this_machine;
use crate::room::Room;
use etcd::{Etcd, Options};
use host::Host;

/// The namespace of the bridge that joins hosts and members.
pub const UNDERLAY: &str = "underlay";
/// That bridge.
const BRIDGE: &str = "wire";

/// Hosts that share an etcd.
pub struct Cluster<'r> {
    /// The room that they are in.
    pub room: &'r Room,
    /// The members of etcd.
    pub etcd: Etcd,
    /// The hosts: `h1`, `h2` and so on.
    pub hosts: Vec<Host<'r>>,
}

impl<'r> Cluster<'r> {
    /// Makes that many members of etcd and that many hosts, which have a configuration of the
    /// cluster and nothing else. No agent runs.
    pub fn new(room: &'r Room, members: u8, hosts: u8) -> Result<Self> {
        Self::with(room, members, hosts, &Options::default())
    }

    /// The same with an etcd that is configured otherwise. Hosts have no credentials yet.
    pub fn with(room: &'r Room, members: u8, hosts: u8, options: &Options) -> Result<Self> {
        Container::new(UNDERLAY)?;
        ip::script(
            Some(UNDERLAY),
            &format!(
                "link set lo up
                 link add {BRIDGE} type bridge mcast_snooping 0
                 link set {BRIDGE} up"
            ),
        )?;
        let rules = "add table bridge cuts; \
                     add set bridge cuts pairs { typeof iifname . oifname; }; \
                     add set bridge cuts lossy { type ifname; }; \
                     add chain bridge cuts f { type filter hook forward priority 0; }; \
                     add rule bridge cuts f iifname . oifname @pairs drop; \
                     add rule bridge cuts f iifname @lossy numgen random mod 100 < 20 drop";
        in_underlay(rules).context("make the rules that cut hosts off")?;
        let etcd = Etcd::start(room, members, options)?;
        let hosts = (1..=hosts).map(|number| Host::new(room, number)).collect::<Result<Vec<_>>>()?;
        let cluster = Self { room, etcd, hosts };
        for host in &cluster.hosts {
            host.configure(&cluster.etcd.endpoints(), &serde_json::json!({}))?;
        }
        Ok(cluster)
    }

    /// Stops all packets of a host or member on the underlay; its link stays up.
    pub fn cut(&self, name: &str) -> Result<()> {
        ip::output("bridge", &["-n", UNDERLAY, "link", "set", "dev", name, "state", "0"]).map(drop)
    }

    /// Lets them pass again.
    pub fn heal(&self, name: &str) -> Result<()> {
        ip::output("bridge", &["-n", UNDERLAY, "link", "set", "dev", name, "state", "3"]).map(drop)
    }

    /// Stops all packets between a host and the members of etcd; hosts still reach each other.
    pub fn cut_from_etcd(&self, host: &str) -> Result<()> {
        self.pairs("add", host)
    }

    /// Ends [`Cluster::cut_from_etcd`].
    pub fn heal_to_etcd(&self, host: &str) -> Result<()> {
        self.pairs("delete", host)
    }

    /// Stops all packets between a member of etcd and the others; hosts still reach it.
    pub fn isolate(&self, member: &str) -> Result<()> {
        self.pairs("add", member)
    }

    /// Ends [`Cluster::isolate`].
    pub fn reunite(&self, member: &str) -> Result<()> {
        self.pairs("delete", member)
    }

    fn pairs(&self, verb: &str, name: &str) -> Result<()> {
        let members = self.etcd.members.iter().filter(|member| member.name != name);
        let pairs: Vec<_> =
            members.map(|member| format!("{0} . {1}, {1} . {0}", member.name, name)).collect();
        in_underlay(&format!("{verb} element bridge cuts pairs {{ {} }}", pairs.join(", ")))
    }

    /// Loses a fifth of what a host sends on the underlay, or no more of it.
    pub fn lose(&self, host: &str, on: bool) -> Result<()> {
        let verb = if on { "add" } else { "delete" };
        in_underlay(&format!("{verb} element bridge cuts lossy {{ {host} }}"))
    }

    /// Waits until a condition holds. `limit` is for an idle machine. The error is the condition's
    /// last one.
    pub fn until(&self, limit: Duration, mut holds: impl FnMut() -> Result<()>) -> Result<Duration> {
        let (began, limit) = (Instant::now(), on_this_machine(limit));
        loop {
            match holds() {
                Ok(()) => return Ok(began.elapsed()),
                Err(error) if began.elapsed() > limit => {
                    return Err(error.context(format!("not within {} ms", limit.as_millis())));
                }
                // The condition starts processes: more often would only be load.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

/// Runs `nft` in the namespace of the underlay.
fn in_underlay(rules: &str) -> Result<()> {
    crate::namespace::inside(UNDERLAY, || ip::output("nft", &[rules]).map(drop))
}

/// Makes a namespace with an `eth0` on the underlay; the bridge's port has the namespace's name.
fn on_the_wire(name: &str, number: u8) -> Result<Container> {
    let container = Container::new(name)?;
    ip::run_in(UNDERLAY, &["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name])?;
    ip::script(Some(UNDERLAY), &format!("link set {name} master {BRIDGE} up"))?;
    ip::script(
        Some(name),
        &format!(
            "link set lo up
             addr add {}/24 dev eth0
             -6 addr add 2001:db8:2::{number:x}/64 dev eth0 nodad
             link set eth0 up",
            address(number)
        ),
    )?;
    Ok(container)
}

/// The address of a host or member on the underlay.
fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

/// A directory whose mounts appear in its copies in other mount namespaces.
fn shared(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    let none = None::<&str>;
    mount(Some(dir), dir, none, MsFlags::MS_BIND, none).context("bind a directory of namespaces")?;
    mount(none, dir, none, MsFlags::MS_SHARED, none).context("share a directory of namespaces")
}

/// Requires that a program's name has no process.
pub fn ensure_no_process(name: &str) -> Result<()> {
    let found = host::processes()?.into_iter().filter(|pid| host::command(*pid).contains(name)).count();
    ensure!(found == 0, "{found} processes of {name} run");
    Ok(())
}
