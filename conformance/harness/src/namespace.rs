//! Network namespaces by name: containers, and work inside one. And time namespaces.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::patience::on_this_machine;

/// A container: a named network namespace, with the name as its id.
#[derive(Clone, Debug)]
pub struct Container {
    /// `CNI_CONTAINERID`, and the namespace's name for `ip -n`.
    pub id: String,
    /// `CNI_NETNS`.
    pub path: PathBuf,
}

impl Container {
    /// Creates an empty namespace, bound at /run/netns/<id>.
    pub fn new(id: &str) -> Result<Self> {
        let path = PathBuf::from("/run/netns").join(id);
        File::create(&path).with_context(|| format!("create {}", path.display()))?;
        let made = || -> Result<()> {
            new_namespace()?;
            let own = Some("/proc/thread-self/ns/net");
            mount(own, &path, None::<&str>, MsFlags::MS_BIND, None::<&str>).context("bind it")?;
            Ok(())
        };
        in_thread(made)??;
        Ok(Self { id: id.to_owned(), path })
    }

    /// Removes the namespace as a runtime does, with its file.
    pub fn remove(&self) -> Result<()> {
        umount2(&self.path, MntFlags::MNT_DETACH).context("unbind the namespace")?;
        fs::remove_file(&self.path).context("remove its file")
    }
}

/// The IPv4 and IPv6 address of the outside host.
pub const OUTSIDE: [&str; 2] = ["198.51.100.2", "2001:db8:ff::2"];

/// How long a new namespace may wait for quota.
const PATIENCE: Duration = Duration::from_secs(20);

/// Moves this thread into a new network namespace. Ended namespaces count against the quota until
/// the kernel has dismantled them, so a room that creates many waits on ENOSPC
/// (user_namespaces(7)).
fn new_namespace() -> Result<()> {
    let deadline = Instant::now() + on_this_machine(PATIENCE);
    loop {
        match unshare(CloneFlags::CLONE_NEWNET) {
            Err(Errno::ENOSPC) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            done => return done.context("make a network namespace"),
        }
    }
}

/// Turns IPv6 on for links of the room's host; it may be off for new links.
pub fn allow_ipv6(links: &[&str]) -> Result<()> {
    links.iter().try_for_each(|link| {
        fs::write(format!("/proc/sys/net/ipv6/conf/{link}/disable_ipv6"), "0")
            .with_context(|| format!("give {link} IPv6"))
    })
}

/// The names of the existing containers, without the outside.
pub fn containers() -> Vec<String> {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "outside").collect()
}

/// Runs a closure in the namespace of that name, on a thread that ends there.
pub fn inside<R: Send>(ns: &str, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
    let file = File::open(format!("/run/netns/{ns}")).with_context(|| format!("open namespace {ns}"))?;
    in_thread(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("enter namespace {ns}"))?;
        work()
    })?
}

/// Runs a closure in a new namespace, which lasts as long as something in the returned value holds
/// it.
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

/// A command prefix (unshare(1)) that puts the boot clocks, and with them `/proc/uptime`, that many
/// seconds ahead. The time of day does not change.
pub fn clocks_ahead(seconds: u64) -> Vec<String> {
    let seconds = seconds.to_string();
    let words = ["unshare", "--time", "--fork", "--boottime", &seconds, "--monotonic", &seconds];
    words.map(str::to_owned).to_vec()
}
