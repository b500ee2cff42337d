//! The directory that dnsname keeps for one network.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni::Error;
use daemon::is_system_root;
use nix::sys::signal::Signal;
use sys::file::{self, Sync};
use sys::process::Process;

/// Below the runtime directory.
const DNSNAME_DIR: &str = "containers/cni/dnsname";
const CONF: &str = "dnsmasq.conf";
const HOSTS: &str = "addnhosts";
const PID: &str = "pidfile";
const LOCK: &str = "lock";
/// The longest hosts file: some hundred bytes for each container.
const HOSTS_MAX: usize = 4 << 20;
const PID_MAX: usize = 64;
/// How long dnsmasq may take to exit after SIGTERM and after SIGKILL.
const TERM_TIMEOUT: Duration = Duration::from_secs(1);
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// A network's directory.
pub(super) struct DnsnameDir {
    dir: PathBuf,
}

/// A line of the hosts file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) ip: IpAddr,
    pub(super) names: Vec<String>,
}

impl DnsnameDir {
    /// The network's directory, if dnsname has one for this user and nobody else can write
    /// there.
    pub(super) fn of(network: &str) -> Option<Self> {
        let roots = [
            is_system_root().then(|| PathBuf::from("/run")),
            // dnsname as root uses the variable too.
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute()),
        ];
        let dirs = roots.into_iter().flatten().map(|root| root.join(DNSNAME_DIR).join(network));
        dirs.filter(|dir| is_own(dir)).map(|dir| Self { dir }).next()
    }

    /// Waits for the lock that dnsname takes.
    pub(super) fn lock(&self) -> Result<File, Error> {
        Ok(file::lock(&self.dir.join(LOCK), 0o600)?)
    }

    /// The entries of the hosts file.
    pub(super) fn hosts(&self) -> Result<Vec<Host>, Error> {
        Ok(self.lines()?.iter().filter_map(|line| host(line)).collect())
    }

    fn lines(&self) -> Result<Vec<String>, Error> {
        let bytes = file::read(&self.dir.join(HOSTS), HOSTS_MAX)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
    }

    /// Removes entries from the hosts file; with the last entry, stops dnsmasq, as dnsname
    /// does.
    pub(super) fn forget(&self, gone: impl Fn(&Host) -> bool) -> Result<(), Error> {
        let lines = self.lines()?;
        let stays = |line: &&String| !host(line).is_some_and(|host| gone(&host));
        let rest: Vec<&String> = lines.iter().filter(stays).collect();
        if rest.len() == lines.len() {
            return Ok(());
        }
        if !rest.iter().any(|line| host(line).is_some()) {
            self.stop(|| None)?;
            return self.remove();
        }
        let text: String = rest.into_iter().flat_map(|line| [line, "\n"]).collect();
        file::replace_whole(&self.dir.join(HOSTS), text.as_bytes(), 0o644, Sync::Later)?;
        match self.dnsmasq(None)? {
            Some(dnsmasq) => Ok(dnsmasq.signal(Signal::SIGHUP)?),
            None => Ok(()),
        }
    }

    /// Whether its dnsmasq runs.
    pub(super) fn runs(&self) -> Result<bool, Error> {
        Ok(self.dnsmasq(None)?.is_some())
    }

    /// Stops its dnsmasq; returns the process id. Without a pid file, `otherwise` may find
    /// the process.
    pub(super) fn stop(&self, otherwise: impl FnOnce() -> Option<u32>) -> Result<Option<u32>, Error> {
        let dnsmasq = match self.dnsmasq(None)? {
            None => self.dnsmasq(otherwise())?,
            found => found,
        };
        let Some(dnsmasq) = dnsmasq else { return Ok(None) };
        for (signal, timeout) in [(Signal::SIGTERM, TERM_TIMEOUT), (Signal::SIGKILL, KILL_TIMEOUT)] {
            dnsmasq.signal(signal)?;
            if dnsmasq.has_ended(Instant::now() + timeout)? {
                return Ok(Some(dnsmasq.pid()));
            }
        }
        Err(Error::internal(format!(
            "dnsmasq (process {}) of dnsname does not end: its port is wanted",
            dnsmasq.pid()
        )))
    }

    /// Its dnsmasq: the process of the pid file, or `pid`. It must be a dnsmasq with this
    /// configuration file in this network namespace; no other process is ever signalled.
    fn dnsmasq(&self, pid: Option<u32>) -> Result<Option<Process>, Error> {
        let recorded = || -> Option<u32> {
            let bytes = file::read(&self.dir.join(PID), PID_MAX).ok().flatten()?;
            String::from_utf8_lossy(&bytes).trim().parse().ok()
        };
        let Some(pid) = pid.or_else(recorded) else { return Ok(None) };
        // From here on the process cannot be replaced by another one with its id.
        let process = Process::open(pid)?;
        Ok(process.filter(|process| self.is_our_dnsmasq(process.pid())))
    }

    fn is_our_dnsmasq(&self, pid: u32) -> bool {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let namespace = |of: &Path| fs::read_link(of.join("ns/net")).ok();
        let here = namespace(Path::new("/proc/thread-self"));
        let Ok(line) = fs::read(proc.join("cmdline")) else { return false };
        let mut words = line.split(|byte| *byte == 0);
        let program = words.next().and_then(|word| word.rsplit(|byte| *byte == b'/').next());
        let conf = self.dir.join(CONF);
        let conf = conf.as_os_str().as_encoded_bytes();
        let mut named = words.map(|word| word.strip_prefix(b"--conf-file=").unwrap_or(word));
        program == Some(b"dnsmasq")
            && named.any(|word| word == conf)
            && here.is_some()
            && namespace(&proc) == here
    }

    /// Removes the directory; its content has been taken over or is obsolete.
    pub(super) fn remove(&self) -> Result<(), Error> {
        for name in [CONF, HOSTS, PID, LOCK] {
            file::remove(&self.dir.join(name))?;
        }
        match fs::remove_dir(&self.dir) {
            // There are other files in it.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) =>
            {
                Ok(())
            }
            done => done.map_err(|error| {
                sys::Error::new("remove directory", self.dir.display().to_string(), error).into()
            }),
        }
    }
}

/// Whether it is a directory that only this user can change.
fn is_own(dir: &Path) -> bool {
    let own = |meta: fs::Metadata| {
        meta.is_dir() && meta.uid() == nix::unistd::geteuid().as_raw() && meta.mode() & 0o022 == 0
    };
    fs::symlink_metadata(dir).is_ok_and(own)
}

fn host(line: &str) -> Option<Host> {
    let mut words = line.split_ascii_whitespace();
    let ip = words.next()?.parse().ok()?;
    Some(Host { ip, names: words.map(str::to_owned).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_an_address_and_names() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            host("10.88.0.2\tweb\twww api"),
            Some(Host { ip: [10, 88, 0, 2].into(), names: names(&["web", "www", "api"]) })
        );
        assert_eq!(host("fd00::2\t"), Some(Host { ip: "fd00::2".parse().unwrap(), names: vec![] }));
        assert_eq!(host("# WARNING"), None);
        assert_eq!(host(""), None);
    }

    /// A wrong pid file, after a crash or by intent, makes no process a dnsmasq.
    #[test]
    fn no_other_process_is_taken_for_a_dnsmasq() {
        let dir = tempfile::tempdir().unwrap();
        let dnsname_dir = DnsnameDir { dir: dir.path().to_owned() };
        fs::write(dir.path().join(PID), std::process::id().to_string()).unwrap();
        assert!(dnsname_dir.dnsmasq(None).unwrap().is_none());
        assert_eq!(dnsname_dir.stop(|| Some(std::process::id())).unwrap(), None);
        fs::write(dir.path().join(HOSTS), "10.0.0.2\tweb\n10.0.0.3\tdb\n").unwrap();
        dnsname_dir.forget(|host| host.names == ["web"]).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(HOSTS)).unwrap(), "10.0.0.3\tdb\n");
        dnsname_dir.forget(|host| host.names == ["db"]).unwrap();
        assert!(!dir.path().exists());
        fs::create_dir(dir.path()).unwrap();
    }
}
