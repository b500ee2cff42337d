//! Becoming another executable, sockets and all: what waits in them is answered by the successor.
//!
//! The descriptors go through a socket pair whose reading end is the successor's standard input: nothing else
//! survives the exec, and nothing has to be told apart by numbers.

use std::io::{self, IoSlice};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair, sockopt,
};
use serde::{Deserialize, Serialize};

use super::args::Args;
use super::listeners::{Listener, Origin};
use crate::record::Key;
use crate::zone::Zone;

/// Items of one packet: at most two descriptors each, and the kernel takes 253 (net/scm.h, SCM_MAX_FD).
const ITEMS: usize = 100;
/// The longest packet: names of 255 bytes, and what JSON puts around them.
const PACKET_MAX: usize = 128 << 10;
/// Bytes that may wait in the pair, if the kernel allows.
const QUEUE: usize = 8 << 20;

/// A container whose sockets are left.
#[derive(Debug, Serialize, Deserialize)]
struct Container {
    network: String,
    key: Key,
}

/// What the descriptors of a packet are, two by two (UDP and TCP): those of a container, or of an address of the host.
/// Before the first of them all come the lock, held, and the control socket.
type Items = Vec<Option<Container>>;

/// What a former image leaves to this one.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    pub(super) lock: Option<OwnedFd>,
    pub(super) control: Option<OwnedFd>,
    pub(super) gateways: Vec<(UdpSocket, TcpListener)>,
    pub(super) containers: Vec<(String, Key, UdpSocket, TcpListener)>,
}

impl Legacy {
    /// Takes over what waits in standard input.
    ///
    /// # Errors
    /// Nobody left anything there.
    pub(super) fn take() -> io::Result<Self> {
        let stdin = io::stdin();
        let mut buffer = vec![0; PACKET_MAX];
        let mut legacy = Self::default();
        loop {
            let packet = host::passing::receive(&stdin.as_fd(), &mut buffer)?;
            if packet.length == 0 {
                break;
            }
            let items: Items = serde_json::from_slice(&buffer[..packet.length])?;
            let mut descriptors = packet.descriptors.into_iter();
            let mut next = || descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
            if legacy.lock.is_none() {
                (legacy.lock, legacy.control) = (Some(next()?), Some(next()?));
            }
            for item in items {
                let (udp, tcp) = (next()?.into(), next()?.into());
                match item {
                    None => legacy.gateways.push((udp, tcp)),
                    Some(Container { network, key }) => legacy.containers.push((network, key, udp, tcp)),
                }
            }
        }
        nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(legacy)
    }
}

/// Becomes the executable at `path`; comes back only if that failed.
pub(super) fn become_it<'a>(
    path: &Path,
    args: &Args,
    lock: &impl AsFd,
    control: &impl AsFd,
    listeners: impl Iterator<Item = &'a Listener>,
    zone: &Zone,
) -> io::Error {
    let left = || -> io::Result<()> {
        let (write, read) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // It may be given less; a packet that does not fit is an error below.
        let _ = setsockopt(&write, sockopt::SndBuf, &QUEUE);
        let mut items = Items::new();
        let mut numbers: Vec<RawFd> = vec![lock.as_fd().as_raw_fd(), control.as_fd().as_raw_fd()];
        for listener in listeners {
            items.push(match &listener.origin {
                Origin::Gateway(..) => None,
                Origin::Container(slot, key) => match zone.network(*slot) {
                    Some(network) => {
                        Some(Container { network: network.record().name.clone(), key: key.clone() })
                    }
                    None => continue,
                },
            });
            numbers.extend([listener.udp.as_raw_fd(), listener.tcp.as_raw_fd()]);
            if items.len() == ITEMS {
                leave(&write, &items, &numbers)?;
                items.clear();
                numbers.clear();
            }
        }
        if !numbers.is_empty() {
            leave(&write, &items, &numbers)?;
        }
        nix::unistd::dup2_stdin(read)?;
        Ok(())
    };
    if let Err(error) = left() {
        return error;
    }
    let mut command = Command::new(path);
    command.arg0("dns").arg("serve").arg("--place").arg(&args.place).arg("--inherit");
    command.arg("--grace").arg(args.grace.as_secs().to_string());
    command.exec()
}

fn leave(socket: &OwnedFd, items: &Items, numbers: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(items)?;
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let rights = [ControlMessage::ScmRights(numbers)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, flags, None)?;
    Ok(())
}
