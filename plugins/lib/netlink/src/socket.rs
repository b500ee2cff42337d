//! A netlink socket: requests are answered in order, by sequence number, within a time limit.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::SocketAddr;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};
use sys::wait::{Attempts, PATIENCE};

use crate::message::{
    Message, Messages, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP,
    NLMSG_OVERRUN, Refusal, Request,
};

/// The kernel answers a request inside `send`; this only prevents waiting for ever.
const ANSWER_TIMEOUT_S: i64 = 10;
/// The kernel fills a listing's datagrams to at most 32 KiB (netlink_dump,
/// net/netlink/af_netlink.c); the description of one object, without what we do not request
/// (virtual functions), is far shorter. So the length is not peeked first.
const LONGEST_DATAGRAM: usize = 32 * 1024;

/// A netlink socket of any family.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: Cell<u32>,
}

impl Socket {
    /// Opens a socket of a `NETLINK_*` protocol in the thread's network namespace, with extended
    /// acknowledgements and strict checking (the kernel then filters listings, and refuses unknown
    /// attributes).
    ///
    /// # Errors
    /// The kernel lacks the protocol, or no descriptor is left.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let socket = netlink_sys::Socket::new(protocol)?;
        socket.set_ext_ack(true)?;
        // A refusal need not repeat the request: many refusals must fit the receive buffer.
        socket.set_cap_ack(true)?;
        socket.set_netlink_get_strict_chk(true)?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(ANSWER_TIMEOUT_S))?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// Opens a socket that only receives events; `groups` has bit n-1 for multicast group n.
    ///
    /// # Errors
    /// The kernel lacks the protocol, or no descriptor is left.
    pub fn listen(protocol: isize, groups: u32) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket, sequence: Cell::new(0) })
    }

    /// Requests a change, and waits for the kernel's acknowledgement.
    ///
    /// # Errors
    /// The kernel refused, or did not answer in time.
    pub fn change(&self, mut request: Request) -> Result<(), Refusal> {
        request.flag(NLM_F_ACK);
        self.exchange(request, false, |_| Ok(())).map(|_| ())
    }

    /// Requests one object. `read` gets the answer's payload.
    ///
    /// # Errors
    /// The kernel refused, or did not answer in time, or `read` failed.
    pub fn get<T>(
        &self,
        request: Request,
        mut read: impl FnMut(&[u8]) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut answer = None;
        self.exchange(request, true, |message| {
            answer = Some(read(message.payload));
            Ok(())
        })?;
        answer.unwrap_or_else(|| Err(invalid("the kernel acknowledged a request without answering it")))
    }

    /// Requests one object that may not exist: where the kernel then sends nothing, an
    /// acknowledgement is requested too.
    ///
    /// # Errors
    /// The kernel refused, or did not answer in time, or `read` failed.
    pub fn get_if_any<T>(
        &self,
        mut request: Request,
        mut read: impl FnMut(&[u8]) -> Result<T, Refusal>,
    ) -> Result<Option<T>, Refusal> {
        request.flag(NLM_F_ACK);
        let mut answer = None;
        self.exchange(request, false, |message| {
            answer = Some(read(message.payload)?);
            Ok(())
        })?;
        Ok(answer)
    }

    /// Requests a listing. `read` gets every payload and selects from it. A listing that changed
    /// meanwhile (NLM_F_DUMP_INTR) is repeated, for at most ten seconds.
    ///
    /// # Errors
    /// The kernel refused, or did not answer in time, or `read` failed, or the listing changed
    /// every time.
    pub fn dump<T>(
        &self,
        mut request: Request,
        mut read: impl FnMut(&[u8], &mut Vec<T>) -> Result<(), Refusal>,
    ) -> Result<Vec<T>, Refusal> {
        request.flag(NLM_F_DUMP);
        let mut attempts = Attempts::begin();
        loop {
            let mut all = Vec::new();
            let flags = self.exchange(request.clone(), false, |message| read(message.payload, &mut all))?;
            if flags & NLM_F_DUMP_INTR == 0 {
                return Ok(all);
            }
            if !attempts.again() {
                return Err(Refusal {
                    source: io::Error::from_raw_os_error(libc::EINTR),
                    message: Some(format!(
                        "the listed objects changed during each of {} attempts in {} s",
                        attempts.failed,
                        PATIENCE.as_secs()
                    )),
                });
            }
        }
    }

    /// Sends a request and reads its answer to the end, which is the first message if a `single`
    /// one is expected; returns the flags of all its messages combined. A listing is read to its
    /// end even after a fault, as the next one on this socket would otherwise fail with EBUSY.
    fn exchange(
        &self,
        request: Request,
        single: bool,
        mut each: impl FnMut(&Message<'_>) -> Result<(), Refusal>,
    ) -> Result<u16, Refusal> {
        let sequence = self.sequence.get().wrapping_add(1);
        self.sequence.set(sequence);
        self.send(&request.finish(sequence)?)?;

        let mut flags = 0;
        let mut fault = Ok(());
        let mut buffer = Vec::new();
        let outcome = loop {
            if let Err(error) = self.receive(&mut buffer) {
                break Err(unanswered(error).into());
            }
            let done = Messages::new(&buffer).find_map(|message| {
                let message = match message {
                    Ok(message) => message,
                    Err(malformed) => return Some(Err(malformed.into())),
                };
                // A late answer to an earlier request that timed out.
                if message.sequence != sequence {
                    return None;
                }
                flags |= message.flags;
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE => return Some(message.outcome()),
                    NLMSG_NOOP => return None,
                    NLMSG_OVERRUN => return Some(Err(invalid("data was lost"))),
                    _ if fault.is_ok() => fault = each(&message),
                    _ => {}
                }
                single.then_some(Ok(()))
            });
            if let Some(outcome) = done {
                break outcome;
            }
        };
        outcome.and(fault).map(|()| flags)
    }

    /// Reserves `count` sequence numbers and returns the first.
    pub fn reserve(&self, count: u32) -> u32 {
        let first = self.sequence.get().wrapping_add(1);
        self.sequence.set(self.sequence.get().wrapping_add(count));
        first
    }

    /// Sends to the kernel.
    ///
    /// # Errors
    /// The kernel does not accept it.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        retried(|| self.socket.send(bytes, 0)).map(|_| ())
    }

    /// Receives one whole datagram from the kernel into `buffer`.
    ///
    /// # Errors
    /// Nothing came in time (or is pending, on an event socket), or it is too long.
    pub fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        loop {
            buffer.clear();
            buffer.reserve(LONGEST_DATAGRAM);
            let (length, from) = retried(|| self.socket.recv_from(buffer, libc::MSG_TRUNC))?;
            if length > buffer.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is too long"));
            }
            // Port 0 is the kernel; datagrams of other senders are ignored.
            if from.port_number() == 0 {
                return Ok(());
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// The meaning of SO_RCVTIMEO's EAGAIN.
fn unanswered(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock {
        io::Error::new(
            io::ErrorKind::TimedOut,
            format!("the kernel did not answer in {ANSWER_TIMEOUT_S} seconds"),
        )
    } else {
        error
    }
}

fn invalid(what: &'static str) -> Refusal {
    io::Error::new(io::ErrorKind::InvalidData, what).into()
}
