//! The daemons of `dhcp` on the room's host, started by hand as the reference's has to be.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::START;
use crate::patience::on_this_machine;
use crate::room::Room;

/// Where a daemon listens.
const SOCKET: &str = "/run/cni/dhcp.sock";

/// The reference's daemon. It is killed when dropped, and its socket removed.
pub struct ReferenceDaemon(#[expect(dead_code, reason = "its drop ends the daemon")] Daemon);

impl ReferenceDaemon {
    /// Its socket.
    pub const SOCKET: &'static str = SOCKET;

    /// Starts it; returns when it listens.
    pub fn start(room: &Room) -> Result<Self> {
        Self::start_at(room, SOCKET)
    }

    /// The same at another socket.
    pub fn start_at(room: &Room, socket: &str) -> Result<Self> {
        Daemon::start(&room.reference, socket, &["-socketpath", socket]).map(Self)
    }
}

/// The daemon of the suite under test. It is killed when dropped, and its socket removed.
pub struct SuiteDaemon(#[expect(dead_code, reason = "its drop ends the daemon")] Daemon);

impl SuiteDaemon {
    /// Starts it with these flags of the reference's; returns when it listens.
    pub fn start(room: &Room, flags: &[&str]) -> Result<Self> {
        Daemon::start(&room.suite, SOCKET, flags).map(Self)
    }
}

struct Daemon {
    child: Child,
    socket: String,
}

impl Daemon {
    fn start(suite: &Path, socket: &str, flags: &[&str]) -> Result<Self> {
        let mut command = Command::new(suite.join("dhcp"));
        command.arg("daemon").args(flags);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut daemon = Self { child, socket: socket.to_owned() };
        let deadline = Instant::now() + on_this_machine(START);
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = daemon.child.try_wait()? {
                bail!("{command:?} ended: {status}");
            }
            ensure!(Instant::now() < deadline, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
        let _ = fs::remove_file(&self.socket);
    }
}
