//! A host of a cluster: a network namespace and a mount namespace, with directories of its own.

use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{address, on_the_wire, shared};
use crate::config::with;
use crate::ip;
use crate::namespace::Container;
use crate::patience::on_this_machine;
use crate::room::call::{Answer, Call};
use crate::room::enter::STATE_DIRS;
use crate::room::{Room, SCRATCH};

const PATIENCE: Duration = Duration::from_secs(5);
const NONE: Option<&str> = None;

/// A host.
pub struct Host<'r> {
    room: &'r Room,
    /// Its name: that of its namespace, and of its port on the underlay.
    pub name: String,
    /// Its address on the underlay.
    pub address: IpAddr,
    network: File,
    mounts: File,
}

/// A container on a host.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its id, unique on its host.
    pub id: String,
    /// Its namespace, for `ip -n`: `<host>.d/<id>`.
    pub ns: String,
}

impl<'r> Host<'r> {
    pub(super) fn new(room: &'r Room, number: u8) -> Result<Self> {
        let name = format!("h{number}");
        let own = on_the_wire(&name, number + 10)?;
        let namespaces = PathBuf::from(format!("/run/netns/{name}.d"));
        shared(&namespaces)?;
        let mounts = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("make the host's mount namespace")?;
            // In a user namespace a mount is only copied with what is mounted below it.
            let all = MsFlags::MS_BIND | MsFlags::MS_REC;
            let kept = Path::new(SCRATCH);
            let run = kept.join(format!("{name}.run"));
            fs::create_dir_all(&run)?;
            tmpfs(&run)?;
            for (dir, from) in [("room", kept), ("netns", &namespaces)] {
                let to = run.join(dir);
                fs::create_dir_all(&to)?;
                mount(Some(from), &to, NONE, all, NONE).with_context(|| format!("bind {dir}"))?;
            }
            mount(Some(&run), "/run", NONE, all, NONE).context("cover /run")?;
            STATE_DIRS.iter().try_for_each(|dir| tmpfs(Path::new(dir)))?;
            File::open("/proc/thread-self/ns/mnt").context("open the mount namespace")
        })?;
        let network = File::open(&own.path)?;
        Ok(Self { room, name, address: address(number + 10).into(), network, mounts })
    }

    /// Runs a closure on this host, on a thread that ends there.
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        on_a_thread(|| {
            // A thread that shares its root with others cannot change mount namespaces.
            unshare(CloneFlags::CLONE_FS).context("leave the room's root")?;
            setns(&self.mounts, CloneFlags::CLONE_NEWNS).context("enter the host's mounts")?;
            setns(&self.network, CloneFlags::CLONE_NEWNET).context("enter the host's network")?;
            work()
        })
    }

    /// Writes `/etc/moor/cluster.json`, with these keys beside the members.
    pub fn configure(&self, endpoints: &[String], keys: &Value) -> Result<()> {
        let config = json!({"endpoints": endpoints, "insecure": true, "hostName": self.name});
        let config = with(&config, keys.clone());
        self.inside(|| {
            fs::write("/etc/moor/cluster.json", config.to_string()).context("write the cluster's file")
        })
    }

    /// Makes a container's namespace on this host.
    pub fn container(&self, id: &str) -> Result<Guest> {
        let ns = format!("{}.d/{id}", self.name);
        Container::new(&ns)?;
        ip::run_in(&ns, &["link", "set", "lo", "up"])?;
        Ok(Guest { id: id.to_owned(), ns })
    }

    /// Removes a container's namespace.
    pub fn remove(&self, guest: &Guest) -> Result<()> {
        let path = PathBuf::from("/run/netns").join(&guest.ns);
        Container { id: guest.ns.clone(), path }.remove()
    }

    /// Runs a prepared call on this host.
    pub fn run(&self, call: Call<'_>) -> Result<Answer> {
        self.inside(|| call.run())
    }

    /// Calls a verb of a plugin for a container's `eth0`.
    pub fn attach(&self, plugin: &str, verb: &str, guest: &Guest, config: &Value) -> Result<Answer> {
        self.run(self.call(plugin, verb, guest).config(config))
    }

    /// The same, in preparation.
    pub fn call(&self, plugin: &str, verb: &str, guest: &Guest) -> Call<'r> {
        guest.as_target(self.room.call(plugin, verb))
    }

    /// Runs the agent's commands for people.
    pub fn overlay(&self, args: &[&str]) -> Result<Answer> {
        let program = self.room.suite.join("overlay-agent");
        self.run(Call::new(self.room, program).argv(args))
    }

    /// What the agent says of its state.
    pub fn status(&self) -> Result<Value> {
        // With a fault the exit status is 1.
        let answer = self.overlay(&["status", "--json"])?;
        serde_json::from_slice(&answer.stdout).with_context(|| format!("status of {}: {answer:?}", self.name))
    }

    /// Sends the agent a request of its control socket, as a plugin does.
    pub fn ask(&self, request: &Value) -> Result<Value> {
        let run = format!("/run/moor/overlay/{}/control.sock", self.network_name()?);
        self.inside(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
            let patience = TimeVal::seconds(on_this_machine(PATIENCE).as_secs().try_into()?);
            setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
            let at = UnixAddr::new(run.as_str())?;
            connect(socket.as_raw_fd(), &at).with_context(|| format!("connect to {run}"))?;
            send(socket.as_raw_fd(), request.to_string().as_bytes(), MsgFlags::MSG_NOSIGNAL)?;
            let mut answer = [0; 4096];
            let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).context("no answer")?;
            serde_json::from_slice(answer.get(..length).unwrap_or_default()).context("read the answer")
        })
    }

    /// The name of the host's network namespace in the agent's paths.
    fn network_name(&self) -> Result<String> {
        self.inside(|| {
            let names = fs::read_dir("/run/moor/overlay").context("no agent was started")?.flatten();
            let names: Vec<_> = names.map(|name| name.file_name().to_string_lossy().into_owned()).collect();
            names.into_iter().next().context("no agent was started")
        })
    }

    /// Follows what the kernel deletes of the host's tables of MAC addresses and neighbours.
    pub fn watch_deletions(&self) -> Result<Deletions> {
        let mut children = vec![];
        let mut files = vec![];
        for (program, table) in [("bridge", "fdb"), ("ip", "neigh")] {
            let path = self.room.scratch(&format!("{}.{table}", self.name));
            let file = File::create(&path)?;
            let mut command = Command::new(program);
            command.args(["monitor", table]).stdin(Stdio::null()).stdout(file);
            let start = || command.spawn().with_context(|| format!("start {program} monitor"));
            children.push(crate::namespace::inside(&self.name, start)?);
            files.push(path);
        }
        let deletions = Deletions { children, files };
        deletions.wait_until_ready(&self.name)?;
        Ok(deletions)
    }

    /// The agent's process, if it runs.
    pub fn agent(&self) -> Result<Option<i32>> {
        let own = self.network.metadata()?.ino();
        let of_host = |pid: &i32| namespace_of(*pid) == Some(own) && command(*pid).contains("overlay-agent");
        Ok(processes()?.into_iter().find(of_host))
    }

    /// Sends the agent a signal.
    pub fn signal_agent(&self, signal: Signal) -> Result<()> {
        let pid = self.agent()?.with_context(|| format!("{} has no agent", self.name))?;
        kill(Pid::from_raw(pid), signal).context("signal the agent")
    }

    /// Ends every process of the host and takes its link down, as a loss of power does.
    pub fn die(&self) -> Result<()> {
        self.end_processes()?;
        ip::run_in(&self.name, &["link", "set", "eth0", "down"])
    }

    /// Restarts the host: processes, links, packet rules and what is of this boot are gone, and what is
    /// on disk stays. Its containers' namespaces are the caller's.
    pub fn reboot(&self) -> Result<()> {
        self.end_processes()?;
        for link in self.links()?.iter().filter(|link| !link.starts_with("veth")) {
            ip::run_in(&self.name, &["link", "del", link])?;
        }
        let id = self.room.write("boot_id", "00000000-0000-4000-8000-00000000000b\n")?;
        self.inside(|| {
            ip::output("nft", &["flush ruleset"])?;
            fs::remove_dir_all("/run/moor").context("empty /run/moor")?;
            mount(Some(&id), "/proc/sys/kernel/random/boot_id", NONE, MsFlags::MS_BIND, NONE)
                .context("cover boot_id")
        })
    }

    fn end_processes(&self) -> Result<()> {
        let own = self.network.metadata()?.ino();
        for pid in processes()?.into_iter().filter(|pid| namespace_of(*pid) == Some(own)) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        Ok(())
    }

    /// Gives the host another address on the underlay.
    pub fn move_to(&mut self, to: IpAddr) -> Result<()> {
        // With the first address of a subnet all others go.
        ip::run_in(&self.name, &["addr", "del", &format!("{}/24", self.address), "dev", "eth0"])?;
        ip::run_in(&self.name, &["addr", "add", &format!("{to}/24"), "dev", "eth0"])?;
        self.address = to;
        Ok(())
    }

    /// Gives this host the other's identity and configuration, as a cloned disk image does.
    pub fn clone_identity(&self, of: &Self) -> Result<()> {
        let file = "/var/lib/moor/overlay/host.json";
        let identity = of.inside(|| fs::read(file).with_context(|| format!("read {file}")))?;
        self.inside(|| {
            fs::create_dir_all("/var/lib/moor/overlay")?;
            fs::write(file, identity).with_context(|| format!("write {file}"))
        })
    }

    /// The links of ours on the host: bridges, VXLAN devices, and pairs of containers.
    pub fn links(&self) -> Result<Vec<String>> {
        let ours = |name: &String| ["mo", "mx", "veth"].iter().any(|prefix| name.starts_with(prefix));
        Ok(ip::links(Some(&self.name))?.into_iter().filter(ours).collect())
    }

    /// The table of MAC addresses of the host's VXLAN devices: `mac dst` of each permanent entry.
    pub fn fdb(&self) -> Result<Vec<String>> {
        let text = ip::output("bridge", &["-n", &self.name, "fdb", "show"])?;
        let entries = text.lines().filter(|line| line.contains(" dst "));
        let mut entries: Vec<_> = entries
            .filter_map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                let at = words.iter().position(|word| *word == "dst")?;
                Some(format!("{} {}", words.first()?, words.get(at + 1)?))
            })
            .collect();
        entries.sort();
        Ok(entries)
    }
}

impl Guest {
    /// Makes a call one for its `eth0`.
    pub fn as_target<'c>(&self, call: Call<'c>) -> Call<'c> {
        call.env("CNI_CONTAINERID", &self.id)
            .env("CNI_NETNS", format!("/run/netns/{}", self.id))
            .env("CNI_IFNAME", "eth0")
    }

    /// Requires that an address answers within a time, by a handshake or its refusal.
    pub fn reach(&self, to: &str, within: Duration) -> Result<Duration> {
        let to: IpAddr = to.parse().with_context(|| format!("{to} is no address"))?;
        crate::namespace::inside(&self.ns, || crate::socket::reach(to, within))
            .with_context(|| format!("{} cannot reach {to}", self.ns))
    }
}

/// What was deleted since [`Host::watch_deletions`].
pub struct Deletions {
    children: Vec<Child>,
    files: Vec<PathBuf>,
}

impl Deletions {
    /// The lines about deletions.
    pub fn lines(&self) -> Result<Vec<String>> {
        let mut lines = vec![];
        for file in &self.files {
            let text = fs::read_to_string(file)?;
            lines.extend(text.lines().filter(|line| line.starts_with("Deleted")).map(str::to_owned));
        }
        Ok(lines)
    }

    /// Waits until both have seen an entry come and go.
    fn wait_until_ready(&self, ns: &str) -> Result<()> {
        let deadline = Instant::now() + on_this_machine(PATIENCE);
        let mac = "02:00:00:00:00:01";
        ip::run_in(ns, &["link", "add", "watched", "type", "bridge"])?;
        loop {
            ip::output("bridge", &["-n", ns, "fdb", "add", mac, "dev", "watched", "self", "local"])?;
            ip::output("bridge", &["-n", ns, "fdb", "del", mac, "dev", "watched", "self", "local"])?;
            let neighbour = ["neigh", "replace", "192.0.2.1", "lladdr", mac, "dev", "watched"];
            ip::run_in(ns, &[&neighbour[..], &["nud", "permanent"]].concat())?;
            ip::run_in(ns, &["neigh", "del", "192.0.2.1", "dev", "watched"])?;
            let texts = self.files.iter().map(fs::read_to_string).collect::<std::io::Result<Vec<_>>>()?;
            if texts.iter().all(|text| text.contains("Deleted")) {
                return ip::run_in(ns, &["link", "del", "watched"]);
            }
            ensure!(Instant::now() < deadline, "the monitors see nothing: {texts:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Deletions {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill().and_then(|()| child.wait()));
        }
    }
}

/// The network namespace of a process.
fn namespace_of(pid: i32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|meta| meta.ino())
}

/// The arguments of a process; empty for a zombie.
pub(super) fn command(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

/// The processes of the room but this one.
pub(super) fn processes() -> Result<Vec<i32>> {
    let own = i32::try_from(std::process::id())?;
    let names = fs::read_dir("/proc").context("list /proc")?.flatten();
    let pids = names.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    Ok(pids.filter(|pid| *pid != own).collect())
}

fn tmpfs(dir: &Path) -> Result<()> {
    ensure!(dir.is_dir(), "the room has no {}", dir.display());
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .with_context(|| format!("mount a tmpfs on {}", dir.display()))
}

/// Runs a closure on a thread of its own; its namespaces end with it.
fn on_a_thread<R: Send>(work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    std::thread::scope(|scope| scope.spawn(work).join()).map_err(|_| anyhow!("the host's thread panicked"))?
}
