//! Netlink messages (linux/netlink.h, `struct nlmsghdr`).

use std::io;

use rtnetlink::packet_core::Emitable;
use sys::Error;

use crate::attr::{Attrs, Malformed, Writer};

/// linux/netlink.h, message flags: a request.
pub const NLM_F_REQUEST: u16 = 0x01;
/// Request an acknowledgement.
pub const NLM_F_ACK: u16 = 0x04;
/// In an answer: the listed objects changed meanwhile.
pub const NLM_F_DUMP_INTR: u16 = 0x10;
/// Request a listing.
pub const NLM_F_DUMP: u16 = 0x300;
/// Replace an existing object.
pub const NLM_F_REPLACE: u16 = 0x100;
/// Fail if the object exists.
pub const NLM_F_EXCL: u16 = 0x200;
/// Add the object after its like.
pub const NLM_F_APPEND: u16 = 0x800;
/// Create the object if it does not exist.
pub const NLM_F_CREATE: u16 = 0x400;
/// NLMSG_ERROR only: the request's payload is not echoed.
const NLM_F_CAPPED: u16 = 0x100;
/// NLMSG_ERROR and NLMSG_DONE only: attributes follow.
const NLM_F_ACK_TLVS: u16 = 0x200;

/// linux/netlink.h, control messages: ignored.
pub const NLMSG_NOOP: u16 = 1;
/// An error, or an acknowledgement if its code is 0.
pub const NLMSG_ERROR: u16 = 2;
/// The end of a listing.
pub const NLMSG_DONE: u16 = 3;
/// Data was lost.
pub const NLMSG_OVERRUN: u16 = 4;

/// linux/netlink.h: the kernel's message, and the offset of the offending attribute in the request.
const NLMSGERR_ATTR_MSG: u16 = 1;
const NLMSGERR_ATTR_OFFS: u16 = 2;

/// Length of `struct nlmsghdr`: u32 length, u16 type, u16 flags, u32 sequence, u32 port.
const HEADER: usize = 16;

/// A request in progress.
#[derive(Clone, Debug)]
pub struct Request {
    kind: u16,
    flags: u16,
    /// Its attributes.
    pub attrs: Writer,
}

/// A message that was read.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Its type (`nlmsg_type`).
    pub kind: u16,
    /// Its flags (`NLM_F_*`).
    pub flags: u16,
    /// The sequence number of the request that it answers.
    pub sequence: u32,
    /// The bytes after the header.
    pub payload: &'a [u8],
}

/// The messages of one datagram.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

/// A refusal of the kernel: an errno and possibly a message.
#[derive(Debug)]
pub struct Refusal {
    /// The errno, or `InvalidData` for a malformed answer.
    pub source: io::Error,
    /// The extended acknowledgement's message.
    pub message: Option<String>,
}

impl Request {
    /// Creates a request of type `kind`; `fixed` is the family's header (`struct ifinfomsg`, …).
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut attrs = Writer::default();
        attrs.raw(&[0; HEADER]);
        attrs.raw(fixed);
        Self { kind, flags: flags | NLM_F_REQUEST, attrs }
    }

    /// A request of type `kind` with an rtnetlink message, which has the family's header and
    /// attributes.
    pub fn of(kind: u16, flags: u16, message: &dyn Emitable) -> Self {
        let mut request = Self::new(kind, flags, &[]);
        let length = message.buffer_len();
        // rtnetlink truncates an attribute's length to 16 bits, so the whole message is bounded.
        if u16::try_from(length).is_err() {
            request.attrs.fail("a message is longer than 65535 bytes");
            return request;
        }
        let mut bytes = vec![0; length];
        message.emit(&mut bytes);
        request.attrs.raw(&bytes);
        request
    }

    /// Checks a name in the message. A NUL inside is a fault: the kernel would see a shorter name.
    pub fn named(mut self, name: &str) -> Self {
        if name.contains('\0') {
            self.attrs.fail("a string contains a NUL");
        }
        self
    }

    /// Adds header flags.
    pub fn flag(&mut self, flags: u16) {
        self.flags |= flags;
    }

    /// Returns the whole message. The port stays 0: the kernel knows the socket.
    ///
    /// # Errors
    /// A part of it could not be represented.
    pub fn finish(self, sequence: u32) -> Result<Vec<u8>, Malformed> {
        let mut bytes = self.attrs.finish()?;
        let length = u32::try_from(bytes.len()).map_err(|_| Malformed("a message is longer than 4 GiB"))?;
        let header = [
            &length.to_ne_bytes()[..],
            &self.kind.to_ne_bytes(),
            &self.flags.to_ne_bytes(),
            &sequence.to_ne_bytes(),
            &[0; 4],
        ]
        .concat();
        for (to, from) in bytes.iter_mut().zip(header) {
            *to = from;
        }
        Ok(bytes)
    }
}

/// Sets a value on the builder, if there is one.
pub(crate) fn with<B, V>(builder: B, value: Option<V>, set: impl FnOnce(B, V) -> B) -> B {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

impl Refusal {
    /// Converts it to the error of an operation on an object.
    pub fn on(self, op: &'static str, object: impl Into<String>) -> Error {
        Error::Kernel { op, object: object.into(), message: self.message, source: self.source }
    }

    /// Whether it has this errno.
    pub fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }
}

impl<'a> Messages<'a> {
    /// Reads a datagram.
    pub fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = split(self.rest);
        self.rest = message.as_ref().map_or(&[], |(_, rest)| rest);
        Some(message.map(|(message, _)| message).ok_or(Malformed("a message's length is wrong")))
    }
}

fn split(bytes: &[u8]) -> Option<(Message<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (kind, rest) = rest.split_first_chunk()?;
    let (flags, rest) = rest.split_first_chunk()?;
    let (sequence, _) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    let message = Message {
        kind: u16::from_ne_bytes(*kind),
        flags: u16::from_ne_bytes(*flags),
        sequence: u32::from_ne_bytes(*sequence),
        payload: bytes.get(HEADER..length)?,
    };
    Some((message, bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or(&[])))
}

impl Message<'_> {
    /// The outcome in an NLMSG_ERROR or an NLMSG_DONE: 0 is an acknowledgement.
    ///
    /// # Errors
    /// The kernel's error, or the message is too short.
    pub fn outcome(&self) -> Result<(), Refusal> {
        let Some((code, rest)) = self.payload.split_first_chunk() else {
            // Linux sends NLMSG_DONE with a code, but netlink(7) does not guarantee it.
            return if self.kind == NLMSG_DONE {
                Ok(())
            } else {
                Err(Malformed("an error is too short").into())
            };
        };
        match i32::from_ne_bytes(*code) {
            0 => Ok(()),
            code => Err(Refusal {
                source: io::Error::from_raw_os_error(code.saturating_neg()),
                message: self.text(rest),
            }),
        }
    }

    /// The message of the extended acknowledgement.
    fn text(&self, rest: &[u8]) -> Option<String> {
        self.extended(rest)?.flatten().find(|attr| attr.kind == NLMSGERR_ATTR_MSG).map(|attr| attr.string())
    }

    /// The offset in the request of the attribute that an NLMSG_ERROR is about, if the kernel
    /// reports it.
    pub fn fault_offset(&self) -> Option<usize> {
        let attr = self.extended(self.payload.get(4..)?)?.flatten().find(|a| a.kind == NLMSGERR_ATTR_OFFS)?;
        usize::try_from(attr.u32().ok()?).ok()
    }

    /// The attributes after the code. In an NLMSG_ERROR the request's header precedes them, and its
    /// payload unless capped.
    fn extended<'a>(&self, rest: &'a [u8]) -> Option<Attrs<'a>> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let skip = match (self.kind, self.flags & NLM_F_CAPPED) {
            (NLMSG_DONE, _) => 0,
            (_, 0) => usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?,
            _ => HEADER,
        };
        rest.get(skip.checked_next_multiple_of(4)?..).map(Attrs::new)
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self { source, message: None }
    }
}

impl From<Malformed> for Refusal {
    fn from(malformed: Malformed) -> Self {
        io::Error::from(malformed).into()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_reader_never_panics(bytes in vec(any::<u8>(), 0..300)) {
            for message in Messages::new(&bytes).flatten() {
                let _ = message.outcome();
            }
        }

        #[test]
        fn a_refusal_of_any_bytes_is_read_without_panic(flags: u16, rest in vec(any::<u8>(), 0..100)) {
            for kind in [NLMSG_ERROR, NLMSG_DONE] {
                let message = Message { kind, flags, sequence: 1, payload: &rest };
                let _ = (message.outcome().is_ok(), message.fault_offset());
            }
        }
    }

    fn error(flags: u16, kind: u16, between: &[u8]) -> Vec<u8> {
        let mut request = Request::new(kind, 0, &(-17i32).to_ne_bytes());
        request.flags = flags;
        request.attrs.raw(between);
        request.attrs.string(NLMSGERR_ATTR_MSG, "name in use");
        request.finish(9).unwrap()
    }

    #[test]
    fn the_kernels_message_is_found_after_the_echoed_request() {
        let echo = Request::new(16, 0, &[0; 24]).finish(9).unwrap();
        let cases = [
            error(NLM_F_ACK_TLVS, NLMSG_ERROR, &echo),
            error(NLM_F_ACK_TLVS | NLM_F_CAPPED, NLMSG_ERROR, echo.get(..16).unwrap()),
            error(NLM_F_ACK_TLVS, NLMSG_DONE, &[]),
        ];
        for bytes in cases {
            let message = Messages::new(&bytes).next().unwrap().unwrap();
            assert_eq!(message.sequence, 9);
            let refusal = message.outcome().unwrap_err();
            assert_eq!(refusal.source.raw_os_error(), Some(libc::EEXIST));
            assert_eq!(refusal.message.as_deref(), Some("name in use"));
        }
    }

    #[test]
    fn without_the_flag_there_is_no_message() {
        let echo = Request::new(16, 0, &[]).finish(9).unwrap();
        let bytes = error(0, NLMSG_ERROR, &echo);
        let refusal = Messages::new(&bytes).next().unwrap().unwrap().outcome().unwrap_err();
        assert_eq!(refusal.message, None);
    }

    #[test]
    fn two_messages_in_a_datagram_are_two() {
        let one = Request::new(16, NLM_F_ACK, &[1; 5]).finish(1).unwrap();
        let two = Request::new(17, 0, &[2; 4]).finish(2).unwrap();
        let datagram = [one, two].concat();
        let read: Vec<_> = Messages::new(&datagram)
            .map(|m| m.map(|m| (m.kind, m.sequence, m.payload.len())).unwrap())
            .collect();
        assert_eq!(read, [(16, 1, 8), (17, 2, 4)]);
    }
}
