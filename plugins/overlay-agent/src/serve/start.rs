//! Starting the agent.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cluster::record::Host;
use cluster::settings::Settings;
use daemon::{Id, confine};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use sys::{Error, NetNs, Result, privilege};

use super::args::Args;
use super::connections::Connections;
use super::run::{Poller, Running, Source};
use super::{listen, reexec};
use crate::engine::Engine;
use crate::files::Files;
use crate::kernel::Programmer;
use crate::log::log;
use crate::names::Names;
use crate::remote::Remote;
use crate::state::local::Local;

/// What the agent needs: to program links and neighbours, and, for a successor that opens its own
/// socket, to announce addresses.
const CAPABILITIES: [u32; 2] = [privilege::NET_ADMIN, privilege::NET_RAW];
/// The directory of the responder's state; see `dns`.
const DNS: &str = "/run/moor/dns";
/// System calls besides those of every daemon: threads, files that appear whole, and sockets closed
/// in the background.
const SYSTEM_CALLS: &[libc::c_long] = &[
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fsync,
    libc::SYS_fstatfs,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_pipe2,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_signalfd4,
    libc::SYS_statfs,
    libc::SYS_symlinkat,
    libc::SYS_umask,
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
];

/// The time since boot.
pub fn now() -> Result<Duration> {
    sys::clock::since_boot().map(Duration::from_nanos)
}

/// Takes the lock, reads the files, listens, starts the threads, and drops privileges.
///
/// # Errors
/// Another agent runs, the configuration or files cannot be used, or the kernel refused.
pub fn start(args: Args) -> Result<Running> {
    let content = sys::file::read(&args.settings, cluster::settings::SIZE_MAX)?;
    let settings = Settings::parse(&args.settings, content.as_deref())
        .map_err(|error| Error::new("use", "the settings", io::Error::other(error)))?;
    let namespace = namespace_name()?;
    let run = args.run.clone().unwrap_or_else(|| Path::new(cluster::local::RUN).join(&namespace));
    let files = Files { state: args.state.clone(), run, ledgers: leases::DATA_DIR.into() };
    files.make()?;
    let inherited = if args.inherit { Some(reexec::take()?) } else { None };
    let (lock, socket) = match inherited {
        Some((lock, socket)) => (File::from(lock), socket),
        None => (take_lock(&files)?, listen::at_path(&files.control())?),
    };
    let local = local(&args, &settings, &files, &namespace)?;
    let mut engine = Engine::new(&settings, files.clone(), local, now()?)?;
    if !settings.host_addresses.is_empty() {
        engine.find_mtu();
    }
    let fail = |op: &'static str, cause: io::Error| Error::new(op, "the agent's control socket", cause);
    let poller = Poller::new().map_err(|errno| fail("wait at", errno.into()))?;
    let connections = Connections::of_socket(socket);
    let signals = signals()?;
    let kernel = Programmer::open()?;
    confined(&files);
    let remote =
        Remote::start(&settings).map_err(|cause| Error::new("start", "the agent's threads", cause))?;
    let watched = [
        poller.watch(connections.listener(), Source::Control, Id::ZERO),
        poller.watch(&signals, Source::Signal, Id::ZERO),
        poller.watch(remote.wake(), Source::Remote, Id::ZERO),
    ];
    for watched in watched {
        watched.map_err(|errno| fail("wait at", errno.into()))?;
    }
    let names = Names::new(Path::new(DNS).join(&namespace));
    Running::new(args, lock, poller, connections, signals, engine, remote, names, kernel)
}

/// The name of this network namespace in paths.
fn namespace_name() -> Result<String> {
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0))
        .or_else(|_| std::net::UdpSocket::bind((std::net::Ipv6Addr::LOCALHOST, 0)))
        .or_else(|_| std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0)))
        .map_err(|cause| Error::new("open", "a socket", cause))?;
    NetNs::name_of_socket(socket.as_fd())
}

/// One agent for a network namespace.
fn take_lock(files: &Files) -> Result<File> {
    let path = files.agent_lock();
    let mut lock = sys::file::lock_of_daemon(&path, 0o600)?.ok_or_else(|| {
        Error::new("lock", path.display().to_string(), io::Error::other("another agent runs here"))
    })?;
    // For people, and for plugins that get no response.
    let _ = lock.set_len(0);
    let _ = io::Write::write_all(&mut lock, format!("{}\n", std::process::id()).as_bytes());
    Ok(lock)
}

fn local(args: &Args, settings: &Settings, files: &Files, namespace: &str) -> Result<Local> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let boot = sys::file::read(path, 64)?.unwrap_or_default();
    let boot = String::from_utf8_lossy(&boot).trim().to_owned();
    let name = settings.host_name.clone().unwrap_or_else(node_name);
    let host = Host {
        v: cluster::VERSION,
        name,
        addresses: settings.host_addresses.clone(),
        mtu: 1500,
        agent: cni::RELEASE.to_owned(),
        protocol: cluster::control::PROTOCOL,
    };
    Ok(Local {
        id: files.identity()?,
        boot: format!("{boot}/{namespace}"),
        host,
        port: settings.port,
        encrypted_port: settings.encrypted_port,
        reclaim_after_s: settings.reclaim_after_s,
        free_for: args.free_for,
        lease: None,
        alive_lease: None,
        closed: false,
        leaving: false,
        silent_since: Default::default(),
        utc: String::new(),
        nets: Default::default(),
    })
}

fn node_name() -> String {
    let name =
        sys::file::read(Path::new("/proc/sys/kernel/hostname"), 256).ok().flatten().unwrap_or_default();
    let name = String::from_utf8_lossy(&name)
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .take(64)
        .collect::<String>();
    if name.is_empty() { "host".to_owned() } else { name }
}

/// SIGTERM and SIGINT as events. The threads inherit the mask.
fn signals() -> Result<SignalFd> {
    let kernel = |errno: nix::errno::Errno| Error::new("wait for", "signals", errno);
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGINT);
    set.thread_block().map_err(kernel)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(kernel)
}

/// Gives up what the agent does not need. Threads that are started later are confined, too.
fn confined(files: &Files) {
    if let Err(error) = privilege::limit_capabilities(&CAPABILITIES) {
        log(&format_args!("capabilities are kept: {error}"));
    }
    // The directory of the responder may be made later.
    let dns = Path::new(DNS).parent().map(Path::to_owned).unwrap_or_default();
    let written: [PathBuf; 4] = [files.state.clone(), files.run.clone(), files.ledgers.clone(), dns];
    for dir in &written {
        if !dir.is_dir() {
            // Whoever needs it reports it.
            let _ = sys::file::create_dir(dir, 0o755);
        }
    }
    let written: Vec<&Path> = written.iter().map(PathBuf::as_path).collect();
    // A kernel without one of these still gets an agent.
    for confined in [confine::forbid_file_writes(&written), confine::forbid_other_system_calls(SYSTEM_CALLS)]
    {
        if let Err(error) = confined {
            log(&format_args!("the kernel cannot confine the agent fully: {error}"));
        }
    }
}

/// The descriptors that a successor inherits.
pub fn kept<'a>(lock: &'a File, connections: &'a Connections) -> [std::os::fd::BorrowedFd<'a>; 2] {
    [lock.as_fd(), connections.listener().as_fd()]
}

/// A pair that was inherited: the lock and the control socket.
pub type Inherited = (OwnedFd, OwnedFd);
