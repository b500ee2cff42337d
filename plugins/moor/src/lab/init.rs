//! The first process of a lab: it furnishes the host, runs the command, and waits for orphans. When
//! it ends, the kernel ends every other process of the lab.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::failure::{Exit, Failure};
use crate::helper::report_ready;
use crate::output::escaped;
use crate::space::{furnish, refused, set_loopback_up};
use crate::supervise::{Orphans, wait_for};
use crate::{files, networks};

const NONE: Option<&str> = None;
/// Where commands of the lab look for conflists.
const CONFLISTS: &str = "/etc/cni/net.d";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Conflists that are copied; a directory with more is none of conflists.
const FILES_MAX: usize = 4096;
/// Variables that lead to directories of the host.
const NOT_OF_THE_LAB: [&str; 3] = ["NETCONFPATH", "CNI_CACHE_DIR", "XDG_CONFIG_HOME"];

/// Furnishes the lab and runs the command: the arguments are a number, as many directories of
/// conflists, and the command.
pub fn run(socket: &mut UnixStream, arguments: &[OsString]) -> Result<Exit, Failure> {
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| refused("ask for a signal", errno))?;
    let count = arguments.first().and_then(|count| count.to_str()?.parse().ok()).unwrap_or(0);
    let (dirs, command) = arguments.get(1..).unwrap_or_default().split_at_checked(count).unwrap_or_default();
    furnish_host(dirs)?;
    report_ready(socket)?;
    let Some((program, rest)) = command.split_first() else { return Ok(Exit::Status(127)) };
    let mut command = Command::new(program);
    for name in NOT_OF_THE_LAB {
        command.env_remove(name);
    }
    match command.args(rest).spawn() {
        Ok(mut child) => wait_for(&mut child, Orphans::Here),
        Err(error) => {
            eprintln!("moor: execute {}: {error}", escaped(&program.to_string_lossy()));
            Ok(Exit::Status(if error.kind() == ErrorKind::NotFound { 127 } else { 126 }))
        }
    }
}

fn furnish_host(dirs: &[OsString]) -> Result<(), Failure> {
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)
        .map_err(|errno| refused("make the mounts private", errno))?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), NONE)
        .map_err(|errno| refused("mount /proc", errno))?;
    let conflists: Vec<_> = dirs.iter().flat_map(|dir| copies(Path::new(dir), Path::new(""))).collect();
    let resolv_conf = (fs::canonicalize(RESOLV_CONF).ok(), fs::read(RESOLV_CONF).ok());
    for dir in ["/run", "/var/lib/cni", CONFLISTS] {
        cover(Path::new(dir)).map_err(|error| refused(&format!("cover {dir}"), error))?;
    }
    for (name, bytes) in conflists {
        write(&Path::new(CONFLISTS).join(name), &bytes)?;
    }
    // Where it lies below /run, its directory is covered now.
    if let (Some(path), Some(bytes)) = resolv_conf
        && path.starts_with("/run")
    {
        write(&path, &bytes)?;
    }
    set_loopback_up()?;
    furnish(None)
}

/// The files of a directory of conflists, and of the directories in it, by name.
fn copies(dir: &Path, below: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten().take(FILES_MAX) {
        let (path, name) = (entry.path(), below.join(entry.file_name()));
        if path.is_dir() && below == Path::new("") {
            all.extend(copies(&path, &name));
        } else if let Ok(bytes) = files::read(&path, networks::SIZE_MAX) {
            all.push((name, bytes));
        }
    }
    all
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, bytes));
    made.map_err(|error| refused(&format!("write {}", path.display()), error))
}

/// Mounts an empty directory there. Where the host has none, its nearest parent is covered by a
/// directory that has the parent's entries, and this one.
fn cover(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return tmpfs(dir);
    }
    let parent = dir.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"));
    let under = File::open(parent)?;
    let entries: Vec<_> = fs::read_dir(parent)?.collect::<Result<_, _>>()?;
    tmpfs(parent)?;
    for entry in entries {
        let from = Path::new("/proc/self/fd").join(under.as_raw_fd().to_string()).join(entry.file_name());
        // An entry that cannot be shown is missing in the lab; its command reports it, if it needs it.
        let _ = show(&from, parent, &entry.file_name());
    }
    fs::create_dir_all(dir)
}

/// Shows an entry of the covered directory in the new one.
fn show(from: &Path, parent: &Path, name: &OsStr) -> io::Result<()> {
    let (to, about) = (parent.join(name), from.symlink_metadata()?);
    if about.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if about.is_dir() {
        fs::create_dir(&to)?
    } else {
        drop(File::create(&to)?)
    }
    mount(Some(from), &to, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE).map_err(Into::into)
}

fn tmpfs(dir: &Path) -> io::Result<()> {
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).map_err(Into::into)
}
