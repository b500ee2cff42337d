//! Members of a real etcd, each in a namespace of its own, and `etcdctl` as the observer.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::access::Authority;
use super::{address, on_the_wire};
use crate::patience::on_this_machine;
use crate::room::Room;
use crate::{cache, namespace};

/// The time limit for a start, and for one command.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most changes in one transaction (`--max-txn-ops`).
const TXN_MAX: usize = 128;

/// How members are configured beside the usual.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// TLS with client certificates: the authority has signed `e1` and so on, and `ctl`.
    pub authority: Option<Authority>,
    /// More options of etcd.
    pub more: Vec<String>,
}

/// One member.
pub struct Member {
    /// Its name: that of its namespace, and of its port on the underlay.
    pub name: String,
    number: u8,
    scheme: &'static str,
    args: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// The members.
pub struct Etcd {
    /// In order.
    pub members: Vec<Member>,
    /// Whom `etcdctl` acts for: `name:password`.
    pub user: Option<String>,
    authority: Option<Authority>,
    dir: PathBuf,
}

impl Etcd {
    /// Starts that many members; returns when one of them has answered with a quorum.
    pub(super) fn start(room: &Room, members: u8, options: &Options) -> Result<Self> {
        let dir = room.scratch("etcd");
        fs::create_dir_all(&dir)?;
        // It reserves 128 MB for each member, which a ramfs does not do.
        mount(Some("ramfs"), &dir, Some("ramfs"), MsFlags::empty(), None::<&str>)
            .context("mount a directory for etcd")?;
        let peers: Vec<_> =
            (1..=members).map(|number| format!("e{number}=http://{}:2380", address(number))).collect();
        let authority = options.authority.clone();
        let scheme = if authority.is_some() { "https" } else { "http" };
        let mut etcd = Self { members: vec![], user: None, authority, dir };
        for number in 1..=members {
            let name = format!("e{number}");
            on_the_wire(&name, number)?;
            let (client, peer) =
                (format!("{scheme}://{}:2379", address(number)), format!("http://{}:2380", address(number)));
            let data = etcd.dir.join(&name).display().to_string();
            let args = [
                ("name", name.clone()),
                ("data-dir", data),
                // Hosts without IPv4 use the other.
                ("listen-client-urls", format!("{client},http://[2001:db8:2::{number:x}]:2379")),
                ("advertise-client-urls", client),
                ("listen-peer-urls", peer.clone()),
                ("initial-advertise-peer-urls", peer),
                ("initial-cluster", peers.join(",")),
                ("logger", "zap".into()),
                ("log-level", "error".into()),
            ];
            let mut args: Vec<_> = args.iter().map(|(key, value)| format!("--{key}={value}")).collect();
            args.extend(options.more.iter().cloned());
            if let Some(authority) = &options.authority {
                args.push("--client-cert-auth".into());
                args.push(format!("--trusted-ca-file={}", authority.path("ca.pem")));
                args.push(format!("--cert-file={}", authority.path(&format!("{name}.pem"))));
                args.push(format!("--key-file={}", authority.path(&format!("{name}.key"))));
            }
            let log = room.scratch(&format!("{name}.log"));
            let mut member = Member { name, number, scheme, args, log, child: None };
            member.start()?;
            etcd.members.push(member);
        }
        etcd.wait()?;
        Ok(etcd)
    }

    /// Waits until each running member answers with a quorum.
    pub fn wait(&self) -> Result<()> {
        let deadline = Instant::now() + on_this_machine(PATIENCE);
        for member in self.members.iter().filter(|member| member.child.is_some()) {
            while let Err(error) = self.ctl_at(member, &["get", "none"]) {
                ensure!(Instant::now() < deadline, "{} has no quorum: {error:#}", member.name);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// The members' addresses for clients.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// Runs `etcdctl` at a member, in that member's namespace.
    pub fn ctl_at(&self, member: &Member, args: &[&str]) -> Result<String> {
        self.fed_at(member, args, "")
    }

    fn fed_at(&self, member: &Member, args: &[&str], input: &str) -> Result<String> {
        let program = cache::unpacked("etcd", "usr/bin/etcdctl")?;
        namespace::inside(&member.name, || {
            let mut command = Command::new(&program);
            command.env("ETCDCTL_API", "3").stdin(Stdio::piped());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.args(["--endpoints", &member.endpoint(), "--command-timeout", "2s"]);
            if let Some(authority) = &self.authority {
                let files = [("cacert", "ca.pem"), ("cert", "ctl.pem"), ("key", "ctl.key")];
                // It is the observer: a case may want a member with another's name.
                command.arg("--insecure-skip-tls-verify");
                command.args(files.map(|(key, file)| format!("--{key}={}", authority.path(file))));
            }
            command.envs(self.user.iter().map(|user| ("ETCDCTL_USER", user))).args(args);
            let mut child = command.spawn().context("start etcdctl")?;
            // It fits into the pipe, or etcdctl reads it before it writes anything.
            let fed = child.stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes()));
            let done = child.wait_with_output().context("wait for etcdctl")?;
            fed.transpose().context("feed etcdctl")?;
            let said = String::from_utf8_lossy(&done.stderr);
            ensure!(done.status.success(), "etcdctl {} at {}: {}", args.join(" "), member.name, said.trim());
            Ok(String::from_utf8_lossy(&done.stdout).into_owned())
        })
    }

    /// The same at the first member that runs and answers.
    pub fn ctl(&self, args: &[&str]) -> Result<String> {
        let mut last = anyhow::anyhow!("no member of etcd runs");
        for member in self.members.iter().filter(|member| member.child.is_some()) {
            match self.ctl_at(member, args) {
                Ok(text) => return Ok(text),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The keys with that prefix below `/moor/1/`, in order.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let text = self.ctl(&["get", "--prefix", "--keys-only", &format!("/moor/1/{prefix}")])?;
        let keys = text.lines().filter_map(|line| line.strip_prefix("/moor/1/"));
        Ok(keys.map(str::to_owned).collect())
    }

    /// The value of a key below `/moor/1/`.
    pub fn value(&self, key: &str) -> Result<Value> {
        let text = self.ctl(&["get", "--print-value-only", &format!("/moor/1/{key}")])?;
        serde_json::from_str(&text).with_context(|| format!("{key} is {text:?}"))
    }

    /// Writes keys below `/moor/1/`, or deletes them (`None`), at a member: many in one transaction.
    pub fn change_at(&self, member: &Member, changes: &[(String, Option<Value>)]) -> Result<()> {
        for changes in changes.chunks(TXN_MAX) {
            let lines = changes.iter().map(|(key, value)| match value {
                // A quoted string of JSON is one of etcdctl's.
                Some(value) => format!("put /moor/1/{key} {}\n", Value::from(value.to_string())),
                None => format!("del /moor/1/{key}\n"),
            });
            let input = format!("\n{}\n\n", lines.collect::<String>());
            let deadline = Instant::now() + on_this_machine(PATIENCE);
            // Members may be about to elect a leader; the same changes twice are as once.
            while let Err(error) = self.fed_at(member, &["txn"], &input) {
                ensure!(Instant::now() < deadline, "{error:#}");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// The same at the first member.
    pub fn change(&self, changes: &[(String, Option<Value>)]) -> Result<()> {
        self.change_at(self.members.first().context("no member")?, changes)
    }

    /// Kills every member, or starts all again.
    pub fn all(&mut self, run: bool) -> Result<()> {
        for member in &mut self.members {
            if run { member.start()? } else { member.kill() }
        }
        if run { self.wait() } else { Ok(()) }
    }

    /// Writes a snapshot.
    pub fn save(&self) -> Result<PathBuf> {
        let file = self.dir.join("snapshot.db");
        self.ctl(&["snapshot", "save", &file.display().to_string()])?;
        Ok(file)
    }

    /// Replaces the state of the only member by a snapshot's.
    pub fn restore(&mut self, snapshot: &std::path::Path) -> Result<()> {
        let [member] = &mut self.members[..] else { bail!("only a single member is restored here") };
        member.kill();
        let data = self.dir.join(&member.name);
        fs::remove_dir_all(&data)?;
        let done = Command::new(cache::unpacked("etcd", "usr/bin/etcdctl")?)
            .env("ETCDCTL_API", "3")
            .args(["snapshot", "restore", &snapshot.display().to_string()])
            .args(["--name", &member.name, "--data-dir", &data.display().to_string()])
            .arg(format!("--initial-cluster={}=http://{}:2380", member.name, address(member.number)))
            .arg(format!("--initial-advertise-peer-urls=http://{}:2380", address(member.number)))
            .output()
            .context("start etcdctl")?;
        ensure!(done.status.success(), "restore: {}", String::from_utf8_lossy(&done.stderr));
        member.start()?;
        self.wait()
    }

    /// Forgets every revision but the newest.
    pub fn compact(&self) -> Result<()> {
        let text = self.ctl(&["get", "none", "-w", "json"])?;
        let answer: Value = serde_json::from_str(&text)?;
        self.ctl(&["compaction", &answer["header"]["revision"].to_string()]).map(drop)
    }
}

impl Member {
    /// Its address for clients.
    pub fn endpoint(&self) -> String {
        format!("{}://{}:2379", self.scheme, address(self.number))
    }

    /// Starts it, with the state that it had.
    pub fn start(&mut self) -> Result<()> {
        let program = cache::unpacked("etcd", "usr/bin/etcd")?;
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(program);
        command.args(&self.args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(namespace::inside(&self.name, || command.spawn().context("start etcd"))?);
        Ok(())
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill().and_then(|()| child.wait()));
        }
    }

    /// Stops it with SIGSTOP: it accepts connections and does not answer.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Ends [`Member::pause`].
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().with_context(|| format!("{} does not run", self.name))?;
        kill(Pid::from_raw(child.id().try_into()?), signal).with_context(|| format!("signal {}", self.name))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
