//! Committing transactions, also on condition that nothing changed meanwhile.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use netlink::attr::{Attr, Attrs, Malformed};
use netlink::message::{Messages, NLM_F_ACK, NLMSG_ERROR, NLMSG_OVERRUN, Refusal, Request};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use sys::wait::{Attempts, PATIENCE};
use sys::{Error, Result};

use super::batch::{Batch, Part};
use super::uapi::*;
use super::{Committed, Nft, value};

/// What the send buffer always holds (net.core.wmem_default is 212,992 unless an administrator made
/// it smaller).
const SEND_BUFFER: usize = 64 * 1024;
/// The kernel's overhead in the send buffer, rounded up.
const SEND_OVERHEAD: usize = 4096;
/// Offsets in `struct nlmsghdr` of the flags and the sequence number.
const FLAGS: std::ops::Range<usize> = 6..8;
const SEQUENCE: std::ops::Range<usize> = 8..12;
const HEADER: usize = 16;

/// Whether a commit failed only because the rules changed after they were read (ERESTART): nothing
/// was changed.
pub fn is_stale(error: &Error) -> bool {
    error.errno() == Some(libc::ERESTART)
}

impl Nft {
    /// The generation of the rules in this network namespace, which every commit by any process
    /// changes.
    ///
    /// # Errors
    /// EOPNOTSUPP or EINVAL: the kernel lacks nf_tables. EPERM: CAP_NET_ADMIN is missing.
    pub fn generation(&self) -> Result<u32> {
        let request = Request::new(SUBSYSTEM | GETGEN, 0, &[0; NFGENMSG]);
        self.socket
            .get(request, |payload| {
                for attr in Attrs::after(payload, NFGENMSG)? {
                    let attr = attr?;
                    if attr.kind == NFTA_GEN_ID {
                        return Ok(attr.be32()?);
                    }
                }
                Err(io::Error::from(io::ErrorKind::InvalidData).into())
            })
            .map_err(|refusal| refusal.on("get the generation of", "nf_tables"))
    }

    /// Makes all changes, or none.
    ///
    /// # Errors
    /// Names the first change that the kernel refused, and its element if the kernel reports it.
    pub fn commit(&self, batch: Batch) -> Result<()> {
        self.send(batch, None)
    }

    /// Makes all changes, or none, if the generation is still this one.
    ///
    /// # Errors
    /// As [`Nft::commit`]; [`is_stale`] when the generation has changed.
    pub fn commit_at(&self, batch: Batch, generation: u32) -> Result<()> {
        self.send(batch, Some(generation))
    }

    /// Lets `decide` read the rules and fill a batch, and commits it if nobody committed anything
    /// meanwhile; otherwise retries, for at most ten seconds. An empty batch is not sent.
    ///
    /// # Errors
    /// Those of `decide` and of [`Nft::commit`]; [`is_stale`] when every attempt was overtaken.
    pub fn transact<T>(&self, mut decide: impl FnMut(&Self, &mut Batch) -> Result<T>) -> Result<T> {
        let mut attempts = Attempts::begin();
        loop {
            match self.attempt(&mut decide) {
                Err(error) if is_overtaken(&error) => {}
                done => return done,
            }
            if !attempts.again() {
                return Err(overtaken(attempts.failed));
            }
        }
    }

    fn attempt<T>(&self, decide: &mut impl FnMut(&Self, &mut Batch) -> Result<T>) -> Result<T> {
        let generation = self.generation()?;
        let mut batch = Batch::new();
        let value = decide(self, &mut batch)?;
        if !batch.is_empty() {
            self.commit_at(batch, generation)?;
        }
        Ok(value)
    }

    fn send(&self, mut batch: Batch, generation: Option<u32>) -> Result<()> {
        batch.check()?;
        if batch.parts.is_empty() {
            return Ok(());
        }
        let begin = self.socket.reserve(u32::try_from(batch.parts.len() + 2).unwrap_or(u32::MAX));
        let framed = frame(&mut batch, generation, begin)
            .map_err(|malformed| Error::new("write", "an nf_tables transaction", malformed))?;
        let sent = self.make_room(framed.len()).and_then(|()| self.socket.send(&framed));
        sent.map_err(|error| Error::new("send", "an nf_tables transaction", error))?;
        let outcome = self.outcome(&batch, begin);
        let done = match &outcome {
            Ok(()) if !batch.deletes => Committed::Additions,
            _ => Committed::Deletions,
        };
        self.committed.set(self.committed.get().max(done));
        outcome
    }

    /// A transaction is one datagram, so the send buffer must hold it.
    fn make_room(&self, length: usize) -> io::Result<()> {
        let needed = length + SEND_OVERHEAD;
        if needed <= SEND_BUFFER.max(self.send_buffer.get()) {
            return Ok(());
        }
        setsockopt(&self.socket, sockopt::SndBufForce, &needed)
            .or_else(|_| setsockopt(&self.socket, sockopt::SndBuf, &needed))?;
        self.send_buffer.set(needed);
        Ok(())
    }

    /// Reads the kernel's replies. They come in the order of the changes: refusals, and the
    /// acknowledgement that the last change requests. A refusal of the whole transaction (a stale
    /// generation, no permission) has the sequence number of its begin message, and the
    /// acknowledgement may then be missing.
    fn outcome(&self, batch: &Batch, begin: u32) -> Result<()> {
        let count = u32::try_from(batch.parts.len()).unwrap_or(u32::MAX);
        let whole = |refusal: Refusal| refusal.on("commit", "an nf_tables transaction");
        let mut failed = None;
        let mut buffer = Vec::new();
        let mut overflow = false;
        loop {
            match self.socket.receive(&mut buffer) {
                Ok(()) => {}
                // ENOBUFS: more refusals than the receive buffer holds. The kernel reports the
                // overflow first, then the refusals that did fit.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && !overflow => {
                    overflow = true;
                    continue;
                }
                Err(error) => return Err(failed.unwrap_or_else(|| whole(error.into()))),
            }
            for message in Messages::new(&buffer) {
                let message = message.map_err(|malformed| whole(malformed.into()))?;
                let index = message.sequence.wrapping_sub(begin);
                if !matches!(message.kind, NLMSG_ERROR | NLMSG_OVERRUN) || index > count {
                    continue;
                }
                let outcome = message.outcome();
                if index == 0 {
                    if let Err(refusal) = outcome {
                        return Err(failed.unwrap_or_else(|| whole(refusal)));
                    }
                    continue;
                }
                if let Err(refusal) = outcome {
                    let at = usize::try_from(index - 1).unwrap_or(usize::MAX);
                    failed.get_or_insert_with(|| describe(batch, at, message.fault_offset(), refusal));
                }
                if index == count {
                    return failed.map_or(Ok(()), Err);
                }
            }
            if overflow && let Some(failed) = failed.take() {
                self.drain();
                return Err(failed);
            }
        }
    }

    /// Discards what was received: a full buffer could not take the next answer.
    fn drain(&self) {
        let mut byte = [0];
        loop {
            match recv(self.socket.as_fd().as_raw_fd(), &mut byte, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether another process committed in between, or during a listing.
fn is_overtaken(error: &Error) -> bool {
    is_stale(error) || error.errno() == Some(libc::EINTR)
}

/// The kernel does not report who committed; only its event listeners learn that.
fn overtaken(attempts: u32) -> Error {
    let message = format!(
        "another process changed packet rules during each of {attempts} attempts in {} s: `nft monitor` names it; \
         stop it or have it pause, and try again",
        PATIENCE.as_secs()
    );
    let source = io::Error::from_raw_os_error(libc::ERESTART);
    Error::Kernel { op: "commit", object: "an nf_tables transaction".into(), message: Some(message), source }
}

/// The whole datagram: a begin message, the numbered changes, the last of which requests an
/// acknowledgement, and an end message.
fn frame(batch: &mut Batch, generation: Option<u32>, begin: u32) -> std::result::Result<Vec<u8>, Malformed> {
    // The `res_id` of both is the subsystem, big-endian.
    let fixed = [0, 0, 0, 10];
    let mut first = Request::new(NFNL_MSG_BATCH_BEGIN, 0, &fixed);
    if let Some(generation) = generation {
        first.attrs.be32(NFNL_BATCH_GENID, generation);
    }
    let mut bytes = first.finish(begin)?;
    bytes.reserve(batch.bytes.len() + HEADER + NFGENMSG);
    let offset = bytes.len();
    bytes.extend_from_slice(&batch.bytes);
    let mut start = offset;
    let mut sequence = begin;
    for part in &batch.parts {
        sequence = sequence.wrapping_add(1);
        let end = offset + part.end;
        let message = bytes.get_mut(start..end).unwrap_or_default();
        if let Some(field) = message.get_mut(SEQUENCE) {
            field.copy_from_slice(&sequence.to_ne_bytes());
        }
        if end == offset + batch.bytes.len()
            && let Some(flags) = message.get_mut(FLAGS).and_then(|flags| flags.first_chunk_mut())
        {
            *flags = (u16::from_ne_bytes(*flags) | NLM_F_ACK).to_ne_bytes();
        }
        start = end;
    }
    let last = Request::new(NFNL_MSG_BATCH_END, 0, &fixed).finish(sequence.wrapping_add(1))?;
    bytes.extend_from_slice(&last);
    Ok(bytes)
}

/// The error of the change at `index`; for elements, with the element that the kernel points at.
fn describe(batch: &Batch, index: usize, fault: Option<usize>, refusal: Refusal) -> Error {
    let Some(Part { end, op, object, key }) = batch.parts.get(index) else {
        return refusal.on("commit", "an nf_tables transaction");
    };
    let start = index.checked_sub(1).and_then(|before| batch.parts.get(before)).map_or(0, |part| part.end);
    let message = batch.bytes.get(start..*end).unwrap_or_default();
    let element = key.and_then(|key| offending_key(message, fault, key));
    match (element, *key) {
        (Some(element), _) => refusal.on(op, format!("element {element} of {object}")),
        (None, Some(_)) => refusal.on(op, format!("elements of {object}")),
        (None, None) => refusal.on(op, object.clone()),
    }
}

/// The key of the element that contains offset `fault` of a message, or of its only element.
fn offending_key(message: &[u8], fault: Option<usize>, key: &[value::Type]) -> Option<String> {
    let list = Attrs::after(message.get(HEADER..)?, NFGENMSG)
        .ok()?
        .flatten()
        .find(|attr| attr.kind == NFTA_SET_ELEM_LIST_ELEMENTS)?;
    let mut elements = list.nested().flatten();
    let first = elements.next()?;
    let element = match fault {
        None => elements.next().is_none().then_some(first)?,
        Some(fault) => std::iter::once(first).chain(elements).find(|attr| holds(message, *attr, fault))?,
    };
    let key_of = |kind| -> Option<String> {
        let data = element.nested().flatten().find(|attr| attr.kind == kind)?;
        let bytes = data.nested().flatten().find(|attr| attr.kind == NFTA_DATA_VALUE)?.payload;
        Some(value::show(key, bytes))
    };
    let first = key_of(NFTA_SET_ELEM_KEY)?;
    Some(match key_of(NFTA_SET_ELEM_KEY_END) {
        Some(last) if last != first => format!("{first} - {last}"),
        _ => first,
    })
}

/// Whether byte `offset` of a message is inside this attribute.
fn holds(message: &[u8], attr: Attr<'_>, offset: usize) -> bool {
    let start = attr.payload.as_ptr().addr().wrapping_sub(message.as_ptr().addr());
    (start.saturating_sub(4)..start + attr.payload.len()).contains(&offset)
}
