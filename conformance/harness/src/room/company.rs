//! Other actors on the host: an unprivileged local user, namespaces that come and go, an
//! administrator who reboots, another machine.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{Room, SCRATCH};
use crate::need::NOBODY;
use crate::{diff, ip};

/// The time limit for another process to take a free lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// The lifetime limit of everything here, whatever happens to the case.
const AT_MOST: Duration = Duration::from_secs(300);

/// A process next to the case, with all its children; they end when this is dropped.
pub struct Beside(pub Child);

impl Beside {
    /// Starts it.
    pub fn start(command: &mut Command) -> Result<Self> {
        let started = command.process_group(0).stdin(Stdio::null()).spawn();
        started.map(Self).with_context(|| format!("start {command:?}"))
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
        }
        self.0.wait().ok();
    }
}

/// Namespaces that come and go until this is dropped.
pub struct Busy {
    over: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
}

impl Busy {
    /// The number of namespaces created so far.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A machine with a smaller quota of network namespaces is small, as the virtual machine is: it
/// dismantles them so slowly that released ones fill the quota and block everyone else.
const QUOTA_OF_A_SMALL_MACHINE: usize = 16_384;
/// The pause between two namespaces on a small machine, after the first hundred.
const WHEN_SMALL: Duration = Duration::from_millis(200);

/// The machine's quota of network namespaces, regardless of this user namespace's limit: half of
/// its threads (fork_init, kernel/fork.c).
fn namespaces_max() -> usize {
    let text = fs::read_to_string("/proc/sys/kernel/threads-max").unwrap_or_default();
    text.trim().parse::<usize>().unwrap_or(0) / 2
}

impl Room {
    /// Runs a program as an unprivileged local user without files (see
    /// [`crate::need::Need::OtherUsers`]).
    pub fn as_user(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command.uid(NOBODY).gid(NOBODY).current_dir("/");
        command
    }

    /// Creates a directory that this user owns.
    pub fn users_directory(&self) -> Result<PathBuf> {
        let dir = Path::new(SCRATCH).join("user");
        fs::create_dir_all(&dir)?;
        std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).context("give the user a directory")?;
        Ok(dir)
    }

    /// Lets that user lock a file or directory (flock(2)) and hold the lock. `None`: the user
    /// cannot even open it.
    pub fn lock_as_user(&self, path: &Path) -> Result<Option<Beside>> {
        self.lock(self.as_user("/usr/bin/flock"), path)
    }

    /// Locks a file as root, as another program would.
    pub fn lock_as_root(&self, path: &Path) -> Result<Option<Beside>> {
        self.lock(Command::new("/usr/bin/flock"), path)
    }

    /// Whether root can take the lock now.
    pub fn lock_is_free(&self, path: &Path) -> Result<bool> {
        let done = Command::new("/usr/bin/flock").arg("-n").arg(path).arg("true").status();
        Ok(done.context("start flock (util-linux)")?.success())
    }

    fn lock(&self, mut flock: Command, path: &Path) -> Result<Option<Beside>> {
        let seconds = AT_MOST.as_secs().to_string();
        // With -o only flock itself holds the lock, so that it ends with the process that is waited
        // for.
        flock.arg("-o").arg(path).args(["sh", "-c", "echo locked; exec sleep $0", &seconds]);
        let mut locker = Beside::start(flock.stdout(Stdio::piped()).stderr(Stdio::null()))?;
        let output = locker.0.stdout.take().context("flock has an output")?;
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let read = std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line);
            let _ = sender.send(read.is_ok() && line.starts_with("locked"));
        });
        match receiver.recv_timeout(PATIENCE) {
            Ok(true) => Ok(Some(locker)),
            Ok(false) => Ok(None),
            Err(_) => bail!("{} is locked by another process", path.display()),
        }
    }

    /// Keeps the kernel's lock of network configuration (RTNL) busy: `threads` threads create and
    /// release network namespaces as fast as they can; on a small machine more slowly.
    pub fn busy_rtnl(&self, threads: usize) -> Busy {
        let busy = Busy { over: Arc::default(), made: Arc::default() };
        let deadline = Instant::now() + AT_MOST;
        let at_full_speed = if namespaces_max() < QUOTA_OF_A_SMALL_MACHINE { 100 } else { usize::MAX };
        for _ in 0..threads {
            let (over, made) = (busy.over.clone(), busy.made.clone());
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) && Instant::now() < deadline {
                    match unshare(CloneFlags::CLONE_NEWNET) {
                        Ok(()) if made.fetch_add(1, Ordering::Relaxed) < at_full_speed => {}
                        Ok(()) | Err(Errno::ENOSPC) => std::thread::sleep(WHEN_SMALL),
                        Err(_) => break,
                    }
                }
            });
        }
        busy
    }

    /// Saves the packet rules of the calling thread's namespace and loads them again, as
    /// distributions do at shutdown and boot. The loaded rules must list like the saved ones.
    pub fn save_and_load_rules(&self) -> Result<()> {
        let listing = || ip::output("nft", &["list", "ruleset"]);
        let saved = listing()?;
        let file = self.write("ruleset.nft", format!("flush ruleset\n{saved}"))?;
        ip::output("nft", &["-f", &file.display().to_string()]).context("load the saved rules")?;
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let changes = diff::lines(&lines(&saved), &lines(&listing()?));
        ensure!(changes.is_empty(), "the loaded rules differ: {}", diff::shown(&changes));
        Ok(())
    }

    /// Turns this into another machine: one that has rebooted and has another id.
    pub fn become_machine(&self, number: u32) -> Result<()> {
        let id = self.write("machine-id", format!("{number:032x}\n"))?;
        let boot = self.write("boot_id", format!("00000000-0000-4000-8000-{number:012x}\n"))?;
        for (file, target) in [(id, "/etc/machine-id"), (boot, "/proc/sys/kernel/random/boot_id")] {
            mount(Some(&file), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("cover {target}"))?;
        }
        Ok(())
    }
}
