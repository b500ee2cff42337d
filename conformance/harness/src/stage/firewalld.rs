//! firewalld on the room's host, with a system bus of its own, and a bus that misbehaves.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cache::unpacked;
use crate::ip;
use crate::patience::on_this_machine;
use crate::room::Room;

/// Where the system bus listens.
const SOCKET: &str = "/run/dbus/system_bus_socket";
/// How long a program needs to start.
const START: Duration = Duration::from_secs(10);
const NAME: &str = "org.fedoraproject.FirewallD1";

/// A bus that lets every user do everything.
const BUS: &str = r#"<busconfig>
<type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>"#;

/// firewalld and its bus. Both are killed when dropped.
pub struct Firewalld {
    bus: Child,
    daemon: Child,
}

impl Firewalld {
    /// Starts both; returns when firewalld has its name.
    pub fn start(room: &Room) -> Result<Self> {
        let bus = Self::start_bus(room)?;
        let root = unpacked("firewalld", "usr/sbin/firewalld")?;
        let root = root.ancestors().nth(3).context("the cache is a directory")?;
        let mut command = Command::new("/usr/bin/python3");
        command.arg(root.join("usr/sbin/firewalld")).args(["--nofork", "--nopid", "--log-target=file"]);
        command.arg(format!("--log-file={}", room.scratch("firewalld.log").display()));
        command.arg("--default-config").arg(root.join("usr/lib/firewalld"));
        command.arg("--system-config").arg(room.scratch("firewalld"));
        command.env("PYTHONPATH", root.join("usr/lib/python3/dist-packages"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        fs::create_dir_all(room.scratch("firewalld"))?;
        fs::copy(root.join("etc/firewalld/firewalld.conf"), room.scratch("firewalld/firewalld.conf"))?;
        let daemon = quiet(&mut command)?;
        let mut firewalld = Self { bus, daemon };
        let deadline = Instant::now() + on_this_machine(START);
        while firewalld.sources("trusted").is_err() {
            if let Some(status) = firewalld.daemon.try_wait()? {
                let log = fs::read_to_string(room.scratch("firewalld.log")).unwrap_or_default();
                bail!("firewalld ended: {status}: {log}");
            }
            ensure!(Instant::now() < deadline, "firewalld does not answer");
            thread::sleep(Duration::from_millis(20));
        }
        Ok(firewalld)
    }

    fn start_bus(room: &Room) -> Result<Child> {
        fs::create_dir_all("/run/dbus")?;
        let config = room.write("bus.conf", BUS)?;
        let mut command = Command::new("dbus-daemon");
        command.arg("--config-file").arg(config).args(["--nofork", "--nopidfile"]);
        let bus = quiet(&mut command)?;
        let deadline = Instant::now() + on_this_machine(START);
        while UnixStream::connect(SOCKET).is_err() {
            ensure!(Instant::now() < deadline, "{command:?} does not listen");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(bus)
    }

    /// Calls a method with strings; the words of its answer.
    pub fn call(&self, interface: &str, member: &str, arguments: &[&str]) -> Result<Vec<String>> {
        let dot = if interface.is_empty() { "" } else { "." };
        let member = format!("{NAME}{dot}{interface}.{member}");
        let mut words = vec!["--system".to_owned(), "--print-reply=literal".to_owned()];
        words.extend([format!("--dest={NAME}"), "/org/fedoraproject/FirewallD1".to_owned(), member]);
        words.extend(arguments.iter().map(|argument| format!("string:{argument}")));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let printed = ip::output("dbus-send", &words)?;
        let words = printed.split_whitespace().filter(|word| !matches!(*word, "array" | "[" | "]"));
        Ok(words.map(str::to_owned).collect())
    }

    /// The sources of a zone, sorted.
    pub fn sources(&self, zone: &str) -> Result<Vec<String>> {
        let mut sources = self.call("zone", "getSources", &[zone])?;
        sources.sort();
        Ok(sources)
    }

    /// Stops it, so that it does not answer, or lets it go on.
    pub fn stop(&self, stop: bool) -> Result<()> {
        let pid = Pid::from_raw(self.daemon.id().try_into()?);
        Ok(kill(pid, if stop { Signal::SIGSTOP } else { Signal::SIGCONT })?)
    }

    /// Ends it, and leaves its bus.
    pub fn end(&mut self) -> Result<()> {
        self.daemon.kill()?;
        self.daemon.wait()?;
        Ok(())
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.bus] {
            let _ = child.kill().and_then(|()| child.wait());
        }
        let _ = fs::remove_file(SOCKET);
    }
}

fn quiet(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("start {command:?}"))
}

/// A bus at a socket of its own: it accepts any user, answers each of the first messages with the
/// next of these bytes, and is silent afterwards. Its threads end with the case.
pub fn odd_bus(path: &Path, answers: Vec<Vec<u8>>) -> Result<()> {
    let listener = UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = answers.clone();
            thread::spawn(move || serve(stream, &answers));
        }
    });
    Ok(())
}

fn serve(mut stream: UnixStream, answers: &[Vec<u8>]) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    if stream.read(&mut buffer)? > 0 {
        stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n")?;
    }
    let mut begin = [0; 7];
    stream.read_exact(&mut begin)?;
    for answer in answers {
        if stream.read(&mut buffer)? == 0 {
            return Ok(());
        }
        stream.write_all(answer)?;
    }
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}
