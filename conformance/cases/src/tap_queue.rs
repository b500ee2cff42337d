//! The other end of a TAP device: a program that attaches to it as a virtual machine monitor does,
//! without CAP_NET_ADMIN.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::case::Case;
use harness::ip;
use harness::need::Need;
use harness::room::Room;
use harness::socket;
use harness::stage::lan::{add, until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use serde_json::json;
use sys::tap::{Device, Queue};

use crate::tap::tap;

const USERS: &[Need] = &[Need::Tap, Need::OtherUsers];

/// The cases.
pub const CASES: &[Case] = &[
    Case::new("tap/its_owner_attaches_and_no_other_user", &["TA-K4", "TA-4"], owner).needs(USERS),
    Case::new("tap/its_group_attaches_and_no_other", &["TA-K5"], group).needs(USERS),
    Case::new("tap/owner_and_group_are_both_required", &["TA-K4", "TA-K5"], both).needs(USERS),
    Case::new("tap/only_a_multi_queue_device_takes_two_queues", &["TA-K1"], queues).needs(USERS),
];

/// The user, the group and their neighbours; nobody on the machine has these ids.
const OWNER: u32 = 4107;
const OTHER: u32 = 4108;
/// An address of the container's network that the virtual machine has.
const GUEST: &str = "10.83.0.99";
const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// How long a virtual machine runs when its case does not end it.
const LIFE: Duration = Duration::from_secs(20);
/// struct virtio_net_hdr.
const VIRTIO_HEADER: usize = 10;
/// An Ethernet header and an ARP packet (RFC 826).
const ARP: usize = 42;

fn owner(room: &Room) -> Result<()> {
    let config = tap(&json!({"owner": OWNER}));
    let (container, _) = add(room, "tap", "c1", &config)?;
    let link = || ip::link(Some("c1"), "eth0")?.context("no eth0");
    let before = link()?;
    ensure!(flags(&before, "UP") && !flags(&before, "LOWER_UP"), "before: {before}");
    let refused = Guest::start(room, OTHER, OTHER, false)?;
    ensure!(refused.outcome == "refused: EPERM", "another user: {}", refused.outcome);
    drop(refused);
    for time in ["the owner", "the owner again"] {
        let guest = Guest::start(room, OWNER, OTHER, false)?;
        ensure!(guest.outcome == "attached", "{time}: {}", guest.outcome);
        until("the device has a carrier", || Ok(flags(&link()?, "LOWER_UP")))?;
        // The virtual machine answers ARP, so frames pass both ways.
        room.inside("c1", || {
            // It answers nothing else.
            let _ = socket::reach(GUEST.parse()?, Duration::from_millis(300));
            Ok(())
        })?;
        let neighbours = ip::rows(Some("c1"), &["neigh", "show", GUEST])?;
        ensure!(neighbours.iter().any(|row| row["lladdr"] == "02:00:00:00:00:99"), "{neighbours:?}");
        guest.end()?;
        until("the device stays, without a carrier", || Ok(!flags(&link()?, "LOWER_UP")))?;
    }
    room.attach("tap", "DEL", &container).config(&config).run()?.silent()
}

fn group(room: &Room) -> Result<()> {
    add(room, "tap", "c1", &tap(&json!({"group": OWNER})))?;
    for (uid, gid, outcome) in
        [(OTHER, OTHER, "refused: EPERM"), (OWNER, OTHER, "refused: EPERM"), (OTHER, OWNER, "attached")]
    {
        let guest = Guest::start(room, uid, gid, false)?;
        ensure!(guest.outcome == outcome, "user {uid}, group {gid}: {}", guest.outcome);
    }
    Ok(())
}

/// Some kernels of early 2025 ask for one of them (tun_capable, drivers/net/tun.c).
fn both(room: &Room) -> Result<()> {
    add(room, "tap", "c1", &tap(&json!({"owner": OWNER, "group": OWNER})))?;
    for (uid, gid, outcome) in [(OTHER, OTHER, "refused: EPERM"), (OWNER, OWNER, "attached")] {
        let guest = Guest::start(room, uid, gid, false)?;
        ensure!(guest.outcome == outcome, "user {uid}, group {gid}: {}", guest.outcome);
    }
    Ok(())
}

fn queues(room: &Room) -> Result<()> {
    for (id, multi_queue, outcome) in [("c1", true, "attached"), ("c2", false, "refused: EBUSY")] {
        let config = tap(&json!({"owner": OWNER, "multiQueue": multi_queue}));
        let container = room.container(id)?;
        room.attach("tap", "ADD", &container).config(&config).run()?.result()?;
        let first = Guest::start_in(room, id, OWNER, OWNER, multi_queue)?;
        let second = Guest::start_in(room, id, OWNER, OWNER, multi_queue)?;
        ensure!(first.outcome == "attached", "{}", first.outcome);
        ensure!(second.outcome == outcome, "multiQueue {multi_queue}: {}", second.outcome);
    }
    Ok(())
}

/// Whether a link has the flag.
fn flags(link: &serde_json::Value, flag: &str) -> bool {
    link["flags"].as_array().is_some_and(|flags| flags.iter().any(|is| is == flag))
}

/// A running virtual machine of a container.
struct Guest {
    child: Child,
    /// `attached`, or why not.
    outcome: String,
}

impl Guest {
    fn start(room: &Room, uid: u32, gid: u32, multi_queue: bool) -> Result<Self> {
        Self::start_in(room, "c1", uid, gid, multi_queue)
    }

    fn start_in(room: &Room, id: &str, uid: u32, gid: u32, multi_queue: bool) -> Result<Self> {
        let [uid, gid] = [uid, gid].map(|id| id.to_string());
        let mut child = room.inside(id, || {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["__queue", "eth0", &uid, &gid]).args(multi_queue.then_some("--multi-queue"));
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start a virtual machine")
        })?;
        let mut outcome = String::new();
        let stdout = child.stdout.take().context("no output")?;
        BufReader::new(stdout).read_line(&mut outcome)?;
        Ok(Self { child, outcome: outcome.trim_end().to_owned() })
    }

    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        ensure!(status.success(), "the virtual machine: {status}");
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// The hidden sub-command, in the container's network namespace: attaches to the device as that
/// user, prints the outcome, and answers ARP until its standard input is closed.
pub fn act(device: &str, uid: u32, gid: u32, multi_queue: bool) -> Result<bool> {
    // A container gets the device node from its runtime; here it may be root's alone.
    let queue = Queue::open()?;
    setgroups(&[]).context("leave all groups")?;
    setgid(Gid::from_raw(gid)).context("change the group")?;
    setuid(Uid::from_raw(uid)).context("change the user")?;
    if let Err(error) = queue.attach(Device { name: device, index: 0, multi_queue }) {
        println!("refused: {:?}", nix::errno::Errno::from_raw(error.errno().unwrap_or(0)));
        return Ok(true);
    }
    println!("attached");
    answer_arp(&mut queue.into())?;
    Ok(true)
}

fn answer_arp(queue: &mut File) -> Result<()> {
    let end = Instant::now() + LIFE;
    let mut frame = [0; 2048];
    while Instant::now() < end {
        let stdin = std::io::stdin();
        let mut waiting =
            [PollFd::new(queue.as_fd(), PollFlags::POLLIN), PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::from(500_u16))?;
        let has = |at: usize| waiting.get(at).is_some_and(|of| of.any().unwrap_or(false));
        let (has_frame, has_end) = (has(0), has(1));
        if has_end {
            return Ok(());
        }
        if !has_frame {
            continue;
        }
        let length = queue.read(&mut frame)?;
        if let Some(reply) = frame.get(..length).and_then(arp_reply) {
            queue.write_all(&reply)?;
        }
    }
    Ok(())
}

/// The reply to a request for any address but the sender's own.
fn arp_reply(frame: &[u8]) -> Option<Vec<u8>> {
    let arp = frame.get(VIRTIO_HEADER..VIRTIO_HEADER + ARP)?;
    let (mac, sender, target) = (arp.get(22..28)?, arp.get(28..32)?, arp.get(38..42)?);
    // Ethernet type, and operation.
    if arp.get(12..14)? != [8, 6] || arp.get(20..22)? != [0, 1] || sender == target {
        return None;
    }
    let head = arp.get(12..20)?;
    let reply: [&[u8]; 9] =
        [&[0; VIRTIO_HEADER], mac, &GUEST_MAC, head, &[0, 2], &GUEST_MAC, target, mac, sender];
    Some(reply.concat())
}
