//! The needs of cases. A need is probed by a small real attempt, in a room; only a failed probe
//! excuses a case from running.

use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use crate::ip;
use crate::namespace::clocks_ahead;

/// A user without files and rights (kernel.overflowuid).
pub const NOBODY: u32 = 65534;

/// A command prefix that shows the machine's `/proc`, which the room's own covers.
pub const EVERY_PROCESS: [&str; 6] = ["unshare", "--mount", "sh", "-c", "umount /proc && exec \"$@\"", "sh"];
/// The initial pid namespace (linux/proc_ns.h, PROC_PID_INIT_INO).
const INITIAL_PIDS: &str = "pid:[4026531836]";

/// The kernel's version, for what an older one does otherwise and no probe shows.
///
/// # Errors
/// `/proc` has none.
pub fn kernel_version() -> Result<(u32, u32)> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").context("read the kernel's release")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
    numbers.next().zip(numbers.next()).with_context(|| format!("{release:?} is no version"))
}

/// A feature that not every machine has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// CONFIG_BRIDGE_NETFILTER: the host's rules see packets between two ports of a bridge.
    BrNetfilter,
    /// CONFIG_BRIDGE_VLAN_FILTERING.
    BridgeVlanFiltering,
    /// The software of the DHCP servers (`make tools-dhcp`).
    DhcpServers,
    /// Debian's dnsname (`make tools-dns`), and dnsmasq.
    Dnsname,
    /// CONFIG_DUMMY.
    Dummy,
    /// etcd and etcdctl, unpacked (`make tools-etcd`), and openssl.
    Etcd,
    /// The right to look at every process of the machine.
    EveryProcess,
    /// firewalld, unpacked (`make tools-firewalld`), and what it runs on.
    Firewalld,
    /// The machine's initial pid namespace, which a container does not see.
    InitialPids,
    /// CONFIG_IO_URING, which no administrator has disabled.
    IoUring,
    /// CONFIG_NF_FLOW_TABLE_INET and CONFIG_NFT_FLOW_OFFLOAD.
    Flowtables,
    /// CONFIG_NET_SCH_FQ_CODEL.
    FqCodel,
    /// CONFIG_IPVLAN.
    Ipvlan,
    /// CONFIG_MACVLAN.
    Macvlan,
    /// The programs iptables-save and iptables-restore, and their kernel features.
    Iptables,
    /// The same for iptables-legacy, and the right to list the legacy tables.
    IptablesLegacy,
    /// Users besides root: an unprivileged user's namespace has only one user.
    OtherUsers,
    /// `overlay`, `cluster` and their agent among the suite's plugins.
    Overlay,
    /// A wall clock that may be set: the virtual machine's.
    OwnClock,
    /// A pid namespace with its own `/proc`, which a room that locks `/proc` cannot mount.
    PidNamespace,
    /// The reference's plugins, in `--reference`.
    Reference,
    /// The right to exceed `net.core.wmem_max` in one send (SO_SNDBUFFORCE): not in a user
    /// namespace.
    SendBuffer,
    /// strace, and the right to trace child processes.
    Strace,
    /// CONFIG_TUN, and the right to open /dev/net/tun.
    Tap,
    /// CONFIG_TIME_NS: time namespaces.
    TimeNamespace,
    /// `moor`, the tool, among the suite's plugins.
    Tool,
    /// CONFIG_VLAN_8021Q.
    VlanLinks,
    /// CONFIG_NET_VRF.
    Vrf,
}

impl Need {
    /// Every need.
    pub const ALL: [Need; 28] = [
        Need::BrNetfilter,
        Need::BridgeVlanFiltering,
        Need::DhcpServers,
        Need::Dnsname,
        Need::Dummy,
        Need::Etcd,
        Need::EveryProcess,
        Need::Firewalld,
        Need::InitialPids,
        Need::IoUring,
        Need::Flowtables,
        Need::FqCodel,
        Need::Ipvlan,
        Need::Macvlan,
        Need::Iptables,
        Need::IptablesLegacy,
        Need::OtherUsers,
        Need::Overlay,
        Need::OwnClock,
        Need::PidNamespace,
        Need::Reference,
        Need::SendBuffer,
        Need::Strace,
        Need::Tap,
        Need::TimeNamespace,
        Need::Tool,
        Need::VlanLinks,
        Need::Vrf,
    ];

    /// Its name, in reports and in the hidden sub-command.
    pub fn name(self) -> &'static str {
        match self {
            Need::BrNetfilter => "br_netfilter",
            Need::BridgeVlanFiltering => "bridge VLAN filtering",
            Need::DhcpServers => "DHCP servers",
            Need::Dnsname => "dnsname",
            Need::Dummy => "dummy links",
            Need::Etcd => "etcd",
            Need::EveryProcess => "every process",
            Need::Firewalld => "firewalld",
            Need::InitialPids => "initial pid namespace",
            Need::IoUring => "io_uring",
            Need::Flowtables => "flowtables",
            Need::FqCodel => "fq_codel",
            Need::Ipvlan => "ipvlan",
            Need::Macvlan => "macvlan",
            Need::Iptables => "iptables",
            Need::IptablesLegacy => "iptables-legacy",
            Need::OtherUsers => "other users",
            Need::Overlay => "overlay, cluster, overlay-agent",
            Need::OwnClock => "wall clock to set",
            Need::PidNamespace => "pid namespace",
            Need::Reference => "reference plugins",
            Need::SendBuffer => "large send buffers",
            Need::Strace => "strace",
            Need::Tap => "TAP devices",
            Need::TimeNamespace => "time namespace",
            Need::Tool => "moor, the tool",
            Need::VlanLinks => "VLAN links",
            Need::Vrf => "VRF devices",
        }
    }

    /// Whether it depends on the kernel: then the virtual machine may meet it.
    pub fn of_kernel(self) -> bool {
        matches!(
            self,
            Need::BridgeVlanFiltering
                | Need::Dummy
                | Need::EveryProcess
                | Need::InitialPids
                | Need::IoUring
                | Need::Flowtables
                | Need::FqCodel
                | Need::Ipvlan
                | Need::Macvlan
                | Need::OwnClock
                | Need::VlanLinks
                | Need::Vrf
        )
    }

    /// Whether only root of the machine has it, and no user namespace.
    pub fn is_the_machines(self) -> bool {
        matches!(
            self,
            Need::EveryProcess
                | Need::InitialPids
                | Need::OwnClock
                | Need::SendBuffer
                | Need::IptablesLegacy
                | Need::PidNamespace
        )
    }

    /// Probes it, in a room. The error names the missing feature.
    pub fn probe(self, suite: &Path, reference: &Path) -> Result<()> {
        match self {
            Need::BrNetfilter => {
                let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
                std::fs::read(path).map(drop).context("br_netfilter is not loaded")
            }
            Need::BridgeVlanFiltering => {
                ip::run(&["link", "add", "probe0", "type", "bridge", "vlan_filtering", "1"])
                    .context("this kernel lacks CONFIG_BRIDGE_VLAN_FILTERING")
            }
            Need::VlanLinks => ip::script(
                None,
                "link add probe0 type bridge
                 link add link probe0 name probe0.7 type vlan id 7",
            )
            .context("this kernel lacks CONFIG_VLAN_8021Q"),
            Need::Vrf => ip::run(&["link", "add", "probe0", "type", "vrf", "table", "7"])
                .context("this kernel lacks CONFIG_NET_VRF"),
            Need::DhcpServers => {
                ip::output("dnsmasq", &["--version"]).context("dnsmasq is missing")?;
                for program in ["kea-dhcp4", "kea-dhcp6", "dhcpd"] {
                    crate::cache::unpacked("dhcp", &format!("usr/sbin/{program}"))?;
                }
                Ok(())
            }
            Need::Dnsname => {
                crate::cache::unpacked("dns", "usr/lib/cni/dnsname")?;
                ip::output("dnsmasq", &["--version"]).map(drop).context("dnsmasq is missing")
            }
            Need::Dummy => {
                ip::run(&["link", "add", "probe0", "type", "dummy"]).context("this kernel lacks CONFIG_DUMMY")
            }
            Need::Etcd => {
                for program in ["etcd", "etcdctl"] {
                    crate::cache::unpacked("etcd", &format!("usr/bin/{program}"))?;
                }
                ip::output("openssl", &["version"]).map(drop).context("openssl is missing")
            }
            Need::EveryProcess => {
                let words = [&EVERY_PROCESS[1..], &["readlink", "/proc/1/ns/pid"]].concat();
                let shown =
                    ip::output(EVERY_PROCESS[0], &words).context("the machine's /proc is not shown")?;
                ensure!(shown.trim() == INITIAL_PIDS, "this machine is in a pid namespace");
                Ok(())
            }
            Need::Firewalld => {
                crate::cache::unpacked("firewalld", "usr/sbin/firewalld")?;
                ip::output("dbus-daemon", &["--version"]).context("dbus-daemon is missing")?;
                ip::output("sh", &["-c", "command -v dbus-send"]).context("dbus-send is missing")?;
                let modules = ip::output("/usr/bin/python3", &["-c", "import dbus, gi"]);
                modules.map(drop).context("python3-dbus or python3-gi is missing")
            }
            Need::InitialPids => crate::machine::whole(),
            Need::IoUring => {
                let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
                let deferred = sys::BackgroundClose::of(socket.as_fd()).is_deferred();
                ensure!(deferred, "the kernel lacks io_uring, or it is disabled");
                Ok(())
            }
            Need::Flowtables => {
                let rules = "add table inet probe; add flowtable inet probe f { hook ingress priority 0; }; \
                             add chain inet probe c; add rule inet probe c flow add @f";
                ip::output("nft", &[rules]).map(drop).context("this kernel lacks CONFIG_NF_FLOW_TABLE_INET")
            }
            Need::FqCodel => {
                ip::run(&["link", "add", "probe0", "type", "veth", "peer", "name", "probe1"])?;
                let add = ["qdisc", "add", "dev", "probe0", "root", "fq_codel"];
                ip::output("tc", &add).map(drop).context("this kernel lacks CONFIG_NET_SCH_FQ_CODEL")
            }
            Need::Ipvlan => on_a_parent("ipvlan").context("this kernel lacks CONFIG_IPVLAN"),
            Need::Macvlan => on_a_parent("macvlan").context("this kernel lacks CONFIG_MACVLAN"),
            Need::Iptables => nat_table("iptables", "ip6tables"),
            Need::IptablesLegacy => {
                nat_table("iptables-legacy", "ip6tables-legacy")?;
                // Without this file the legacy tables cannot be detected.
                let names = std::fs::read("/proc/net/ip_tables_names");
                names.map(drop).context("a user namespace does not list the legacy tables")
            }
            Need::OtherUsers => {
                let status = Command::new("/bin/true").uid(NOBODY).gid(NOBODY).status();
                let status = status.context("no process of another user can be started")?;
                ensure!(status.success(), "as another user: {status}");
                Ok(())
            }
            Need::Overlay => {
                for program in ["overlay", "cluster", "overlay-agent"] {
                    ensure!(suite.join(program).is_file(), "no {program} in {}", suite.display());
                }
                Ok(())
            }
            Need::OwnClock => crate::wall_clock::ensure_settable(),
            Need::PidNamespace => ip::output("unshare", &["--pid", "--fork", "--mount-proc", "true"])
                .map(drop)
                .context("no pid namespace with its own /proc"),
            Need::Reference => {
                for plugin in ["bridge", "host-local", "loopback"] {
                    let path = reference.join(plugin);
                    ensure!(path.is_file(), "no {} (Debian: containernetworking-plugins)", path.display());
                }
                Ok(())
            }
            Need::SendBuffer => {
                let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
                setsockopt(&socket, sockopt::SndBufForce, &(1 << 24))
                    .context("a user namespace has no large send buffers")
            }
            Need::Strace => {
                let status = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
                let status = status.context("no strace on the PATH")?;
                ensure!(status.success(), "strace may not trace here: {status}");
                Ok(())
            }
            Need::Tap => ip::run(&["tuntap", "add", "mode", "tap", "name", "probe0"])
                .context("no TAP devices (CONFIG_TUN), or /dev/net/tun may not be opened"),
            Need::Tool => {
                ensure!(suite.join("moor").is_file(), "no moor in {}", suite.display());
                Ok(())
            }
            Need::TimeNamespace => {
                let words = clocks_ahead(1);
                let words: Vec<&str> = words.iter().map(String::as_str).chain(["true"]).collect();
                let (program, args) = words.split_first().context("a program has a name")?;
                ip::output(program, args).map(drop).context("no time namespaces (CONFIG_TIME_NS)")
            }
        }
    }
}

/// Creates a link of that kind on another.
fn on_a_parent(kind: &str) -> Result<()> {
    ip::run(&["link", "add", "probe0", "type", "veth", "peer", "name", "probe1"])?;
    ip::run(&["link", "add", "link", "probe0", "name", "probe2", "type", kind])
}

/// Creates a chain in each family's table with the programs that cases use.
fn nat_table(v4: &str, v6: &str) -> Result<()> {
    for program in [v4, v6] {
        ip::output(program, &["-t", "nat", "-N", "PROBE"])
            .with_context(|| format!("{program} does not work"))?;
        ip::output(&format!("{program}-save"), &["-t", "nat"])?;
    }
    Ok(())
}
