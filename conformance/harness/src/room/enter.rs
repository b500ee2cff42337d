//! Enters the room: first namespaces, then mounts, so that a plugin cannot reach the machine.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{getegid, geteuid};

use super::confine;
use super::elsewhere::Elsewhere;
use super::{Room, SCRATCH};
use crate::ip;

/// The directories that every room, and every host of a cluster, has for itself, beside `/run`.
pub const STATE_DIRS: [&str; 4] = ["/var/lib/cni", "/var/lib/moor", "/etc/cni", "/etc/moor"];

const NONE: Option<&str> = None;

/// Leaves the machine's namespaces for new ones. The pid namespace starts with the next child. The
/// other namespaces of a confined room come with its user namespace, in [`furnish`].
pub fn unshare_all(confined: bool) -> Result<()> {
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
    if !confined {
        flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
    }
    let (uid, gid) = (geteuid(), getegid());
    if !uid.is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).context(if uid.is_root() {
        "make the room's namespaces (in a container this takes CAP_SYS_ADMIN: --cap-add SYS_ADMIN)"
    } else {
        "make the room's namespaces (as an ordinary user the kernel must allow user namespaces)"
    })?;
    if !uid.is_root() {
        fs::write("/proc/self/setgroups", "deny").context("give up setgroups")?;
        fs::write("/proc/self/uid_map", format!("0 {uid} 1")).context("map the user to root")?;
        fs::write("/proc/self/gid_map", format!("0 {gid} 1")).context("map the group to root")?;
    }
    Ok(())
}

/// Furnishes the new namespaces: private mounts, empty state directories, `lo` up. Runs as the
/// first process of the pid namespace. Writes outside of those directories go to overlays if
/// `watched`, and fail where there is none. A `confined` room cannot change anything else of the
/// machine either.
pub fn furnish(watched: bool, confined: bool) -> Result<Elsewhere> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("make the mounts private")?;
    if confined {
        confine::make_machine_read_only()?;
    }
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NONE).context("mount /proc of the room")?;
    if !confined {
        // /sys/class/net shows the namespace that mounted it. Some kernels refuse this in a user
        // namespace; few cases need it.
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE).ok();
    }
    tmpfs(Path::new("/run"))?;
    fs::create_dir_all(SCRATCH)?;
    fs::create_dir_all("/run/netns")?;
    let elsewhere = if watched { Elsewhere::cover()? } else { Elsewhere::default() };
    for dir in STATE_DIRS {
        let dir = Path::new(dir);
        if elsewhere.covers(dir) {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        } else if is_shadowed(dir) {
            fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        if dir.is_dir() { tmpfs(dir)? } else { shadow_parent(dir)? }
    }
    own_machine_id(&elsewhere)?;
    // A suite that writes elsewhere gets EROFS. In a user namespace this remount may be refused.
    mount(NONE, "/", NONE, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, NONE).ok();
    if confined {
        confine::own_devices()?;
        confine::lock_proc()?;
        confine::enter_user_namespace()?;
    }
    std::env::set_current_dir(SCRATCH)?;
    ip::run(&["link", "set", "lo", "up"])
        .context("set the room's lo up (in a container this takes CAP_NET_ADMIN: --cap-add NET_ADMIN)")?;
    Ok(elsewhere.begun())
}

/// Looks at a container of the room as cases do. In a container of another runtime `ip -n` may be
/// unable to: the kernel refuses a second /sys in a user namespace where the first has mounts that
/// hide a part of it (fs/namespace.c, mnt_already_visible).
pub fn ensure_usable(room: &Room) -> Result<()> {
    let container = room.container("probe")?;
    room.snapshot_in(&container).map(drop).map_err(|error| {
        let masked = format!("{error:#}").contains("mount of /sys failed");
        error.context(if masked {
            "a part of /sys is hidden, as container runtimes do: podman run --security-opt unmask=ALL, or \
             --privileged, shows it"
        } else {
            "look at a container in a room"
        })
    })
}

/// Not every machine has an id; every room has this one.
fn own_machine_id(elsewhere: &Elsewhere) -> Result<()> {
    let (target, own) = (Path::new("/etc/machine-id"), Path::new(SCRATCH).join(".machine-id"));
    fs::write(&own, "6d6f6f72000000000000000000000001\n").context("write the room's machine id")?;
    if elsewhere.covers(target) && !target.exists() {
        fs::write(target, "").context("make /etc/machine-id")?;
    }
    if target.exists() {
        mount(Some(&own), target, NONE, MsFlags::MS_BIND, NONE).context("cover /etc/machine-id")?;
    }
    Ok(())
}

fn tmpfs(dir: &Path) -> Result<()> {
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
        .with_context(|| format!("mount a tmpfs on {}", dir.display()))
}

/// Whether [`shadow_parent`] covered its parent, for another directory.
fn is_shadowed(dir: &Path) -> bool {
    let parent = dir.parent().and_then(|parent| parent.strip_prefix("/").ok());
    !dir.exists() && parent.is_some_and(|parent| Path::new(SCRATCH).join(".machine").join(parent).is_dir())
}

/// Creates `dir` only inside the room: a tmpfs covers its parent, with entries that lead to the
/// machine's own.
fn shadow_parent(dir: &Path) -> Result<()> {
    let parent = dir.parent().context("a state directory has a parent")?;
    let kept = Path::new(SCRATCH).join(".machine").join(parent.strip_prefix("/")?);
    fs::create_dir_all(&kept)?;
    mount(Some(parent), &kept, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .with_context(|| format!("keep {} in view", parent.display()))?;
    tmpfs(parent)?;
    for entry in fs::read_dir(&kept)? {
        let entry = entry?;
        symlink(entry.path(), parent.join(entry.file_name()))?;
    }
    fs::create_dir(dir).with_context(|| format!("make {}", dir.display()))
}

/// The command that runs this executable again with the same arguments and `--inside`.
pub fn again() -> Result<Command> {
    let mut args = std::env::args_os().skip(1);
    let mut command = Command::new(std::env::current_exe()?);
    command.args(args.next()).arg("--inside").args(args);
    Ok(command)
}

/// Has the kernel kill this process when its parent ends: a room does not outlive a run that a
/// signal ends. A change of credentials switches this off, so it follows every one of them.
pub fn end_with_the_parent() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("ask for a signal when the parent ends")
}
