//! The machine that a container runtime expects: its own files, a root file system to run, the
//! plugins.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::room::{Room, SCRATCH};
use harness::{cache, ip};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// The directory in which go-cni, containerd's library, looks for plugins.
pub const PLUGINS: &str = "/opt/cni/bin";

/// The programs that the unpacked packages must contain.
const PROGRAMS: [&str; 5] = ["podman", "conmon", "crun", "containerd", "ctr"];

/// The page of the container's web server.
pub const PAGE: &str = "moored\n";

/// The commands of busybox in the container.
const APPLETS: [&str; 4] = ["sh", "httpd", "ip", "nslookup"];

const NONE: Option<&str> = None;

/// The `usr` of the unpacked packages, as `.ci/tools clients` leaves it: they are not installed.
pub fn packages() -> Result<PathBuf> {
    let usr = cache::directory("clients")?.join("usr");
    for program in PROGRAMS {
        let path = usr.join("bin").join(program);
        ensure!(path.is_file(), "{} is missing: `make tools-clients` fetches it", path.display());
    }
    ensure!(Path::new("/bin/busybox").is_file(), "the package busybox-static is missing");
    Ok(usr)
}

/// The root file system of containers.
pub fn rootfs() -> PathBuf {
    Path::new(SCRATCH).join("rootfs")
}

/// Where the room's suite is from [`furnish`] on.
pub fn suite() -> PathBuf {
    Path::new(SCRATCH).join("suite")
}

/// Mounts the packages over this room's `/usr`, and creates the rest: the suite in [`PLUGINS`],
/// conflists of the tree in `/etc/cni/net.d`, and an outside.
pub fn furnish(room: &Room, conflists: &[&str]) -> Result<()> {
    let usr = packages()?;
    let layers = format!("lowerdir={}:/usr", usr.display());
    mount(Some("overlay"), "/usr", Some("overlay"), MsFlags::empty(), Some(layers.as_str()))
        .context("lay the packages over /usr")?;
    // Both may be in a directory that is about to be covered.
    let suite = suite();
    fs::create_dir_all(&suite)?;
    mount(Some(&room.suite), &suite, NONE, MsFlags::MS_BIND, NONE).context("bind the plugins")?;
    let conflists: Vec<_> = conflists.iter().map(|file| (file, fs::read(room.net_d.join(file)))).collect();
    // No control groups: those of the machine are not the room's.
    for dir in ["/sys/fs/cgroup", "/opt", "/tmp", "/dev/shm"] {
        mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), NONE)
            .with_context(|| format!("mount a tmpfs on {dir}"))?;
    }
    fs::create_dir_all(PLUGINS)?;
    install(&suite)?;
    fs::create_dir_all("/etc/cni/net.d")?;
    for (file, conflist) in conflists {
        let to = Path::new("/etc/cni/net.d").join(file);
        fs::write(&to, conflist?).with_context(|| format!("write {}", to.display()))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let root = rootfs();
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp", "run", "www"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("copy busybox")?;
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("www/index.html"), PAGE)?;
    room.outside(&[])?;
    ip::run(&["route", "add", "default", "via", harness::namespace::OUTSIDE[0]])
}

/// Lays a directory of plugins over [`PLUGINS`].
pub fn install(plugins: &Path) -> Result<()> {
    mount(Some(plugins), PLUGINS, NONE, MsFlags::MS_BIND, NONE)
        .with_context(|| format!("bind {} to {PLUGINS}", plugins.display()))
}

/// Removes the last one.
pub fn uninstall() -> Result<()> {
    umount2(PLUGINS, MntFlags::MNT_DETACH).with_context(|| format!("unmount {PLUGINS}"))
}

/// Runs a program, ended after a minute; returns its output.
pub fn output(program: &str, args: &[&str]) -> Result<String> {
    let done = Command::new("timeout")
        .args(["-k", "5", "60", program])
        .args(args)
        .env("TMPDIR", "/tmp")
        .env("HOME", SCRATCH)
        .env("CONTAINERS_CONF", Path::new(SCRATCH).join("containers.conf"))
        .env("CONTAINERS_STORAGE_CONF", Path::new(SCRATCH).join("storage.conf"))
        .output()
        .with_context(|| format!("start {program}"))?;
    ensure!(
        done.status.success(),
        "{program} {}: {}: {}",
        args.join(" "),
        done.status,
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned())
}

/// Whether a line of a snapshot describes an object that plugins create.
pub fn is_of_plugins(line: &str) -> bool {
    !line.contains(" /run/") || line.contains("/run/moor")
}
