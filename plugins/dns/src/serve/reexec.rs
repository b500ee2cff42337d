//! Executes another version of this program, which inherits the sockets: it answers what waits
//! in them.
//!
//! The descriptors are sent over a socket pair, one end of which becomes standard input of the
//! successor. Nothing else survives the execve(2), and no descriptor is identified by its
//! number.

use std::ffi::CString;
use std::io::{self, IoSlice};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, setsockopt, socketpair, sockopt,
};
use nix::sys::stat::{SFlag, fstat};
use serde::{Deserialize, Serialize};

use super::args::Args;
use super::listeners::{Listener, Origin};
use crate::record::Key;
use crate::zone::Zone;

/// Items of one packet: two descriptors each, and the kernel takes 253 (net/scm.h, SCM_MAX_FD).
const ITEMS: usize = 100;
/// The longest packet: names of 255 bytes, in JSON.
const PACKET_MAX: usize = 128 << 10;
/// Send buffer of the socket pair, as far as the kernel allows it.
const QUEUE: usize = 8 << 20;

/// A container that has sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Container {
    network: String,
    key: Key,
}

/// The owners of a packet's descriptors, which come in pairs (UDP and TCP): a container, or
/// `None` for an address of the host. The first packet begins with the responder's lock, the
/// plugins' lock and the control socket.
type Items = Vec<Option<Container>>;

/// What the previous executable passed on.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    pub(super) lock: Option<OwnedFd>,
    pub(super) plugins_lock: Option<OwnedFd>,
    pub(super) control: Option<OwnedFd>,
    pub(super) gateways: Vec<(UdpSocket, TcpListener)>,
    pub(super) containers: Vec<(String, Key, UdpSocket, TcpListener)>,
}

impl Inherited {
    /// Receives the descriptors from standard input.
    ///
    /// # Errors
    /// Standard input is not such a socket.
    pub(super) fn take() -> io::Result<Self> {
        let stdin = io::stdin();
        let mut buffer = vec![0; PACKET_MAX];
        let mut inherited = Self::default();
        loop {
            let packet = sys::passing::receive(&stdin.as_fd(), &mut buffer)?;
            if packet.length == 0 {
                break;
            }
            let items: Items = serde_json::from_slice(&buffer[..packet.length])?;
            let mut descriptors = packet.descriptors.into_iter();
            let mut next = || descriptors.next().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
            if inherited.lock.is_none() {
                inherited.lock = Some(next()?);
                let second = next()?;
                // Releases in which the responder ran as root do not pass the
                // plugins' lock.
                if is_socket(&second)? {
                    inherited.control = Some(second);
                } else {
                    (inherited.plugins_lock, inherited.control) = (Some(second), Some(next()?));
                }
            }
            for item in items {
                let (udp, tcp) = (next()?.into(), next()?.into());
                match item {
                    None => inherited.gateways.push((udp, tcp)),
                    Some(Container { network, key }) => inherited.containers.push((network, key, udp, tcp)),
                }
            }
        }
        nix::unistd::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Ok(inherited)
    }
}

fn is_socket(descriptor: &OwnedFd) -> io::Result<bool> {
    let kind = SFlag::from_bits_truncate(fstat(descriptor)?.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFSOCK)
}

/// The descriptors that the successor inherits besides the listeners.
pub(super) struct KeptDescriptors<'a> {
    /// The responder's lock.
    pub(super) lock: BorrowedFd<'a>,
    /// The plugins' lock.
    pub(super) plugins_lock: BorrowedFd<'a>,
    /// The control socket.
    pub(super) control: BorrowedFd<'a>,
}

/// Executes the successor; returns only on failure.
pub(super) fn exec_successor<'a>(
    executable: &OwnedFd,
    args: &Args,
    kept: &KeptDescriptors<'_>,
    listeners: impl Iterator<Item = &'a Listener>,
    zone: &Zone,
) -> io::Error {
    let send_all = || -> io::Result<()> {
        let (write, read) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // The kernel may grant less. A packet that does not fit is an error below.
        let _ = setsockopt(&write, sockopt::SndBuf, &QUEUE);
        let mut items = Items::new();
        let mut numbers: Vec<RawFd> =
            [kept.lock, kept.plugins_lock, kept.control].map(|kept| kept.as_raw_fd()).into();
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
                send_batch(&write, &items, &numbers)?;
                items.clear();
                numbers.clear();
            }
        }
        if !numbers.is_empty() {
            send_batch(&write, &items, &numbers)?;
        }
        nix::unistd::dup2_stdin(read)?;
        Ok(())
    };
    if let Err(error) = send_all() {
        return error;
    }
    let grace = args.grace.as_secs().to_string();
    let arguments = ["dns", "serve", "--inherit", "--grace", &grace, "--place"].map(str::as_bytes);
    let arguments = arguments.into_iter().chain([args.state_dir.as_os_str().as_bytes()]).map(CString::new);
    let arguments: Vec<CString> = arguments.flatten().collect();
    // By descriptor: the directories of its path may be closed to this user.
    match nix::unistd::fexecve(executable, &arguments, &[] as &[CString]) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

fn send_batch(socket: &OwnedFd, items: &Items, numbers: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(items)?;
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let rights = [ControlMessage::ScmRights(numbers)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], &rights, flags, None)?;
    Ok(())
}
