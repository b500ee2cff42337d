//! Confines a hostile plugin to its room, although it is root there: everything of the machine is
//! read-only or hidden, and a user namespace owns what the plugin may change. Root in it has all
//! capabilities over the room's own links and mounts, and none over the machine: existing mounts
//! stay as they are (mount_namespaces(7), "Restrictions on mount namespaces"), no device can be
//! created, no module loaded, no clock set.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::SCRATCH;

const NONE: Option<&str> = None;

/// The devices that programs expect.
const DEVICES: [&str; 7] = ["null", "zero", "full", "random", "urandom", "tty", "net/tun"];

/// Maps every user and group to itself: root's files belong to root inside, and a case's other user
/// exists. This gives no rights over the machine, as everything that root owns there is read-only.
const IDENTITY: &str = "0 0 4294967295";

/// Whether this process can be confined. An unprivileged user's room is a user namespace anyway:
/// from inside, its root is the only user there, so it could not map all.
pub fn is_possible() -> bool {
    let most = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    geteuid().is_root() && most.trim() != "0" && users.split_whitespace().eq(IDENTITY.split(' '))
}

/// Makes all mounts read-only. They must be private already.
pub fn make_machine_read_only() -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("read the room's mounts")?;
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(4);
        let (place, options) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        if place == "/proc" || place.starts_with("/proc/") {
            continue;
        }
        let done = read_only(Path::new(place), options);
        // A path under another mount is unreachable for everybody.
        if place == "/" {
            done.context("make / read-only")?;
        }
    }
    Ok(())
}

fn read_only(place: &Path, options: &str) -> nix::Result<()> {
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    for option in options.split(',') {
        flags |= match option {
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            _ => MsFlags::empty(),
        };
    }
    mount(NONE, place, NONE, flags, NONE)
}

fn bind(from: &Path, to: &Path) -> Result<()> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND, NONE).with_context(|| format!("bind {}", to.display()))
}

/// In the room's /proc, what belongs to a network namespace stays writable; what belongs to the
/// kernel becomes read-only.
pub fn lock_proc() -> Result<()> {
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        let is_process = name.bytes().all(|byte| byte.is_ascii_digit());
        if is_process || kind.is_symlink() {
            continue;
        }
        let writable = kind.is_dir() || entry.metadata()?.permissions().mode() & 0o222 != 0;
        if writable {
            bind(&entry.path(), &entry.path())?;
            read_only(&entry.path(), "nosuid,nodev,noexec")
                .with_context(|| format!("make /proc/{name} read-only"))?;
        }
    }
    let own = Path::new("/proc/sys/net");
    bind(own, own)?;
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(NONE, own, NONE, flags, NONE).context("leave the sysctls of the network writable")
}

/// Covers /dev with a few harmless devices: no disk, no memory, no terminal of the machine.
pub fn own_devices() -> Result<()> {
    let dev = Path::new(SCRATCH).join(".dev");
    fs::create_dir_all(dev.join("net"))?;
    fs::create_dir_all(dev.join("shm"))?;
    for name in DEVICES {
        let (machines, own) = (Path::new("/dev").join(name), dev.join(name));
        if machines.exists() {
            File::create(&own)?;
            bind(&machines, &own)?;
        }
    }
    for (name, target) in [("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")] {
        symlink(format!("/proc/self/fd{target}"), dev.join(name))?;
    }
    mount(Some(&dev), "/dev", NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).context("cover /dev")
}

/// Enters a user namespace, and new namespaces for the network, mounts, host names and IPC that
/// belong to it.
///
/// /sys stays the machine's, read-only, and shows the machine's links. If the room mounted its own
/// on top, it could be unmounted again, and `ip -n` could then not mount one: it mounts a read-only
/// one only if it cannot unmount the existing one.
pub fn enter_user_namespace() -> Result<()> {
    // Only a process outside can write maps of other ids, so a child stays there.
    let own = std::process::id();
    let script =
        format!("read -r _ && echo {IDENTITY} >/proc/{own}/uid_map && echo {IDENTITY} >/proc/{own}/gid_map");
    let mut mapper = Command::new("/bin/sh");
    mapper.args(["-c", &script]).stdin(Stdio::piped());
    let mut mapper = mapper.spawn().context("start a shell to write the user map")?;
    let all = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    let entered = unshare(all).context("make the room's user namespace");
    let mut pipe = mapper.stdin.take().context("the shell has an input")?;
    if entered.is_ok() {
        pipe.write_all(b"go\n").context("ask for the user map")?;
    }
    drop(pipe);
    let status = mapper.wait().context("wait for the user map")?;
    entered?;
    ensure!(status.success(), "the user map cannot be written: {status}");
    Ok(())
}
