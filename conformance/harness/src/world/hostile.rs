//! A host with attackers: an unprivileged local user locks every file that he can open, root's
//! umask is 0, and unsolicited frames come from every container.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;

use crate::frame::{self, Wire};
use crate::namespace;
use crate::room::Room;
use crate::room::company::Beside;

/// Longer than any room lasts.
const AT_MOST: Duration = Duration::from_secs(300);

/// The pause between two salvos.
const PAUSE: Duration = Duration::from_millis(20);

/// The user's program: locks everything that can be opened, and holds the locks.
const LOCKER: &str = r#"
while :; do
  find /run/moor /run/xtables.lock /var/lib/cni -readable 2>/dev/null | while read -r path; do
    mark=$(echo "$path" | tr / _)
    [ -e "$mark" ] && continue
    flock -n "$path" sh -c ': > "$0"; exec sleep 300' "$mark" 2>/dev/null &
  done
  sleep 0.02
done"#;

/// The attackers, who go on until this is dropped.
pub struct Hostiles {
    _user: Option<Beside>,
    over: Arc<AtomicBool>,
}

impl Drop for Hostiles {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

pub fn enter(room: &Room) -> Result<Hostiles> {
    // An unprivileged user's namespace has no second user.
    let user = if geteuid().is_root() {
        let dir = room.users_directory()?;
        let mut locker = room.as_user("/bin/sh");
        locker.args(["-c", LOCKER]).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null());
        Some(Beside::start(&mut locker)?)
    } else {
        None
    };
    umask(Mode::empty());
    let hostiles = Hostiles { _user: user, over: Arc::default() };
    let over = hostiles.over.clone();
    std::thread::spawn(move || containers(&over));
    Ok(hostiles)
}

/// Sends from each container with an `eth0`, again and again: router advertisements, LLDP to each
/// address that bridges do not forward, and claims to an unused address.
fn containers(over: &AtomicBool) {
    let deadline = Instant::now() + AT_MOST;
    let source = [0x02, 0, 0, 0xba, 0xd0, 0];
    let prefix = "2001:db8:bad::".parse().unwrap_or(std::net::Ipv6Addr::UNSPECIFIED);
    let mut salvo = vec![
        frame::router_advertisement(source, prefix, 1800),
        frame::arp(source, std::net::Ipv4Addr::new(192, 0, 2, 66)),
    ];
    salvo.extend([0x03, 0x0d, 0x0e, 0x0f].map(|last| frame::lldp(last, source)));
    while !over.load(Ordering::Relaxed) && Instant::now() < deadline {
        for container in namespace::containers() {
            // Opened anew each time: a socket keeps its namespace alive.
            if let Ok(wire) = Wire::from_within(&container, "eth0") {
                salvo.iter().map_while(|bytes| wire.send(bytes).ok()).count();
            }
        }
        std::thread::sleep(PAUSE);
    }
}
