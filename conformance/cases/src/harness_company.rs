//! The harness's helpers for other users of the host work as documented. No suite takes part.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::need::Need;
use harness::room::Room;
use harness::world::World;
use harness::{frame, ip, socket};

pub const CASES: &[Case] = &[
    Case::new("harness/an_unprivileged_user_is_unprivileged", &["HA-1"], user).needs(&[Need::OtherUsers]),
    Case::new("harness/raw_frames_arrive_at_the_far_end", &["HA-2"], frames),
    Case::new("harness/namespaces_come_and_go_until_stopped", &["HA-3"], busy),
    Case::new("harness/a_room_can_become_another_machine", &["HA-4"], machine),
    Case::new("harness/the_hostile_world_locks_files_that_are_open_to_it", &["HA-5"], hostile)
        .needs(&[Need::OtherUsers]),
    Case::new("harness/the_odd_world_detects_what_an_administrator_loses", &["HA-6"], odd),
];

fn user(room: &Room) -> Result<()> {
    let own = room.write("root/closed", "")?;
    let locked = room.lock_as_user(&own)?.context("the user cannot lock a readable file")?;
    ensure!(!room.lock_is_free(&own)?, "the user's lock does not hold");
    drop(locked);
    ensure!(room.lock_is_free(&own)?, "the user's lock outlives the user's process");
    let locked = room.lock_as_root(&own)?.context("root cannot lock its own file")?;
    ensure!(!room.lock_is_free(&own)?, "root's lock does not hold");
    drop(locked);
    std::fs::set_permissions(&own, PermissionsExt::from_mode(0o600))?;
    ensure!(room.lock_as_user(&own)?.is_none(), "the user locks an unreadable file");
    let dir = room.users_directory()?;
    let done = room.as_user("/usr/bin/touch").arg(dir.join("his")).status()?;
    ensure!(done.success(), "the user cannot write to its own directory: {done}");
    let done = room.as_user("/bin/cat").arg(&own).output()?;
    ensure!(!done.status.success(), "the user reads a file of root's");
    Ok(())
}

fn frames(room: &Room) -> Result<()> {
    room.outside(&[])?;
    let (near, far) = (room.wire(None, "wan0")?, room.wire(Some("outside"), "eth0")?);
    let source = [2, 0, 0, 0, 0, 0x99];
    let ends = [("198.51.100.9".parse()?, 7), ("198.51.100.1".parse()?, 9)];
    for sent in [
        frame::lldp(0x0e, source),
        frame::arp(source, "198.51.100.9".parse()?),
        frame::router_advertisement(source, "2001:db8:bad::".parse()?, 1800),
        frame::tcp(near.mac, source, ends, frame::RST),
        frame::tcp(near.mac, source, ends, frame::SYN | frame::ACK),
    ] {
        far.send(&sent)?;
        let received = near.receive(Duration::from_secs(2), |received| received.starts_with(&sent))?;
        received.with_context(|| format!("a frame to {:02x?} is not received", &sent[..6]))?;
    }
    Ok(())
}

fn busy(room: &Room) -> Result<()> {
    let busy = room.busy_rtnl(2);
    let deadline = Instant::now() + socket::patience();
    while busy.made() <= 2 {
        let made = busy.made();
        ensure!(Instant::now() < deadline, "only {made} namespaces were created in {:?}", socket::patience());
        std::thread::sleep(Duration::from_millis(10));
    }
    ip::run(&["link", "show", "lo"])
}

fn machine(room: &Room) -> Result<()> {
    let ids = || -> Result<[String; 2]> {
        Ok([
            std::fs::read_to_string("/etc/machine-id")?,
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?,
        ])
    };
    let before = ids()?;
    room.become_machine(2)?;
    let after = ids()?;
    ensure!(before[0] != after[0] && before[1] != after[1], "before {before:?}, after {after:?}");
    Ok(())
}

fn hostile(room: &Room) -> Result<()> {
    let _world = World::Hostile.enter(room)?;
    let (open, closed) = ("/run/moor/open", "/run/moor/closed");
    std::fs::create_dir_all("/run/moor")?;
    for (path, mode) in [(open, 0o644), (closed, 0o600)] {
        std::fs::write(path, "")?;
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    }
    std::fs::set_permissions("/run/moor", PermissionsExt::from_mode(0o755))?;
    let deadline = Instant::now() + socket::patience();
    while room.lock_is_free(open.as_ref())? {
        ensure!(Instant::now() < deadline, "{open} is not locked within {:?}", socket::patience());
    }
    ensure!(room.lock_is_free(closed.as_ref())?, "{closed} is locked, and must not be");
    let mode = |path| Ok::<_, anyhow::Error>(std::fs::metadata(path)?.permissions().mode() & 0o777);
    let made = room.scratch("made");
    std::fs::write(&made, "")?;
    let (made, written) = (mode(made)?, mode(room.write("written", "")?)?);
    ensure!(made == 0o666, "with umask 0 a file has mode {made:o}");
    ensure!(written == 0o644, "a file that an administrator writes has mode {written:o}");
    Ok(())
}

fn odd(room: &Room) -> Result<()> {
    let world = World::Odd.enter(room)?;
    world.ensure_untouched()?;
    ip::run(&["addr", "del", "172.31.254.1/24", "dev", "zadmin"])?;
    ensure!(world.ensure_untouched().is_err(), "a lost address is not seen");
    Ok(())
}
