//! dns: processes of uid 0 that share the host's network namespace but not its files, as root
//! in a container on the host's network does. Abstract socket names belong to the network
//! namespace (unix(7)), so they are reachable from there.

use std::fs::{self, File};
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use harness::case::Case;
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, Named, expect, kill_responder, responder_pid, until};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, bind, connect, listen,
    sendmsg, socket,
};
use serde_json::{Value, json};

/// The cases of this file.
pub const CASES: &[Case] = &[Case::new(
    "dns/a_container_on_the_hosts_network_cannot_pose_as_plugin_or_responder",
    &["D-055"],
    strangers,
)];

/// How long a stranger waits for the peer, in milliseconds.
const TIMEOUT_MS: u16 = 2000;

fn strangers(room: &Room) -> Result<()> {
    let named = Named::add(room, "c1", "web", json!({}))?;
    let pid = responder_pid()?;
    let name = responders_name().context("no responder listens at an abstract name")?;
    let asked = start(Stranger::Asks, &name)?.wait_with_output()?;
    let asked = String::from_utf8_lossy(&asked.stdout).into_owned();
    let expected =
        "hello: no answer\nreexec: no answer\nsync: no answer\nrecords: refused\nsettle: refused\n";
    ensure!(asked == expected, "a stranger got answers of the responder:\n{asked}");
    ensure!(responder_pid()? == pid, "the responder was replaced");
    expect(room, Some("c1"), GATEWAYS[0], "web", &[&named.address(false)])?;
    named.verb(room, "CHECK")?.silent()?;
    named.del(room)?;
    kill_responder()?;
    fs::remove_dir_all("/run/moor")?;
    let mut listener = start(Stranger::Listens, &name)?;
    until(Duration::from_secs(5), "the stranger listens", || responders_name().is_some())?;
    let added = Named::add(room, "c2", "db", json!({}));
    let served = added.and_then(|named| {
        expect(room, Some("c2"), GATEWAYS[0], "db", &[&named.address(false)])?;
        named.del(room)
    });
    listener.kill()?;
    let received = listener.wait_with_output()?.stdout;
    ensure!(received.is_empty(), "a stranger received {}", String::from_utf8_lossy(&received));
    served
}

/// The abstract name of a responder in this network namespace.
pub fn responders_name() -> Option<String> {
    let sockets = fs::read_to_string("/proc/net/unix").ok()?;
    sockets.lines().find_map(|line| Some(format!("moor-dns {}", line.split_once("@moor-dns ")?.1)))
}

/// What a stranger does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Stranger {
    /// Sends requests to that name, and prints the responses.
    Asks,
    /// Listens at that name, and prints the number of descriptors in each packet.
    Listens,
}

fn start(stranger: Stranger, name: &str) -> Result<Child> {
    let stranger = stranger.to_possible_value().context("no such stranger")?;
    Command::new("unshare")
        .arg("--mount")
        .arg(std::env::current_exe()?)
        .args(["__stranger", stranger.get_name(), name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start a stranger")
}

/// The hidden sub-command, in its own mount namespace.
pub fn act(stranger: Stranger, name: &str) -> Result<bool> {
    let address = UnixAddr::new_abstract(name.as_bytes())?;
    match stranger {
        Stranger::Asks => ask(&address)?,
        Stranger::Listens => receive(&address)?,
    }
    Ok(true)
}

/// Root in a container has a directory owned by root, on a filesystem of the container.
fn ask(address: &UnixAddr) -> Result<()> {
    nix::mount::mount(Some("tmpfs"), "/run", Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)?;
    fs::create_dir("/run/net")?;
    let [list, lock] = ["/run/list", "/run/lock"].map(File::create_new);
    let [list, lock, dir] = [list?, lock?, File::open("/run/net")?];
    let asks: [(Value, &[BorrowedFd<'_>]); 5] = [
        (json!({"ask": "hello"}), &[]),
        (json!({"ask": "reexec", "path": "/bin/true"}), &[]),
        (json!({"ask": "sync", "network": "net"}), &[]),
        (json!({"ask": "records"}), &[list.as_fd()]),
        (json!({"ask": "settle"}), &[dir.as_fd(), lock.as_fd()]),
    ];
    for (packet, descriptors) in asks {
        let socket = open()?;
        connect(socket.as_raw_fd(), address)?;
        send(&socket, packet.to_string().as_bytes(), descriptors)?;
        let answer = self::packet(&socket)?.map(|answer| serde_json::from_slice::<Value>(&answer.bytes));
        let outcome = match answer.transpose()? {
            None => "no answer",
            Some(answer) if answer["error"].is_string() => "refused",
            Some(_) => "obeyed",
        };
        println!("{}: {outcome}", packet["ask"].as_str().unwrap_or_default());
    }
    ensure!(list.metadata()?.len() == 0, "the records were written");
    Ok(())
}

/// Listens until this process is killed, or for a minute.
fn receive(address: &UnixAddr) -> Result<()> {
    let socket = open()?;
    bind(socket.as_raw_fd(), address)?;
    listen(&socket, Backlog::new(8)?)?;
    let listener = UnixListener::from(socket);
    while is_readable(&listener, 60_000)? {
        let connection = OwnedFd::from(listener.accept()?.0);
        if let Some(packet) = packet(&connection)? {
            println!("{} descriptors with {}", packet.descriptors, String::from_utf8_lossy(&packet.bytes));
        }
    }
    Ok(())
}

struct Packet {
    bytes: Vec<u8>,
    descriptors: usize,
}

/// The next packet, unless the peer closes the connection or is silent.
fn packet(socket: &OwnedFd) -> Result<Option<Packet>> {
    if !is_readable(socket, TIMEOUT_MS)? {
        return Ok(None);
    }
    let mut buffer = [0; 4096];
    match sys::passing::receive(socket, &mut buffer) {
        Ok(received) if received.length > 0 => Ok(Some(Packet {
            bytes: buffer.get(..received.length).unwrap_or_default().to_vec(),
            descriptors: received.descriptors.len(),
        })),
        // Closed with the request unread.
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_readable(socket: &impl AsFd, timeout_ms: u16) -> nix::Result<bool> {
    let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    Ok(poll(&mut waiting, PollTimeout::from(timeout_ms))? > 0)
}

/// A socket of the same type as the responder's.
pub fn open() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)
}

/// Sends a packet with descriptors.
pub fn send(socket: &OwnedFd, packet: &[u8], descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let descriptors: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let control = if descriptors.is_empty() { &[][..] } else { &rights };
    let packet = [IoSlice::new(packet)];
    sendmsg::<()>(socket.as_raw_fd(), &packet, control, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}
